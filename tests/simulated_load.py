"""Serving runs whose true speedups and acceptance are known, window by window.

Requests of a window share the machine's luck in that window, apart for each arm; answers have
heavy-tailed lengths and gain differently from speculation. Every load asks the same prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from specmeasure.estimate.latency import Times
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, TrialKey
from specmeasure.records.serving import Evidence, Load, Serving, ServingEngine, Slo
from specmeasure.records.trace import (
    DraftCounts,
    FinishReason,
    Trace,
    TrialRecord,
    WindowKey,
    WindowRecord,
)
from tests.fakes import DRAFT_4, make_manifest, make_plan

STEP_S = 0.01  # seconds a token, alone; twice as many requests take a tenth longer each
TTFT_S = 0.05
KEEP = (0.8, 0.7, 0.6, 0.5)  # chance of each draft, where those before it were kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is true of a server and of its traffic."""

    speedups: Mapping[int, float] = field(default_factory=lambda: {1: 1.5, 4: 1.2, 16: 0.8})
    arms: tuple[Arm, ...] = (DRAFT_4,)
    gains: tuple[float, ...] = (1.0,)  # of each arm, times the speedup
    num_windows: int = 10
    num_each: int = 8  # requests of a window
    window_noise: float = 0.05  # deviation of the logarithm of a window's pace, in each arm
    request_noise: float = 0.03
    between: float = 0.1  # of the logarithm of what prompts gain
    tail: float = 1.0  # of the logarithm of lengths

    @property
    def plan(self):
        serving = Serving(
            engine=ServingEngine.VLLM,
            loads=tuple(Load(concurrency=at) for at in self.speedups),
            num_windows=self.num_windows,
            slo=Slo(ttft_s=1.0, tpot_s=0.02),
        )
        return make_plan(BASELINE, *self.arms, BASELINE_AGAIN, serving=serving)


def window_seconds(server: Server, concurrency: int, rng):
    """Tokens after the first, baseline and arm seconds, [windows, requests] each."""
    shape = (server.num_windows, server.num_each)
    tokens = np.maximum(2, np.round(40 * np.exp(server.tail * rng.normal(size=shape))))
    gain = _noise(rng, server.between, shape)
    shared = [_noise(rng, server.window_noise, (server.num_windows, 1)) for _ in range(2)]
    own = [_noise(rng, server.request_noise, shape) for _ in range(2)]
    base = STEP_S * tokens * shared[0] * own[0]
    arm = STEP_S / server.speedups[concurrency] * tokens * gain * shared[1] * own[1]
    return tokens, base, arm


def as_times(tokens, seconds) -> Times:
    """What an estimator is given, cluster by cluster: [clusters, requests]."""
    summed = seconds.sum(axis=1)
    num = tokens.sum(axis=1)
    return Times(
        decode_s=summed,
        num_decoded=num,
        total_s=summed,
        num_emitted=num + tokens.shape[1],
        ttft_s=np.zeros(len(summed)),
    )


def true_length(keep: Sequence[float] = KEEP) -> float:
    """τ of blocks of K drafts. Formula: 1 + Σ of the products of the chances so far."""
    return 1 + float(np.cumprod(keep).sum())


def serving_trace(server: Server, *, evidence: Evidence = Evidence.BLOCKS, seed: int = 0) -> Trace:
    """A recorded run. Counters are told of windows alone, with positions, as by Prometheus."""
    plan, rng = server.plan, np.random.default_rng(seed)
    num_prompts = server.num_windows * server.num_each
    prompts = [_prompt_steps(rng, server.tail) for _ in range(num_prompts)]
    gains = _noise(rng, server.between, (num_prompts,))
    trials, windows = [], []
    for concurrency in server.speedups:
        for group in range(server.num_windows):
            own = range(group * server.num_each, (group + 1) * server.num_each)
            for arm in plan.arms:
                pace = _pace(server, arm, concurrency) * _noise(rng, server.window_noise, ())
                made = [
                    _trial(prompt, prompts[prompt], arm, pace * (gains[prompt] if arm.draft else 1))
                    for prompt in own
                ]
                key = WindowKey(load=Load(concurrency=concurrency), group=group, arm=arm.name)
                windows.append(_window(key, made, evidence))
                trials += [_placed(trial, key, evidence) for trial in made]
    num_planned = num_prompts * len(plan.arms)
    manifest = replace(
        make_manifest(plan, []),
        num_planned_trials=num_planned * len(server.speedups),
        planned_by_load=(num_planned,) * len(server.speedups),
    )
    return Trace(manifest=manifest, trials=tuple(trials), sealed=True, windows=tuple(windows))


