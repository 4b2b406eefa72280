"""Runs over the same prompts whose true differences are known."""

from collections.abc import Sequence
from dataclasses import replace

from specmeasure.estimate.shared_prompts import Run
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import BASELINE, DecodeSettings
from specmeasure.records.trace import Trace, TrialRecord
from tests.fakes import (
    DRAFT_4,
    FakeEngine,
    Traffic,
    make_block,
    make_manifest,
    make_plan,
    make_trial,
)

LENGTHS = (5, 8, 12, 16, 24)  # tokens; short, so that many runs are simulated in seconds
RATES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SAME = Traffic(lengths=LENGTHS, acceptance_rates=RATES)
WORSE = Traffic(
    lengths=LENGTHS, acceptance_rates=tuple(rate - 0.0433 for rate in RATES)
)  # -4 points


def run(trials: Sequence[TrialRecord], *, name: str = "run", arms=(DRAFT_4,), **changes) -> Run:
    """A finished run of these trials; ``changes`` are of its plan."""
    prompts = {trial.key.prompt_id for trial in trials}
    manifest = make_manifest(make_plan(BASELINE, *arms, **changes), [])
    manifest = replace(manifest, num_planned_trials=len(prompts) * (1 + len(arms)))
    return Run(name=name, trace=Trace(manifest=manifest, trials=tuple(trials), sealed=True))


def observed_run(
    prompts: Sequence[Prompt], traffic: Traffic, *, seed: int, noise: int, is_timed: bool = True
) -> Run:
    """A run of one draft arm.

    Args:
        prompts: what is asked.
        traffic: how long answers are, and how well they are drafted; a prompt keeps its rank.
        seed: of the target: the answers and the rank of every prompt.
        noise: seed of what differs from run to run: tempo, and which drafts are kept.
        is_timed: whether the baseline is simulated too; it costs most.
    """
    engine = FakeEngine(plan=make_plan(BASELINE, DRAFT_4), seed=seed, traffic=traffic)
    settings = DecodeSettings(max_new_tokens=engine.plan.max_new_tokens, seed=noise)
    trials = []
    for prompt in prompts:
        context = engine.context_ids(prompt, [])
        if not is_timed:
            trials.append(make_trial(prompt.prompt_id, make_block(0, 0), arm=BASELINE.name))
        for arm in engine.plan.arms if is_timed else [DRAFT_4]:
            seen = engine.observe(context, arm, settings)
            trials.append(
                make_trial(
                    prompt.prompt_id,
                    arm=arm.name,
                    blocks=seen.blocks,
                    num_emitted_tokens=len(seen.token_ids),
                    decode_s=seen.decode_s,
                )
            )
    return run(trials)
