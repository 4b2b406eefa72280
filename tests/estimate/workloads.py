"""Simulated workloads with a known speedup, for planning: a pilot's trace, a run's times."""

from dataclasses import dataclass

import numpy as np

from specmeasure.estimate.latency import Times
from specmeasure.records.plan import BASELINE, TrialKey
from specmeasure.records.trace import Trace, TrialRecord
from tests.fakes import DRAFT_4, make_manifest, make_plan

TRUE_STEP_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompts differ in length and in what they gain; trials differ by timing noise."""

    speedup: float
    between: float
    within: float
    heavy_tailed: bool = False  # lengths

    def seconds(self, num_prompts, num_repeats, rng):
        """Tokens [n], baseline and arm seconds [n, r]."""
        sigma = 1.0 if self.heavy_tailed else 0.4
        tokens = np.maximum(2, np.round(60 * np.exp(sigma * rng.normal(size=num_prompts))))
        gain = np.exp(self.between * rng.normal(size=num_prompts) - self.between**2 / 2)
        # each side carries half of the noise's variance
        noise = np.exp(self.within / np.sqrt(2) * rng.normal(size=(2, num_prompts, num_repeats)))
        base = TRUE_STEP_S * tokens[:, None] * noise[0]
        arm = TRUE_STEP_S / self.speedup * (tokens * gain)[:, None] * noise[1]
        return tokens, base, arm


def run_times(workload, num_prompts, num_repeats, rng):
    """What a run's estimator is given."""
    tokens, base, arm = workload.seconds(num_prompts, num_repeats, rng)
    return tuple(
        Times(
            decode_s=seconds.sum(axis=1),
            num_decoded=tokens * num_repeats,
            total_s=seconds.sum(axis=1),
            num_emitted=(tokens + 1) * num_repeats,
            ttft_s=np.zeros(num_prompts),
        )
        for seconds in (base, arm)
    )


def pilot_trace(workload, num_prompts, num_repeats, rng):
    """A pilot's trials."""
    tokens, base, arm = workload.seconds(num_prompts, num_repeats, rng)
    trials = [
        TrialRecord(
            key=TrialKey(prompt_id=str(n), turn=0, repeat=r, arm=name),
            prompt_hash="h",
            labels={"category": "c"},
            num_prompt_tokens=10,
            num_emitted_tokens=int(tokens[n]) + 1,
            ttft_s=0.1,
            decode_s=float(seconds[n, r]),
        )
        for name, seconds in ((BASELINE.name, base), (DRAFT_4.name, arm))
        for n in range(num_prompts)
        for r in range(num_repeats)
    ]
    plan = make_plan(BASELINE, DRAFT_4, num_repeats=num_repeats)
    return Trace(manifest=make_manifest(plan, []), trials=tuple(trials), sealed=True)
