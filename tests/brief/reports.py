"""Records that fill every figure, table and token of a report. No number was measured."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from specmeasure.brief.canvas import Picture
from specmeasure.brief.content import brief_content
from specmeasure.brief.html import render_html
from specmeasure.brief.tokens import Detokenise, show_trials
from specmeasure.records.decision import SliceVerdict, Verdict
from specmeasure.records.estimates import ArmEstimates, SpeedStep, Steadiness, Way
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method, Plan
from specmeasure.records.trace import TokenProbs, Trace, TrialRecord
from tests.brief import examples
from tests.brief.examples import Records, interval

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>]]>javascript:alert(3)"
SPEEDS = {2: 1.31, 4: 1.42, 8: 1.08}  # of the draft, by K


def ratios(middle: float, number: int) -> tuple[float, ...]:
    dice = random.Random(number)
    return tuple(sorted(middle * dice.lognormvariate(0, 0.25) for _ in range(number)))


def steadiness(num_cycles: int, *steps: SpeedStep) -> Steadiness:
    dice = random.Random(num_cycles)
    pace = tuple(dice.gauss(1.0, 0.01) for _ in range(num_cycles))
    return Steadiness(pace=pace, steps=steps, outliers=(), num_outliers=3)


def draft_at(length: int, speed: float, *, name: str, **changes: Any) -> ArmEstimates:
    """The example's draft arm at another K."""
    positions = tuple(
        interval(0.8**place, 0.7**place, 0.85**place) for place in range(1, length + 1)
    )
    return examples.draft_arm(
        name=f"{name} k={length}",
        num_speculative_tokens=length,
        decode_speedup=interval(speed, speed - 0.05, speed + 0.06),
        decode_speedup_corrected=interval(speed, speed - 0.07, speed + 0.08, level=0.99),
        acceptance_survival=positions,
        conditional_acceptance=positions,
        prompt_speedups=ratios(speed, 160),
        num_prompt_speedups=160,
        **changes,
    )


def ways(draft: str) -> tuple[Way, ...]:
    """The draft leads, the lookup follows."""
    first = Way(
        name="draft model",
        arm=draft,
        num_arms=3,
        decode_speedup=interval(1.42, 1.35, 1.5),
        lead=None,
        extra_memory_bytes=629_146,
    )
    lead = interval(1.6, 1.48, 1.71)
    return first, replace(first, name="lookup", arm="ngram k=8", num_arms=1, lead=lead)


def rich(*, name: str = "draft", category: str = "booking") -> Records:
    """Three Ks of a draft and an n-gram arm, all of it measured; GO at K = 4."""
    made, found, decision = examples.go()
    slices = examples.draft_arm().slices
    slices = (replace(slices[0], name=category), *slices[1:])
    arms = [draft_at(k, speed, name=name, slices=slices) for k, speed in SPEEDS.items()]
    ngram = examples.ngram_arm(prompt_speedups=ratios(0.88, 160), num_prompt_speedups=160)
    verdicts = (
        SliceVerdict(axis="category", name=category, verdict=Verdict.GO),
        *decision.arms[0].slices[1:],
    )
    decided = [replace(decision.arms[0], arm=arm.name, slices=verdicts) for arm in arms]
    chosen = next(one for one in decided if one.arm == f"{name} k=4")
    plans = tuple(
        Arm(
            name=f"{name} k={k}",
            method=Method.DRAFT_MODEL,
            num_speculative_tokens=k,
            draft="models/tiny-draft",
        )
        for k in SPEEDS
    )
    plan = replace(made.plan, arms=(BASELINE, BASELINE_AGAIN, *plans, examples.NGRAM_8))
    others = [one for one in decided if one is not chosen]
    return (
        replace(made, plan=plan),
        replace(
            found,
            arms=(*arms, ngram),
            steadiness=steadiness(160, SpeedStep(cycle=90, ratio=1.15)),
            ways=ways(f"{name} k=4"),
        ),
        replace(decision, arm=chosen.arm, arms=(chosen, *others, decision.arms[1])),
    )


def kept_trial(
    prompt_id: str = "p-017", arm: str = "draft k=4", *, category: str = "booking"
) -> TrialRecord:
    """The example's trial with its text and the chances of its tokens."""
    trial = examples.trial(with_text=True, arm=arm)
    probs = TokenProbs(
        target=(0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19),
        draft=(0.5,) * 9,
        rejected_target=(None, 0.04, None, None),
        rejected_draft=(None, 0.61, None, None),
    )
    assert trial.checks
    return replace(
        trial,
        key=replace(trial.key, prompt_id=prompt_id),
        labels={"category": category},
        prompt_ids=(20, 21),
        checks=replace(trial.checks, token_probs=probs),
    )


def kept_trace(*trials: TrialRecord, include_text: bool = True) -> Trace:
    made = examples.trace(*trials)
    plan: Plan = replace(rich()[0].plan, include_text=include_text)
    return replace(made, manifest=replace(made.manifest, plan=plan))


def spell(ids: Any) -> str:
    """A tokenizer whose token 7 is hostile."""
    return "".join(HOSTILE if token == 7 else f" w{token}" for token in ids)


def html(
    records: Records,
    trace: Trace | None = None,
    detokenise: Detokenise | None = None,
    *,
    figures: Mapping[str, Picture] | None = None,
) -> str:
    """The report of these records, with an answer's tokens where a trace is given."""
    shown = show_trials(trace, detokenise) if trace else None
    return render_html(brief_content(*records), figures or {}, shown)
