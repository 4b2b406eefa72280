"""Predicted against measured: one replay, then real runs at K = 2, 4 and 8 of every candidate.

    python benchmarks/prediction.py [--limit 60] [--k 2,4,8] [--max-new-tokens 128] [PROMPTS ...]

Prints, for every configuration, τ and speedup predicted and measured, the error of the predicted
speedup, and of how many greedy answers the number of target passes was predicted exactly.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from specmeasure import api, demo
from specmeasure.api.arms import arms_at
from specmeasure.api.candidates import Drafters, NgramSizes, plan_candidates
from specmeasure.estimate.agreement import find_agreement
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.estimates import Estimate, Interval
from specmeasure.records.plan import BASELINE, ModelOptions, Plan
from specmeasure.records.replay import ReplayRequest
from specmeasure.records.request import Request


def shown(estimate: Estimate) -> str:
    if not isinstance(estimate, Interval):
        return "not measured"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=["prompts/"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--k", default="2,4,8")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    lengths = [int(part) for part in options.k.split(",")]
    candidates = plan_candidates(
        Drafters(drafts=[demo.DRAFT], ngrams=[NgramSizes()]), most=max(lengths)
    )
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE, *candidates),
        max_new_tokens=options.max_new_tokens,
        options=ModelOptions(num_threads=options.threads),
    )
    request = Request(
        plan=plan, sources=tuple(options.sources), options=CorpusOptions(limit=options.limit)
    )
    with TemporaryDirectory() as folder:
        replayed = api.start_replay(ReplayRequest(request=request), Path(folder) / "replay")
        arms = arms_at(candidates, lengths)
        real = replace(request, plan=replace(plan, arms=arms))
        run = api.start(real, Path(folder) / "run")
    predictions = predict(replayed, Intervals())
    report = api.conclude(run)
    print(f"A/A {shown(report.estimates.noise_floor)}, {replayed.manifest.environment.cpu}")
    for arm in report.estimates.arms:
        found = find_agreement(replayed, predictions, run, arm, Intervals())
        error = "not known" if found.speedup_error is None else f"{found.speedup_error:+.1%}"
        print(
            f"{arm.name}: tau {shown(found.predicted_length)} predicted, "
            f"{shown(found.measured_length)} measured; speedup {shown(found.predicted_speedup)} "
            f"predicted, {shown(found.measured_speedup)} measured, {error}; "
            f"{found.num_equal_counts} of {found.num_same_answers} answers exactly equal, "
            f"{found.num_other_answers} with other tokens"
        )


if __name__ == "__main__":
    main()
