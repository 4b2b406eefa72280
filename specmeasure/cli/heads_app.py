"""`specmeasure heads`: what Medusa heads know, and which tree of their drafts to run."""

from pathlib import Path
from typing import Annotated

import typer

from specmeasure.cli import options as opt
from specmeasure.cli.heads_train import train

HEADS = "Heads"

ProfileFolder = Annotated[
    Path, typer.Argument(help="A folder that heads profile wrote.", show_default=False)
]
Nodes = Annotated[
    str,
    typer.Option("--nodes", help="Sizes of trees, rising.", rich_help_panel=HEADS),
]
WhichHeads = Annotated[
    str | None,
    typer.Option(
        "--medusa", help="The heads, where the profile has several.", rich_help_panel=HEADS
    ),
]
RunTrees = Annotated[
    bool,
    typer.Option(
        "--confirm",
        help="Run the best tree, the best chain and the target alone for real on the same prompts.",
        rich_help_panel=HEADS,
    ),
]
WriteTree = Annotated[
    Path | None,
    typer.Option(
        "--write", help="Also write the best tree here, for --tree.", rich_help_panel=HEADS
    ),
]

heads = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Medusa heads: profile them on your prompts, find the tree to draft, train them.",
)


@heads.command()
def profile(
    context: typer.Context,
    prompts: opt.Prompts = None,
    target: opt.Target = None,
    medusa: opt.Medusa = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    attn: opt.Attn = None,
    threads: opt.Threads = None,
    device_map: opt.DeviceMap = None,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    max_new_tokens: opt.MaxNewTokens = 128,
    temperature: opt.Temperature = 0.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    ignore_eos: opt.IgnoreEos = False,
    row_sampling: opt.AskedSampling = True,
    draft_sampling: opt.DraftSampling = "probabilistic",
    field: opt.Field = None,
    response_field: opt.ResponseField = None,
    category_field: opt.CategoryField = None,
    slice_by: opt.SliceBy = None,
    format: opt.Format = "auto",  # noqa: A002 - the option's name
    text_split: opt.TextSplit = "auto",
    chat: opt.Chat = "auto",
    limit: opt.Limit = None,
    skip_bad_lines: opt.SkipBadLines = False,
    responses: opt.Responses = False,
    out: opt.Out = None,
    resume: opt.Resume = None,
    force: opt.Force = False,
    batch_size: opt.BatchSize = 16,
    seed: opt.Seed = 0,
    include_text: opt.IncludeText = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Say how often each head is right on your prompts, what heads weigh and take: one pass."""
    from specmeasure.cli import heads as bodies

    bodies.profile(context)


@heads.command()
def tree(
    context: typer.Context,
    folder: ProfileFolder,
    nodes: Nodes = "8,16,32,64",
    medusa: WhichHeads = None,
    confirm: RunTrees = False,
    write: WriteTree = None,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Find the best trees for a profile's prompts; --confirm runs the best one for real."""
    from specmeasure.cli import heads as bodies

    bodies.tree(context, folder)


heads.command()(train)
