"""Streams of a simulated server with continuous batching: when each answer's tokens arrive.

A pass takes a fixed time and more for every token in it, so that it is faster where a window runs
out of requests; the prompts of new requests are read in a pass that makes the others wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from specmeasure.records.plan import BASELINE, Arm, TrialKey
from specmeasure.records.serving import Load, Serving, ServingEngine
from specmeasure.records.trace import FinishReason, Trace, TrialRecord
from tests.fakes import make_manifest, make_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a pass costs."""

    pass_s: float = 0.005  # of one token
    token_s: float = 0.0005  # of each further one
    prompt_token_s: float = 0.00005


@dataclass(slots=True)
class _Request:
    sent_s: float
    num_tokens: int
    num_prompt_tokens: int
    first_s: float = 0.0
    num_emitted: int = 0


def stream(
    engine: Engine,
    lengths: Sequence[tuple[int, int]],
    concurrency: int,
    drafts: tuple[int, float],
    rng,
):
    """Prompt and answer lengths [R] → (ttft_s, decode_s) [R] of one window in a closed loop.

    ``drafts`` is K and the chance that a draft is kept.
    """
    most, chance = drafts
    waiting, active, ended, now = list(lengths), [], [], 0.0
    while waiting or active:
        new = [_Request(now, *waiting.pop(0)) for _ in range(concurrency - len(active)) if waiting]
        num_rows = len(active) * (most + 1) + len(new)
        read = sum(one.num_prompt_tokens for one in new) * engine.prompt_token_s
        now += engine.pass_s + (num_rows - 1) * engine.token_s + read
        for one in active:
            kept = int((rng.random(most) < chance).cumprod().sum())
            one.num_emitted = min(one.num_tokens, one.num_emitted + kept + 1)
        for one in new:
            one.first_s, one.num_emitted = now, 1
        active += new
        ended += [(one, now) for one in active if one.num_emitted == one.num_tokens]
        active = [one for one in active if one.num_emitted < one.num_tokens]
    return [(one.num_tokens, one.first_s - one.sent_s, end - one.first_s) for one, end in ended]


def streamed_trace(
    engine: Engine, arm: Arm, *, chance: float, concurrency: int, seed: int
) -> Trace:
    """Ten windows of twice as many requests as are in flight, short and long ones."""
    rng = np.random.default_rng(seed)
    load = Load(concurrency=concurrency)
    trials = []
    for group in range(10):
        num = 2 * concurrency
        lengths = [
            (
                max(2, round(60 * float(np.exp(rng.normal())))),
                round(300 * float(np.exp(rng.normal()))),
            )
            for _ in range(num)
        ]
        for own in (BASELINE, arm):
            drafts = (own.num_speculative_tokens, chance)
            for place, (num_tokens, ttft_s, decode_s) in enumerate(
                stream(engine, lengths, concurrency, drafts, rng)
            ):
                key = TrialKey(
                    prompt_id=f"p{group * num + place}", turn=0, repeat=0, arm=own.name, load=load
                )
                trials.append(_trial(key, group, num_tokens, ttft_s, decode_s))
    serving = Serving(engine=ServingEngine.VLLM, loads=(load,))
    manifest = make_manifest(make_plan(BASELINE, arm, serving=serving), [])
    return Trace(manifest=manifest, trials=tuple(trials), sealed=True)


def lumped(trial: TrialRecord, read_s: float = 0.00003) -> TrialRecord:
    """The same request where all its tokens arrived at its end; ``read_s`` a token."""
    decode_s = read_s * (trial.num_emitted_tokens - 1)
    total_s = trial.ttft_s + trial.decode_s
    return replace(trial, ttft_s=total_s - decode_s, decode_s=decode_s)


def _trial(key, group, num_tokens, ttft_s, decode_s) -> TrialRecord:
    return TrialRecord(
        key=key,
        prompt_hash=f"hash of {key.prompt_id}",
        labels={"category": "chat"},
        num_prompt_tokens=9,
        num_emitted_tokens=num_tokens,
        ids_hash=key.prompt_id,
        finish_reason=FinishReason.EOS,
        ttft_s=ttft_s,
        decode_s=decode_s,
        group=group,
        num_retries=0,
    )
