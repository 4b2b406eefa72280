"""The command line: parse, call the api, show. Only this package prints.

Options are declared in the signatures and read from ``context.params``, so that each is named once.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from specmeasure.cli import options as opt
from specmeasure.cli.heads_app import heads
from specmeasure.errors import RunInterrupted, SpecmeasureError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure speculative decoding on your own prompts, and decide: GO, NO_GO or INCONCLUSIVE.",
    epilog="Exit codes: 0 done (or GO with --check), 10 NO_GO, 20 INCONCLUSIVE, 1 failed, "
    "2 usage, 130 interrupted.",
)

app.add_typer(heads, name="heads")


def _show_version(asked: bool) -> None:
    if asked:
        print(f"specmeasure {version('specmeasure')}")
        raise typer.Exit


@app.callback()
def specmeasure(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None: ...


@app.command()
def run(
    context: typer.Context,
    prompts: opt.Prompts = None,
    target: opt.Target = None,
    draft: opt.Draft = None,
    medusa: opt.Medusa = None,
    tree: opt.Tree = None,
    early_exit: opt.EarlyExit = None,
    ngram: opt.Ngram = False,
    ngram_sizes: opt.NgramSizes = None,
    ngram_pick: opt.NgramPick = "earliest",
    suffix: opt.Suffix = False,
    past_outputs: opt.PastOutputs = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    attn: opt.Attn = None,
    threads: opt.Threads = None,
    device_map: opt.DeviceMap = None,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    graphs: opt.Graphs = True,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    pool_hardware: opt.PoolHardware = False,
    k: opt.Lengths = "4",
    max_new_tokens: opt.MaxNewTokens = 128,
    temperature: opt.Temperature = 0.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    ignore_eos: opt.IgnoreEos = False,
    row_sampling: opt.AskedSampling = True,
    draft_sampling: opt.DraftSampling = "probabilistic",
    lossy: opt.Lossy = None,
    epsilon: opt.Epsilon = None,
    delta: opt.Delta = None,
    field: opt.Field = None,
    response_field: opt.ResponseField = None,
    category_field: opt.CategoryField = None,
    slice_by: opt.SliceBy = None,
    format: opt.Format = "auto",  # noqa: A002 - the option's name
    text_split: opt.TextSplit = "auto",
    chat: opt.Chat = "auto",
    limit: opt.Limit = None,
    skip_bad_lines: opt.SkipBadLines = False,
    engine: opt.Engine = None,
    concurrency: opt.Concurrency = None,
    rate: opt.Rate = None,
    windows: opt.Windows = 10,
    slo: opt.SloLimits = None,
    engine_args: opt.EngineArgs = None,
    speculative_config: opt.SpeculativeConfig = None,
    vllm_python: opt.VllmPython = None,
    llama_server: opt.LlamaServer = None,
    keep_apart: opt.KeepApart = False,
    baseline_url: opt.BaselineUrl = None,
    speculative_url: opt.SpeculativeUrl = None,
    model: opt.ServedModel = None,
    tokenizer: opt.ServedTokenizer = None,
    start_timeout: opt.StartTimeout = 600,
    request_timeout: opt.RequestTimeout = 600,
    beside: opt.Beside = None,
    plan: opt.PlanFile = None,
    out: opt.Out = None,
    resume: opt.Resume = None,
    force: opt.Force = False,
    repeats: opt.Repeats = 1,
    seed: opt.Seed = 0,
    include_text: opt.IncludeText = False,
    until_decided: opt.UntilDecided = False,
    max_prompts: opt.MaxPrompts = None,
    policy: opt.PolicyFile = None,
    min_speedup: opt.MinSpeedup = None,
    min_slice_speedup: opt.MinSliceSpeedup = None,
    max_memory_gib: opt.MaxMemory = None,
    min_prompts: opt.MinPrompts = None,
    max_divergent: opt.MaxDivergent = None,
    max_noise: opt.MaxNoise = None,
    max_failed_share: opt.MaxFailedShare = None,
    at_concurrency: opt.AtConcurrency = None,
    check_answers: opt.CheckAnswers = None,
    run_code: opt.RunCode = False,
    check: opt.Check = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Replay prompts with and without speculation, record every block, write the brief."""
    from specmeasure.cli import running

    folder, trace = running.resume(context) if resume else running.start(context)
    running.conclude(context, folder, trace, policy=None)


