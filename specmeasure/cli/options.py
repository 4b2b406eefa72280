"""Every option once, with its help text."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

CORPUS, DECODING, MODELS = "Prompts", "Decoding", "Models"
DECISION, RECORD = "Decision", "Recording"
SERVERS = "Servers"
FLEET = "Many GPUs, many machines"


def _option(name: str, *, help: str, panel: str, **bounds: float) -> Any:  # noqa: A002
    return typer.Option(name, help=help, rich_help_panel=panel, **cast("Any", bounds))


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders, globs or hf:org/name:split (jsonl, json, csv, tsv, parquet, arrow, "
        "txt, also compressed); - for stdin.",
        show_default=False,
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A folder that a run wrote.", show_default=False)]

Target = Annotated[
    str | None,
    _option(
        "--target",
        help="Folder or hub id of the target model. Left out: the embedded pair.",
        panel=MODELS,
    ),
]
Draft = Annotated[
    list[str] | None,
    _option("--draft", help="Folder or hub id of a draft model; may be repeated.", panel=MODELS),
]
Medusa = Annotated[
    list[str] | None,
    _option("--medusa", help="Folder or hub id of Medusa heads; may be repeated.", panel=MODELS),
]
Tree = Annotated[
    list[str] | None,
    _option(
        "--tree",
        help="Let the heads also draft this tree: paper (63 nodes), chain:N, or a file of paths "
        "as `heads tree` writes it; may be repeated. Levels beyond the number of heads are cut.",
        panel=MODELS,
    ),
]
EarlyExit = Annotated[
    list[str] | None,
    _option(
        "--early-exit",
        help="Also draft with the target's first N layers; may be repeated, or all of them: all.",
        panel=MODELS,
    ),
]
Ngram = Annotated[
    bool, _option("--ngram", help="Also measure prompt lookup (no draft model).", panel=MODELS)
]
NgramSizes = Annotated[
    list[str] | None,
    _option(
        "--ngram-sizes",
        help="Shortest and longest n-gram that prompt lookup looks up: 2-4; may be repeated.",
        panel=MODELS,
    ),
]
NgramPick = Annotated[
    str,
    _option(
        "--ngram-pick",
        help="Of several occurrences, continue the earliest (vLLM's way) or the latest; both as "
        "arms of their own: earliest,latest.",
        panel=MODELS,
    ),
]
Suffix = Annotated[
    bool,
    _option(
        "--suffix",
        help="Also look up the longest suffix that stood in prompt or answer before.",
        panel=MODELS,
    ),
]
PastOutputs = Annotated[
    list[str] | None,
    _option(
        "--past-outputs",
        help="Look suffixes up in earlier answers, too: prompts with recorded responses, or a run "
        "recorded with --include-text. A prompt's own answer is left out. May be repeated.",
        panel=MODELS,
    ),
]
DraftSampling = Annotated[
    str,
    _option(
        "--draft-sampling",
        help="Where the target samples, drafts are: probabilistic (drawn), greedy (vLLM's "
        "default), or both as arms of their own: probabilistic,greedy.",
        panel=DECODING,
    ),
]
MaxLength = Annotated[
    int,
    _option("--max-k", min=1, max=64, help="Look at every K up to this one.", panel=DECODING),
]
Confirm = Annotated[
    int,
    _option(
        "--confirm", min=0, help="Then run so many of the best candidates for real.", panel=RECORD
    ),
]
Responses = Annotated[
    bool,
    _option(
        "--responses",
        help="The recorded responses are this target's own at these settings: replay them.",
        panel=CORPUS,
    ),
]
BatchSize = Annotated[
    int, _option("--batch-size", min=1, help="Answers decoded or scored at once.", panel=RECORD)
]
CostsFile = Annotated[
    Path | None,
    _option(
        "--costs",
        help="Predict at another machine's costs, e.g. a costs.json of a replay there.",
        panel=DECISION,
    ),
]
Targets = Annotated[
    list[str] | None,
    _option(
        "--target",
        help="Folder or hub id of a target; may be repeated. Left out: the embedded pair.",
        panel=MODELS,
    ),
]
Compared = Annotated[
    list[str] | None,
    typer.Argument(
        help="Run folders to compare; or prompts, to replay drafts on and compare them.",
        show_default=False,
    ),
]
OldRun = Annotated[
    Path | None,
    _option("--baseline", help="Say what changed since this old run.", panel=DECISION),
]
FailIfLower = Annotated[
    float | None,
    _option(
        "--fail-if-lower",
        help="With --baseline: exit 10 if acceptance fell by more than this share (0.02 is 2 "
        "points), 20 if that is open.",
        panel=DECISION,
    ),
]
CompareOut = Annotated[
    Path | None,
    _option("--out", help="Folder for the page and its numbers.", panel=RECORD),
]
Lengths = Annotated[
    str,
    _option(
        "--k", help="Draft tokens per block; several measure several arms: 2,4,8.", panel=DECODING
    ),
]
MaxNewTokens = Annotated[
    int, _option("--max-new-tokens", min=1, help="Most tokens per answer.", panel=DECODING)
]
Temperature = Annotated[
    float, _option("--temperature", min=0.0, help="0 is greedy.", panel=DECODING)
]
TopK = Annotated[
    int | None, _option("--top-k", min=1, help="Sample from the k likeliest.", panel=DECODING)
]
TopP = Annotated[
    float | None,
    _option("--top-p", min=0.0, max=1.0, help="Sample from this probability mass.", panel=DECODING),
]
Lossy = Annotated[
    list[str] | None,
    _option(
        "--lossy",
        help="Also measure arms that may change the output: typical, or typical:EPSILON,DELTA. "
        "May be repeated; never a default.",
        panel=DECODING,
    ),
]
Epsilon = Annotated[
    str | None,
    _option(
        "--epsilon",
        help="Thresholds of --lossy typical, each an arm of its own: 0.05,0.09,0.2 (0.09).",
        panel=DECODING,
    ),
]
Delta = Annotated[
    str | None,
    _option("--delta", help="Likewise, its factor at high entropy (0.3).", panel=DECODING),
]
CheckAnswers = Annotated[
    str | None,
    _option(
        "--check-answers",
        help="Grade answers by the recorded ones: exact, contains, number (the last one) or "
        "python-tests (see --response-field, --run-code).",
        panel=DECISION,
    ),
]
RunCode = Annotated[
    bool,
    _option(
        "--run-code",
        help="Let --check-answers python-tests run what the models write, on this machine.",
        panel=DECISION,
    ),
]
IgnoreEos = Annotated[
    bool,
    _option("--ignore-eos", help="Decode the whole budget, whatever is emitted.", panel=DECODING),
]

Field = Annotated[
    str | None,
    typer.Option(
        "--field",
        "--column",
        help="Path to the prompt in each row, e.g. body.text; or a table's column.",
        rich_help_panel=CORPUS,
    ),
]
Tokenizer = Annotated[
    str | None,
    _option(
        "--tokenizer", help="Folder or hub id of a tokenizer to count tokens with.", panel=MODELS
    ),
]
ResponseField = Annotated[
    str | None,
    _option("--response-field", help="Path to the recorded response.", panel=CORPUS),
]
CategoryField = Annotated[
    str | None, _option("--category-field", help="Path to the category.", panel=CORPUS)
]
SliceBy = Annotated[
    list[str] | None,
    _option(
        "--slice-by", help="Path to a field to slice estimates by; may be repeated.", panel=CORPUS
    ),
]
Format = Annotated[
    str,
    _option("--format", help="auto (by content), jsonl, json, csv, tsv or text.", panel=CORPUS),
]
TextSplit = Annotated[
    str,
    _option(
        "--text-split",
        help="Where prompts of a plain text end: auto, line, blank (line), file.",
        panel=CORPUS,
    ),
]
AskedSampling = Annotated[
    bool,
    _option(
        "--row-sampling/--no-row-sampling",
        help="Decode rows that name a temperature, stop, … as they ask.",
        panel=DECODING,
    ),
]
Chat = Annotated[
    str,
    _option(
        "--chat",
        help="Send plain strings as: auto, chat (through the template), completion (raw).",
        panel=CORPUS,
    ),
]
Limit = Annotated[
    int | None,
    _option("--limit", min=1, help="Most prompts: a seeded sample over categories.", panel=CORPUS),
]
SkipBadLines = Annotated[
    bool,
    _option("--skip-bad-lines", help="Count unreadable lines instead of stopping.", panel=CORPUS),
]

Device = Annotated[str, _option("--device", help="auto, cpu, cuda or cuda:N.", panel=MODELS)]
Dtype = Annotated[
    str,
    _option(
        "--dtype",
        help="auto (float32 on a CPU, else the checkpoint's), float32, bfloat16, float16.",
        panel=MODELS,
    ),
]
Attn = Annotated[
    str | None, _option("--attn", help="transformers' attn_implementation.", panel=MODELS)
]
Threads = Annotated[
    int | None,
    _option(
        "--threads",
        min=1,
        help="CPU threads; default: as many free cores as help, no more than OMP_NUM_THREADS.",
        panel=MODELS,
    ),
]
DeviceMap = Annotated[
    str | None,
    _option("--device-map", help="auto spreads models over several GPUs.", panel=MODELS),
]
AllowPickle = Annotated[
    bool,
    _option("--allow-pickle", help="Load pickled weights; they can run code.", panel=MODELS),
]
Graphs = Annotated[
    bool,
    _option(
        "--graphs/--no-graphs",
        help="On a GPU, capture passes as CUDA graphs where the model can; without, to compare.",
        panel=MODELS,
    ),
]
TrustRemoteCode = Annotated[
    bool, _option("--trust-remote-code", help="Run code that a model brings.", panel=MODELS)
]

Ray = Annotated[
    str | None,
    _option(
        "--ray",
        help="Spread prompts over Ray workers: local (this machine), or a cluster's address.",
        panel=FLEET,
    ),
]
Workers = Annotated[
    int | None,
    _option("--workers", min=1, help="Processes, each with all models. Default: 1.", panel=FLEET),
]
GpusPerWorker = Annotated[
    float | None,
    _option(
        "--gpus-per-worker",
        min=0,
        help="GPUs of each worker; with more than one, add --device-map auto. Below 1, workers "
        "share a GPU: for replays without --confirm alone. Default: 0.",
        panel=FLEET,
    ),
]
PoolHardware = Annotated[
    bool,
    _option(
        "--pool-hardware",
        help="Allow workers of unlike hardware, and one speedup over all of them.",
        panel=FLEET,
    ),
]

Out = Annotated[
    Path | None,
    _option("--out", help="Folder of this run. Default: reports/<date and time>.", panel=RECORD),
]
Resume = Annotated[
    Path | None, _option("--resume", help="Finish an interrupted run.", panel=RECORD)
]
Force = Annotated[
    bool, _option("--force", help="Replace the run in the --out folder.", panel=RECORD)
]
Repeats = Annotated[
    int, _option("--repeats", min=1, help="Trials per prompt and arm.", panel=RECORD)
]
Seed = Annotated[int, _option("--seed", help="Of samples and sampling.", panel=RECORD)]
IncludeText = Annotated[
    bool,
    _option("--include-text", help="Keep token ids in the trace, for show.", panel=RECORD),
]

Engine = Annotated[
    str | None,
    _option(
        "--engine",
        help="Measure on servers: vllm or llamacpp, started here. Of running ones (--baseline-url) "
        "their kind: vllm, llamacpp, sglang, trtllm or openai. Left out: asked, or in process.",
        panel=SERVERS,
    ),
]
Concurrency = Annotated[
    str | None,
    _option(
        "--concurrency", help="Requests at once; several are several loads: 1,4,16.", panel=SERVERS
    ),
]
Rate = Annotated[
    str | None,
    _option(
        "--rate", help="Or requests per second, at random moments (Poisson): 0.5,2.", panel=SERVERS
    ),
]
Windows = Annotated[
    int,
    _option(
        "--windows",
        min=1,
        help="Groups of prompts in which arms take turns, at each load.",
        panel=SERVERS,
    ),
]
SloLimits = Annotated[
    str | None,
    _option(
        "--slo",
        help="Seconds that a user may wait, for goodput: ttft=0.5,tpot=0.05,e2e=10.",
        panel=SERVERS,
    ),
]
EngineArgs = Annotated[
    list[str] | None,
    _option("--engine-args", help="Added to every server's command line.", panel=SERVERS),
]
SpeculativeConfig = Annotated[
    list[str] | None,
    _option(
        "--speculative-config",
        help="vLLM's own JSON as an arm, e.g. for EAGLE; may be repeated.",
        panel=SERVERS,
    ),
]
VllmPython = Annotated[
    str | None,
    _option("--vllm-python", help="The interpreter that has vLLM. Default: this.", panel=SERVERS),
]
LlamaServer = Annotated[
    str | None,
    _option(
        "--llama-server", help="llama.cpp's llama-server. Default: xllamacpp's.", panel=SERVERS
    ),
]
KeepApart = Annotated[
    bool,
    _option(
        "--keep-apart", help="One server at a time, where two do not fit in memory.", panel=SERVERS
    ),
]
BaselineUrl = Annotated[
    str | None,
    _option("--baseline-url", help="A running server without speculation.", panel=SERVERS),
]
SpeculativeUrl = Annotated[
    str | None,
    _option(
        "--speculative-url",
        help="The same with speculation. Left out: the first one, set up anew before --resume.",
        panel=SERVERS,
    ),
]
ServedModel = Annotated[
    str | None,
    _option("--model", help="The name that running servers serve the model under.", panel=SERVERS),
]
ServedTokenizer = Annotated[
    str | None,
    _option(
        "--tokenizer",
        help="Folder or hub id: prompts are sent as its token ids. Default: a started server's "
        "target; running ones get text.",
        panel=SERVERS,
    ),
]
StartTimeout = Annotated[
    float,
    _option("--start-timeout", min=1, help="Seconds a server may take to start.", panel=SERVERS),
]
RequestTimeout = Annotated[
    float, _option("--request-timeout", min=1, help="Seconds for one answer.", panel=SERVERS)
]
Beside = Annotated[
    Path | None,
    _option(
        "--beside",
        help="A run in process over the same prompts, shown beside the servers.",
        panel=SERVERS,
    ),
]
AtConcurrency = Annotated[
    int | None,
    _option(
        "--at-concurrency",
        min=1,
        help="The measured load that decides. Default: the highest.",
        panel=DECISION,
    ),
]

PlanFile = Annotated[
    Path | None,
    _option("--plan", help="Execute exactly what `specmeasure plan --write` saved.", panel=RECORD),
]
PRECISION = "Precision"
Detect = Annotated[
    str,
    _option("--detect", help="Effect to be told from the threshold, e.g. 5%.", panel=PRECISION),
]
Power = Annotated[
    float,
    _option("--power", min=0.5, max=0.99, help="Chance to tell it.", panel=PRECISION),
]
EachSlice = Annotated[bool, _option("--each-slice", help="In every category too.", panel=PRECISION)]
Pilot = Annotated[
    int,
    _option(
        "--pilot",
        min=0,
        help="Prompts run twice first to measure the spread; 0 assumes it.",
        panel=PRECISION,
    ),
]
Write = Annotated[
    Path | None, _option("--write", help="Save the plan for run --plan.", panel=PRECISION)
]

PolicyFile = Annotated[
    Path | None, _option("--policy", help="TOML file with the rules' numbers.", panel=DECISION)
]
MinSpeedup = Annotated[
    float | None,
    _option(
        "--min-speedup",
        help="Decode speedup that the lower bound must reach. Default 1.10.",
        panel=DECISION,
    ),
]
MinSliceSpeedup = Annotated[
    float | None,
    _option(
        "--min-slice-speedup",
        help="No slice's upper bound may lie below it. Default 1.00.",
        panel=DECISION,
    ),
]
MaxMemory = Annotated[
    float | None,
    _option("--max-memory-gib", help="Limit for weights and cache. Default none.", panel=DECISION),
]
MinPrompts = Annotated[
    int | None,
    _option("--min-prompts", help="Fewer are INCONCLUSIVE. Default 20.", panel=DECISION),
]
MaxDivergent = Annotated[
    int | None,
    _option(
        "--max-divergent",
        min=0,
        help="Answers with an unexplained divergence that are tolerated. Default 0.",
        panel=DECISION,
    ),
]
MaxNoise = Annotated[
    float | None,
    _option(
        "--max-noise",
        min=0,
        help="Baseline against itself may not exclude 1 ± this. Default 0.02.",
        panel=DECISION,
    ),
]
MaxFailedShare = Annotated[
    float | None,
    _option(
        "--max-failed-share",
        min=0,
        max=1,
        help="Share of planned trials that may fail or be missing. Default 0.05.",
        panel=DECISION,
    ),
]
Check = Annotated[
    bool,
    _option("--check", help="Exit 0 on GO, 10 on NO_GO, 20 on INCONCLUSIVE.", panel=DECISION),
]
AsJson = Annotated[
    bool, _option("--json", help="Print one JSON document instead of tables.", panel=DECISION)
]
UntilDecided = Annotated[
    bool,
    _option(
        "--until-decided",
        help="Stop as soon as it is GO or NO_GO, at one of a few looks fixed before.",
        panel=DECISION,
    ),
]
MaxPrompts = Annotated[
    int | None,
    _option(
        "--max-prompts",
        min=1,
        help="With --until-decided: the most prompts. Default all.",
        panel=DECISION,
    ),
]
Quiet = Annotated[
    bool, _option("--quiet", help="Say nothing but warnings and the result.", panel=RECORD)
]
PromptId = Annotated[
    str | None, typer.Option("--prompt", help="Walk through this prompt's answers, pass by pass.")
]
ArmName = Annotated[str | None, typer.Option("--arm", help="Only this arm, e.g. 'draft k=4'.")]
Audited = Annotated[
    list[str] | None,
    typer.Argument(
        help="A folder that a run wrote; or files of recorded answers (token ids), - for stdin.",
        show_default=False,
    ),
]
AuditTarget = Annotated[
    str | None,
    _option("--target", help="The model that gave the recorded answers.", panel=MODELS),
]
AuditDraft = Annotated[
    str | None,
    _option(
        "--draft",
        help="Their draft model: also test sampled tokens for a pull towards it.",
        panel=MODELS,
    ),
]
AuditOut = Annotated[
    Path | None,
    _option(
        "--out",
        help="Folder for the page and its numbers. Default: a run's own; else none.",
        panel=RECORD,
    ),
]
