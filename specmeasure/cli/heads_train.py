"""`specmeasure heads train`: its options."""

from typing import Annotated

import typer

from specmeasure.cli import options as opt
from specmeasure.records.heads_training import HeadSettings

HEADS = "Heads"
_DEFAULTS = HeadSettings()

NumHeads = Annotated[
    int, typer.Option("--num-heads", min=1, help="Heads to train.", rich_help_panel=HEADS)
]
NumLayers = Annotated[
    int,
    typer.Option(
        "--num-layers", min=0, help="Residual blocks of each head.", rich_help_panel=HEADS
    ),
]
Epochs = Annotated[
    int,
    typer.Option("--epochs", min=1, help="How often every answer is read.", rich_help_panel=HEADS),
]
LearningRate = Annotated[
    float,
    typer.Option("--learning-rate", help="AdamW's, at its peak.", rich_help_panel=HEADS),
]
AnswersPerStep = Annotated[
    int,
    typer.Option("--answers-per-step", min=1, help="Answers of a step.", rich_help_panel=HEADS),
]
HeldOut = Annotated[
    float,
    typer.Option(
        "--held-out",
        help="Share of the prompts that heads are checked on and never learn from.",
        rich_help_panel=HEADS,
    ),
]
LearnPrompts = Annotated[
    bool,
    typer.Option(
        "--learn-prompts", help="Learn the prompts' own tokens, too.", rich_help_panel=HEADS
    ),
]
RecordedResponses = Annotated[
    bool,
    typer.Option(
        "--responses",
        help="Learn from the recorded responses, not from answers that the target gives now.",
        rich_help_panel=opt.CORPUS,
    ),
]


def train(
    context: typer.Context,
    prompts: opt.Prompts = None,
    target: opt.Target = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    attn: opt.Attn = None,
    threads: opt.Threads = None,
    device_map: opt.DeviceMap = None,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    num_heads: NumHeads = _DEFAULTS.num_heads,
    num_layers: NumLayers = _DEFAULTS.num_layers,
    epochs: Epochs = _DEFAULTS.num_epochs,
    learning_rate: LearningRate = _DEFAULTS.learning_rate,
    answers_per_step: AnswersPerStep = _DEFAULTS.batch_size,
    held_out: HeldOut = _DEFAULTS.held_out_share,
    learn_prompts: LearnPrompts = False,
    max_new_tokens: opt.MaxNewTokens = 128,
    temperature: opt.Temperature = 0.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    ignore_eos: opt.IgnoreEos = False,
    row_sampling: opt.AskedSampling = True,
    field: opt.Field = None,
    response_field: opt.ResponseField = None,
    category_field: opt.CategoryField = None,
    slice_by: opt.SliceBy = None,
    format: opt.Format = "auto",  # noqa: A002 - the option's name
    text_split: opt.TextSplit = "auto",
    chat: opt.Chat = "auto",
    limit: opt.Limit = None,
    skip_bad_lines: opt.SkipBadLines = False,
    responses: RecordedResponses = False,
    out: opt.Out = None,
    resume: opt.Resume = None,
    force: opt.Force = False,
    batch_size: opt.BatchSize = 16,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train Medusa heads on a frozen target's own answers; both layouts are written."""
    from specmeasure.cli import heads_training as bodies

    bodies.train(context)