def counts_of(steps: Sequence[tuple[int, int]], evidence: Evidence) -> DraftCounts:
    """The same blocks as each kind of server tells them."""
    most = len(KEEP)
    histogram = tuple(sum(kept == j for _, kept in steps) for j in range(most + 1))
    whole = DraftCounts(
        num_draft_tokens=sum(drafted for drafted, _ in steps),
        num_accepted_tokens=sum(kept for _, kept in steps),
    )
    match evidence:
        case Evidence.BLOCKS:
            return replace(whole, steps=tuple(steps))
        case Evidence.HISTOGRAM:
            return replace(whole, histogram=histogram)
        case _:
            return replace(
                whole,
                num_drafted_blocks=len(steps),
                accepted_by_position=tuple(sum(histogram[j + 1 :]) for j in range(most)),
            )


def _prompt_steps(rng, tail):
    """Blocks of one answer; the last is counted whole, as vLLM does, though it may be cut."""
    left = max(2, round(40 * float(np.exp(tail * rng.normal())))) - 1
    num_emitted, steps = left + 1, []
    while left > 0:
        kept = next((i for i, chance in enumerate(KEEP) if rng.random() >= chance), len(KEEP))
        steps.append((len(KEEP), kept))
        left -= kept + 1
    return num_emitted, tuple(steps)


def _pace(server, arm, concurrency):
    """Seconds a token."""
    crowd = 1 + 0.1 * np.log2(concurrency)
    if arm.is_baseline:
        return STEP_S * crowd
    gain = server.gains[server.arms.index(arm)]
    return STEP_S * crowd / (server.speedups[concurrency] * gain)


def _trial(prompt, answer, arm, seconds_per_token) -> TrialRecord:
    num_emitted, steps = answer
    return TrialRecord(
        key=TrialKey(prompt_id=f"p{prompt}", turn=0, repeat=0, arm=arm.name),
        prompt_hash=f"hash of p{prompt}",
        labels={"category": "code" if prompt % 2 else "chat"},
        num_prompt_tokens=9,
        num_emitted_tokens=num_emitted,
        finish_reason=FinishReason.EOS,
        ttft_s=TTFT_S,
        decode_s=float(seconds_per_token * (num_emitted - 1)),
        counts=None if arm.is_baseline else counts_of(steps, Evidence.BLOCKS),
        num_retries=0,
    )


def _placed(trial, key, evidence):
    counts = trial.counts
    if counts is not None:
        tells = evidence in {Evidence.BLOCKS, Evidence.HISTOGRAM}
        counts = counts_of(counts.steps, evidence) if tells else None
    return replace(
        trial, key=replace(trial.key, load=key.load), group=key.group, counts=counts, sent_s=0.0
    )


def _window(key, trials, evidence) -> WindowRecord:
    seconds = sum(trial.ttft_s + trial.decode_s for trial in trials)
    steps = [step for trial in trials if trial.counts for step in trial.counts.steps]
    num_emitted = sum(trial.num_emitted_tokens for trial in trials)
    counters = counts_of(steps, evidence) if evidence is Evidence.COUNTERS and steps else None
    return WindowRecord(
        key=key,
        duration_s=seconds / key.load.concurrency,
        num_emitted_tokens=num_emitted,
        mean_in_flight=float(key.load.concurrency),
        counters=counters,
        num_counted_tokens=num_emitted,
        memory_bytes=2**30 if trials[0].counts is None else 2**30 + 2**28,
    )


def _noise(rng, deviation, shape):
    """Log-normal with a mean of 1."""
    return np.exp(deviation * rng.normal(size=shape) - deviation**2 / 2)
