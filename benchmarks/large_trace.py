"""A sealed trace of many prompts, and what reading, estimating, deciding and the brief cost on it.

    python benchmarks/large_trace.py [--prompts 100000] [--tokens 40] [--k 4] [--drafts 1]
        [--workers 1] [--out costs.json]
    python benchmarks/large_trace.py --slopes [--out slopes.json] [--figure slopes.svg]

The trace is simulated and written as tables: baseline, A/A and draft arms, labels, audits; 100,000
prompts of about 40 tokens are 10 million blocks. Each stage runs in a process of its own, which
does the stages before it, too; its peak memory is that of the process. ``--slopes`` varies prompts,
tokens, K and draft arms one at a time, and fits a line to each.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from numpy.typing import NDArray

from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.decision import Policy
from specmeasure.records.machine import Environment, Fleet, Worker
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method, Plan
from specmeasure.records.trace import CorpusFacts, Manifest, ModelFacts
from specmeasure.trace import store, tables

STAGES = ("read", "estimate", "decide", "brief")
CHUNK = 10_000  # prompts that are simulated together
MOST_TOKENS = 512  # of an answer
LENGTH_SPREAD = 0.6  # of log lengths
STEP_S, DRAFT_S, VERIFY_S, PER_TOKEN_S = 5e-3, 5e-4, 6e-3, 2e-6
OVERHEAD = 1.02  # decode time over the time of its passes
WORKER_PACES = (1.0, 1.3, 0.8, 1.1)  # seconds, relative to each other
VARIED = {
    "prompts": (10_000, 20_000, 40_000, 80_000),
    "tokens": (20, 40, 80, 160),
    "k": (2, 4, 8, 16),
    "drafts": (1, 2, 4, 8),
}
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a trace is."""

    prompts: int
    tokens: int  # mean of an answer
    k: int
    drafts: int  # arms that draft
    workers: int = 1

    @property
    def arms(self) -> tuple[Arm, ...]:
        drafting = (
            Arm(
                name=f"draft{number} k={self.k}",
                method=Method.DRAFT_MODEL,
                num_speculative_tokens=self.k,
                draft=f"draft{number}",
            )
            for number in range(self.drafts)
        )
        return (BASELINE, *drafting, BASELINE_AGAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Some prompts of a run."""

    first: int  # number of the first
    num_tokens: Ints  # [n] of the answer
    num_asked: Ints  # [n] of the prompt
    acceptance: Floats  # [n] chance of a draft
    worker: Ints  # [n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Of all trials, one after the other."""

    trial: Ints  # [B] from 0
    drafted: Ints
    accepted: Ints


def write_trace(folder: Path, size: Size, *, seed: int = 0) -> int:
    """Write a sealed run of this size; returns the number of its blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    manifest = make_manifest(size)
    (folder / store.MANIFEST).write_bytes(msgspec.json.encode(manifest))
    num_blocks = 0
    with (
        pq.ParquetWriter(folder / tables.TRIALS, tables.TRIAL_SCHEMA, compression="zstd") as trials,
        pq.ParquetWriter(folder / tables.BLOCKS, tables.BLOCK_SCHEMA, compression="zstd") as blocks,
    ):
        for traffic in make_traffic(size, rng):
            found = decode(traffic, size.arms, rng)
            times = time_blocks(found, traffic, len(size.arms), rng)
            trials.write_table(trial_table(traffic, times, size, rng))
            blocks.write_table(block_table(found, times, traffic.first * len(size.arms)))
            num_blocks += len(found.trial)
    sealed = (store.MANIFEST, tables.TRIALS, tables.BLOCKS)
    seal = {
        "num_trials": manifest.num_planned_trials,
        "num_blocks": num_blocks,
        "sha256": {name: store.digest_of(folder / name) for name in sealed},
    }
    (folder / store.SEAL).write_text(json.dumps(seal), encoding="utf-8")
    return num_blocks


def make_manifest(size: Size) -> Manifest:
    """Of a run that was carried out as planned."""
    machine = Environment(
        versions={"specmeasure": "simulated"},
        platform="simulated",
        cpu="simulated",
        num_cores=2,
        memory_bytes=2**33,
        num_threads=2,
        load_average=0.0,
    )
    made = Manifest(
        schema_version=store.SCHEMA_VERSION,
        started_at="2026-01-01T00:00:00+00:00",
        argv=("simulated",),
        plan=Plan(target="target", arms=size.arms, max_new_tokens=MOST_TOKENS),
        corpus=CorpusFacts(
            sources=("simulated.jsonl",),
            options=CorpusOptions(),
            fingerprint="0" * 64,
            num_prompts=size.prompts,
            files=(),
            dropped=(),
        ),
        environment=machine,
        models=tuple(map(_model, ("target", *(arm.draft for arm in size.arms if arm.draft)))),
        num_planned_trials=size.prompts * len(size.arms),
        policy=Policy(),
    )
    if size.workers == 1:
        return made
    workers = (
        Worker(number=number, node=f"node-{number}", environment=machine)
        for number in range(size.workers)
    )
    fleet = Fleet(address="local", num_workers=size.workers)
    return replace(made, fleet=fleet, workers=tuple(workers))


def _model(name: str) -> ModelFacts:
    return ModelFacts(
        name=name,
        fingerprint=_digest(name),
        num_parameters=10**9,
        dtype="bfloat16",
        device="simulated",
        cache="crop",
        vocab_size=32_000,
    )


def make_traffic(size: Size, rng: np.random.Generator) -> Iterator[Traffic]:
    """All prompts, chunk by chunk; workers follow one another."""
    for first in range(0, size.prompts, CHUNK):
        number = min(CHUNK, size.prompts - first)
        middle = np.log(size.tokens) - LENGTH_SPREAD**2 / 2
        lengths = rng.lognormal(middle, LENGTH_SPREAD, number)
        yield Traffic(
            first=first,
            num_tokens=lengths.round().astype(np.int64).clip(2, MOST_TOKENS),
            num_asked=rng.integers(20, 400, number),
            acceptance=rng.beta(6, 3, number),
            worker=np.arange(first, first + number) * size.workers // size.prompts,
        )


def decode(traffic: Traffic, arms: Sequence[Arm], rng: np.random.Generator) -> Blocks:
    """Every prompt by every arm, prompt by prompt."""
    found = [_decode_arm(traffic, arm, place, len(arms), rng) for place, arm in enumerate(arms)]
    trial, drafted, accepted = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(trial, kind="stable")
    return Blocks(trial=trial[order], drafted=drafted[order], accepted=accepted[order])


def _decode_arm(
    traffic: Traffic, arm: Arm, place: int, num_arms: int, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """Trial, drafted and accepted of each block, pass by pass over all prompts at once."""
    at = np.arange(len(traffic.num_tokens))
    left = traffic.num_tokens - 1
    nothing = np.zeros_like(left)
    rounds = [(at * num_arms + place, nothing, nothing)]
    while (left > 0).any():
        at, left = at[left > 0], left[left > 0]
        drafted = np.minimum(arm.num_speculative_tokens, left - 1)
        kept = rng.geometric(1 - traffic.acceptance[at]) - 1
        accepted = np.minimum(kept, drafted)
        rounds.append((at * num_arms + place, drafted, accepted))
        left = left - accepted - 1
    trial, drafted, accepted = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    return trial, drafted, accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What blocks and trials took."""

    context: Ints  # [B]
    draft_s: Floats  # [B]
    verify_s: Floats  # [B]
    ttft_s: Floats  # [T]
    decode_s: Floats  # [T]


def time_blocks(blocks: Blocks, traffic: Traffic, num_arms: int, rng: np.random.Generator) -> Times:
    """Passes cost what their context and drafts make them cost, with 3 % of noise."""
    prompt = blocks.trial // num_arms
    starts = np.searchsorted(blocks.trial, np.arange(len(traffic.num_tokens) * num_arms))
    emitted_before = np.cumsum(blocks.accepted + 1) - (blocks.accepted + 1)
    context = traffic.num_asked[prompt] + emitted_before - emitted_before[starts][blocks.trial]
    paces = np.array(WORKER_PACES)[traffic.worker % len(WORKER_PACES)]
    noise = paces[prompt] * rng.lognormal(0, 0.03, len(prompt))
    draft_s = DRAFT_S * blocks.drafted * noise
    verify_s = (np.where(blocks.drafted > 0, VERIFY_S, STEP_S) + PER_TOKEN_S * context) * noise
    spent = draft_s + verify_s
    ttft_s = spent[starts]
    decode_s = OVERHEAD * (np.bincount(blocks.trial, weights=spent) - ttft_s)
    return Times(
        context=context, draft_s=draft_s, verify_s=verify_s, ttft_s=ttft_s, decode_s=decode_s
    )


def block_table(blocks: Blocks, times: Times, first_trial: int) -> pa.Table:
    columns = {
        "trial_index": blocks.trial + first_trial,
        "num_draft_tokens": blocks.drafted,
        "num_accepted_tokens": blocks.accepted,
        "num_emitted_tokens": blocks.accepted + 1,
        "context_length": times.context,
        "draft_s": times.draft_s,
        "verify_s": times.verify_s,
        "truncated": np.zeros(len(blocks.trial), dtype=np.bool_),
    }
    return _shaped(columns, tables.BLOCK_SCHEMA, len(blocks.trial))


def trial_table(traffic: Traffic, times: Times, size: Size, rng: np.random.Generator) -> pa.Table:
    """Labels of six kinds; one answer in 200 has a token that rounding explains."""
    num_arms, num_prompts = len(size.arms), len(traffic.num_tokens)
    prompts = range(traffic.first, traffic.first + num_prompts)
    stalled = rng.exponential(0.02, num_arms * num_prompts).clip(0, 1).round(4)
    identical = [{"audit": _audit(number, near_tie=False)} for number in range(MOST_TOKENS + 1)]
    near_tie = [{"audit": _audit(number, near_tie=True)} for number in range(MOST_TOKENS + 1)]
    num_tokens = np.repeat(traffic.num_tokens, num_arms)
    is_tie = rng.random(len(num_tokens)) < 1 / 200
    columns = {
        "prompt_id": _repeated([f"prompt-{n}" for n in prompts], num_arms),
        "turn": np.zeros(len(num_tokens), dtype=np.int32),
        "repeat": np.zeros(len(num_tokens), dtype=np.int32),
        "arm": [arm.name for arm in size.arms] * num_prompts,
        "prompt_hash": _repeated([_digest(f"asked {n}")[:32] for n in prompts], num_arms),
        "labels": _repeated(list(map(_labels, prompts)), num_arms),
        "sampling": [{"temperature": 0.0}] * len(num_tokens),
        "num_prompt_tokens": np.repeat(traffic.num_asked, num_arms),
        "num_emitted_tokens": num_tokens,
        "ids_hash": _repeated([_digest(f"answer {n}") for n in prompts], num_arms),
        "finish_reason": ["eos"] * len(num_tokens),
        "ttft_s": times.ttft_s,
        "decode_s": times.decode_s,
        "model_bytes": np.full(len(num_tokens), 2**30),
        "cache_bytes": 4096 * (num_tokens + np.repeat(traffic.num_asked, num_arms)),
        "peak_memory_bytes": np.full(len(num_tokens), 2**31),
        "crowding": [{"other_cores": 0.1, "stalled_share": share} for share in stalled.tolist()],
        "checks": [
            (near_tie if tie else identical)[number]
            for number, tie in zip(num_tokens.tolist(), is_tie.tolist(), strict=True)
        ],
    }
    if size.workers > 1:
        columns["worker"] = np.repeat(traffic.worker, num_arms)
    return _shaped(columns, tables.TRIAL_SCHEMA, len(num_tokens))


def _labels(number: int) -> list[tuple[str, str]]:
    return [
        ("category", f"category {number % 8}"),
        ("source", f"file {number % 5}.jsonl"),
        ("language", ("en", "de", "fr")[number % 3]),
        ("tier", f"tier {number % 4}"),
        ("region", f"region {number % 6}"),
        ("channel", ("web", "api")[number // 7 % 2]),
    ]


def _audit(num_tokens: int, *, near_tie: bool) -> dict[str, Any]:
    suspects = [{"index": 1, "delta": 1e-6, "noise": 1e-5}] if near_tie else []
    return {"num_checked_tokens": num_tokens, "suspects": suspects}


def _digest(said: str) -> str:
    return sha256(said.encode()).hexdigest()


def _repeated(values: Sequence[Any], times: int) -> list[Any]:
    return [value for value in values for _ in range(times)]


def _shaped(columns: dict[str, Any], schema: pa.Schema, num_rows: int) -> pa.Table:
    """Columns that are missing are null."""
    missing = [None] * num_rows
    arrays = [pa.array(columns.get(field.name, missing), type=field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def run_stages(folder: Path, last: str) -> dict[str, float]:
    """Seconds of each stage up to this one, on the clock and of the CPU, and the peak in MB."""
    from specmeasure.api import reports
    from specmeasure.api.sequential import estimate_run
    from specmeasure.decide import decide

    spent = {}
    began = time.perf_counter(), time.process_time()

    def done(stage: str) -> None:
        nonlocal began
        now = time.perf_counter(), time.process_time()
        spent[stage], spent[f"{stage} cpu"] = now[0] - began[0], now[1] - began[1]
        began = now

    trace = store.read_trace(folder)
    done("read")
    if last != "read":
        estimates = estimate_run(trace)
        done("estimate")
    if last in ("decide", "brief"):
        decision = decide(estimates, trace.manifest.policy)
        done("decide")
    if last == "brief":
        reports.write_report(
            reports.Report(trace=trace, estimates=estimates, decision=decision), folder
        )
        done("brief")
    spent["peak_mb"] = _peak_mb()
    return spent


def _peak_mb() -> float:
    """Of this process alone: Linux hands the peak of a parent down through getrusage."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def measure(size: Size, stages: Sequence[str] = STAGES) -> dict[str, Any]:
    """Write a trace of this size and run each stage on it in a fresh process."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "run"
        num_blocks = write_trace(folder, size)
        on_disk = sum((folder / one).stat().st_size for one in (tables.TRIALS, tables.BLOCKS))
        found = {stage: _in_fresh_process(folder, stage) for stage in stages}
        page = (folder / "report.html").stat().st_size if "brief" in stages else None
        numbers = (folder / "estimates.json").stat().st_size if "brief" in stages else None
    return {
        **asdict(size),
        "blocks": num_blocks,
        "disk_bytes": on_disk,
        "page_bytes": page,
        "estimates_bytes": numbers,
        "stages": found,
    }


def _in_fresh_process(folder: Path, stage: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this script itself
    found: dict[str, float] = json.loads(done.stdout)
    return found


def table_of(found: dict[str, Any]) -> str:
    """What each process took: seconds (those of the CPU) by stage, in all, and its peak."""
    rows = ["| process | read s | estimate s | decide s | brief s | in all s | peak MB |"]
    rows += ["|---|---:|---:|---:|---:|---:|---:|"]
    for last, spent in found["stages"].items():
        done = [stage for stage in STAGES if stage in spent]
        spent["in all"] = sum(spent[stage] for stage in done)
        spent["in all cpu"] = sum(spent[f"{stage} cpu"] for stage in done)
        cells = [
            f"{spent[stage]:.2f} ({spent[f'{stage} cpu']:.2f})" if stage in spent else ""
            for stage in (*STAGES, "in all")
        ]
        rows.append(f"| {last} | {' | '.join(cells)} | {spent['peak_mb']:.0f} |")
    return "\n".join(rows)


def measure_slopes(base: Size) -> list[dict[str, Any]]:
    """Cost of everything up to the brief over one quantity at a time, with a line's slope."""
    slopes = []
    for name, values in VARIED.items():
        sizes = [replace(base, **{name: value}) for value in values]
        found = [measure(size, ["brief"])["stages"]["brief"] for size in sizes]
        lines = {
            stage: np.polyfit(values, [one[stage] for one in found], 1).tolist()
            for stage in (*(f"{stage} cpu" for stage in STAGES), "peak_mb")
        }
        slopes.append({"quantity": name, "values": values, "found": found, "lines": lines})
    return slopes


def slope_table(slopes: Sequence[dict[str, Any]]) -> str:
    """Slopes by quantity: seconds of the CPU, or MB, for each one more of it."""
    rows = ["| one more | values | read s | estimate s | decide s | brief s | peak MB |"]
    rows += ["|---|---|---:|---:|---:|---:|---:|"]
    for one in slopes:
        lines = one["lines"]
        cells = [f"{line[0]:.2e}" for line in lines.values()]
        values = ", ".join(f"{value:,}" for value in one["values"])
        rows.append(f"| {one['quantity']} | {values} | {' | '.join(cells)} |")
    return "\n".join(rows)


def draw_slopes(slopes: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds of the CPU and peak memory over each quantity, stages on top of one another."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(2, len(slopes), sharex="col", sharey="row")
    for place, one in enumerate(slopes):
        seconds, memory = panels[0][place], panels[1][place]
        parts = [[spent[f"{stage} cpu"] for spent in one["found"]] for stage in STAGES]
        seconds.stackplot(one["values"], parts, labels=STAGES)
        memory.plot(one["values"], [spent["peak_mb"] for spent in one["found"]], marker="o")
        memory.set_ylim(bottom=0)
        memory.set_xlabel(one["quantity"])
    panels[0][0].set_ylabel("seconds of one core")
    panels[0][0].legend(loc="upper left")
    panels[1][0].set_ylabel("peak memory, MB")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--drafts", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slopes", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path, help="of the slopes, e.g. slopes.svg")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(run_stages(options.folder, options.stage)))
        return
    prompts = options.prompts or (20_000 if options.slopes else 100_000)
    shape = {name: getattr(options, name) for name in ("tokens", "k", "drafts", "workers")}
    size = Size(prompts=prompts, **shape)
    if options.folder:
        print(f"{write_trace(options.folder, size):,} blocks")
        return
    found: Any = measure_slopes(size) if options.slopes else measure(size)
    print(slope_table(found) if options.slopes else table_of(found))
    if options.slopes and options.figure:
        draw_slopes(found, options.figure)
    if options.out:
        machine = {"platform": platform.platform(), "found": found}
        options.out.write_text(json.dumps(machine, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