@app.command()
def corpus(
    context: typer.Context,
    prompts: opt.Prompts = None,
    tokenizer: opt.Tokenizer = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    field: opt.Field = None,
    response_field: opt.ResponseField = None,
    category_field: opt.CategoryField = None,
    slice_by: opt.SliceBy = None,
    format: opt.Format = "auto",  # noqa: A002 - the option's name
    text_split: opt.TextSplit = "auto",
    chat: opt.Chat = "auto",
    limit: opt.Limit = None,
    skip_bad_lines: opt.SkipBadLines = False,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Look at prompts before paying for a run: formats, duplicates, languages, tokens."""
    from specmeasure.cli import looking

    looking.look(context)


@app.command()
def plan(
    context: typer.Context,
    prompts: opt.Prompts = None,
    target: opt.Target = None,
    draft: opt.Draft = None,
    medusa: opt.Medusa = None,
    tree: opt.Tree = None,
    early_exit: opt.EarlyExit = None,
    ngram: opt.Ngram = False,
    ngram_sizes: opt.NgramSizes = None,
    ngram_pick: opt.NgramPick = "earliest",
    suffix: opt.Suffix = False,
    past_outputs: opt.PastOutputs = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    attn: opt.Attn = None,
    threads: opt.Threads = None,
    device_map: opt.DeviceMap = None,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    graphs: opt.Graphs = True,
    k: opt.Lengths = "4",
    max_new_tokens: opt.MaxNewTokens = 128,
    temperature: opt.Temperature = 0.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    ignore_eos: opt.IgnoreEos = False,
    row_sampling: opt.AskedSampling = True,
    draft_sampling: opt.DraftSampling = "probabilistic",
    lossy: opt.Lossy = None,
    epsilon: opt.Epsilon = None,
    delta: opt.Delta = None,
    field: opt.Field = None,
    response_field: opt.ResponseField = None,
    category_field: opt.CategoryField = None,
    slice_by: opt.SliceBy = None,
    format: opt.Format = "auto",  # noqa: A002 - the option's name
    text_split: opt.TextSplit = "auto",
    chat: opt.Chat = "auto",
    skip_bad_lines: opt.SkipBadLines = False,
    seed: opt.Seed = 0,
    policy: opt.PolicyFile = None,
    min_speedup: opt.MinSpeedup = None,
    min_slice_speedup: opt.MinSliceSpeedup = None,
    max_memory_gib: opt.MaxMemory = None,
    min_prompts: opt.MinPrompts = None,
    max_divergent: opt.MaxDivergent = None,
    max_noise: opt.MaxNoise = None,
    max_failed_share: opt.MaxFailedShare = None,
    check_answers: opt.CheckAnswers = None,
    detect: opt.Detect = "5%",
    power: opt.Power = 0.8,
    each_slice: opt.EachSlice = False,
    pilot: opt.Pilot = 20,
    write: opt.Write = None,
    quiet: opt.Quiet = False,
) -> None:
    """Say how many prompts and repeats a decision needs, and write the run's plan file."""
    from specmeasure.cli import planning

    planning.plan(context)


@app.command()
def replay(
    context: typer.Context,
    prompts: opt.Prompts = None,
    target: opt.Target = None,
    draft: opt.Draft = None,
    medusa: opt.Medusa = None,
    early_exit: opt.EarlyExit = None,
    ngram: opt.Ngram = False,
    ngram_sizes: opt.NgramSizes = None,
    ngram_pick: opt.NgramPick = "earliest",
    suffix: opt.Suffix = False,
    past_outputs: opt.PastOutputs = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    attn: opt.Attn = None,
    threads: opt.Threads = None,
    device_map: opt.DeviceMap = None,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    graphs: opt.Graphs = True,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    pool_hardware: opt.PoolHardware = False,
    max_k: opt.MaxLength = 16,
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
    confirm: opt.Confirm = 0,
    batch_size: opt.BatchSize = 16,
    seed: opt.Seed = 0,
    include_text: opt.IncludeText = False,
    costs: opt.CostsFile = None,
    policy: opt.PolicyFile = None,
    min_speedup: opt.MinSpeedup = None,
    min_slice_speedup: opt.MinSliceSpeedup = None,
    max_memory_gib: opt.MaxMemory = None,
    min_prompts: opt.MinPrompts = None,
    max_divergent: opt.MaxDivergent = None,
    max_noise: opt.MaxNoise = None,
    max_failed_share: opt.MaxFailedShare = None,
    check: opt.Check = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Know every K and every draft from one pass, and run the best for real with --confirm."""
    from specmeasure.cli import replaying

    replaying.replay(context)


@app.command()
def compare(
    context: typer.Context,
    sources: opt.Compared = None,
    target: opt.Targets = None,
    draft: opt.Draft = None,
    medusa: opt.Medusa = None,
    early_exit: opt.EarlyExit = None,
    ngram: opt.Ngram = False,
    ngram_sizes: opt.NgramSizes = None,
    ngram_pick: opt.NgramPick = "earliest",
    suffix: opt.Suffix = False,
    past_outputs: opt.PastOutputs = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    attn: opt.Attn = None,
    threads: opt.Threads = None,
    device_map: opt.DeviceMap = None,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    graphs: opt.Graphs = True,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    pool_hardware: opt.PoolHardware = False,
    max_k: opt.MaxLength = 16,
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
    out: opt.CompareOut = None,
    force: opt.Force = False,
    confirm: opt.Confirm = 2,
    batch_size: opt.BatchSize = 16,
    seed: opt.Seed = 0,
    include_text: opt.IncludeText = False,
    baseline: opt.OldRun = None,
    fail_if_lower: opt.FailIfLower = None,
    policy: opt.PolicyFile = None,
    min_speedup: opt.MinSpeedup = None,
    min_slice_speedup: opt.MinSliceSpeedup = None,
    max_memory_gib: opt.MaxMemory = None,
    min_prompts: opt.MinPrompts = None,
    max_divergent: opt.MaxDivergent = None,
    max_noise: opt.MaxNoise = None,
    max_failed_share: opt.MaxFailedShare = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Rank drafts: on prompts by replay and real runs, or from recorded run folders."""
    from specmeasure.cli import comparing

    comparing.compare(context)


@app.command()
def brief(
    context: typer.Context,
    folder: opt.RunFolder,
    costs: opt.CostsFile = None,
    beside: opt.Beside = None,
    policy: opt.PolicyFile = None,
    min_speedup: opt.MinSpeedup = None,
    min_slice_speedup: opt.MinSliceSpeedup = None,
    max_memory_gib: opt.MaxMemory = None,
    min_prompts: opt.MinPrompts = None,
    max_divergent: opt.MaxDivergent = None,
    max_noise: opt.MaxNoise = None,
    max_failed_share: opt.MaxFailedShare = None,
    at_concurrency: opt.AtConcurrency = None,
    check: opt.Check = False,
    as_json: opt.AsJson = False,
) -> None:
    """Estimate, decide and write the page of a run or a replay again. Needs no models."""
    from specmeasure.cli import rendering

    rendering.render(context, folder)


@app.command()
def audit(
    context: typer.Context,
    sources: opt.Audited = None,
    target: opt.AuditTarget = None,
    draft: opt.AuditDraft = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    attn: opt.Attn = None,
    threads: opt.Threads = None,
    device_map: opt.DeviceMap = None,
    allow_pickle: opt.AllowPickle = False,
    trust_remote_code: opt.TrustRemoteCode = False,
    temperature: opt.Temperature = 0.0,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    out: opt.AuditOut = None,
    seed: opt.Seed = 0,
    policy: opt.PolicyFile = None,
    max_divergent: opt.MaxDivergent = None,
    check: opt.Check = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Say whether answers are the target's own: a run's, or any engine's recorded ids."""
    from specmeasure.cli import auditing

    auditing.audit(context)


@app.command()
def show(
    folder: opt.RunFolder,
    prompt: opt.PromptId = None,
    arm: opt.ArmName = None,
) -> None:
    """List a run's trials, or walk through one prompt's answers: draft, verify, reject."""
    from specmeasure.cli import showing

    showing.show(folder, prompt_id=prompt, arm=arm)


@app.command()
def schema() -> None:
    """Print the JSON Schema of estimates.json."""
    from specmeasure.api.schema import estimates_schema

    print(estimates_schema(), end="")


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    try:
        app()
    except RunInterrupted as error:
        sys.exit(_complain(error, EXIT_INTERRUPTED))
    except UsageError as error:
        sys.exit(_complain(error, EXIT_USAGE))
    except (SpecmeasureError, OSError) as error:
        sys.exit(_complain(error, EXIT_FAILED))


def _complain(error: Exception, code: int) -> int:
    print(f"specmeasure: {error}", file=sys.stderr)
    return code
