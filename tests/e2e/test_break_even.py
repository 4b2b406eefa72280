"""A real weak draft on a real small target: a replay says NO_GO, and how far it is."""

import json
from pathlib import Path

import pytest

from specmeasure import api
from specmeasure.api.candidates import Drafters, plan_candidates
from specmeasure.records.costs import CostRound, CostTable, DraftCosts
from specmeasure.records.decision import Verdict
from specmeasure.records.plan import BASELINE, ModelOptions, Plan
from specmeasure.records.replay import ReplayRequest
from specmeasure.records.request import Request

WHO = ("Lily", "Ben", "Tom", "Sue", "Max", "Mia")
OPENINGS = ("Once upon a time, {} had a red ball", "{} was sad because the dog", "One day {} saw")
# as timed on a CPU, in plain steps: a draft token costs half a step of this small target
COSTS = CostTable(
    machine="two CPU cores",
    context_lengths=(64,),
    num_rows=(1, 2, 5, 9),
    num_drafts=(1,),
    rounds=(
        CostRound(
            step_s=(1.0,),
            verify_s=((1.1, 1.23, 1.29, 1.36),),
            drafts={"stories260K-draft": DraftCosts(draft_s=((0.5,),), overhead_s=(0.02,))},
        ),
    ),
)


@pytest.mark.slow
def test_a_weak_draft_is_refused_and_told_how_far_it_is(stories: tuple[str, str], tmp_path: Path):
    """Below break-even at every K, the optimistic end of the interval included."""
    target, draft = stories
    source = tmp_path / "stories.txt"
    source.write_text("\n".join(line.format(name) for name in WHO for line in OPENINGS) + "\n")
    candidates = plan_candidates(Drafters(drafts=[draft]), most=8)
    plan = Plan(
        target=target,
        arms=(BASELINE, *candidates),
        max_new_tokens=64,
        options=ModelOptions(device="cpu", num_threads=1),
    )
    request = Request(plan=plan, sources=(str(source),))
    trace = api.start_replay(ReplayRequest(request=request), tmp_path / "replay")
    report = api.conclude_replay(trace, costs=COSTS)
    page = api.write_replay_report(report, tmp_path / "replay").read_text()

    assert Verdict.NO_GO is report.verdict
    for length in report.predictions.candidates[0].lengths:
        assert length.speedup < 1
        assert length.mean_acceptance_length.value < length.break_even_length
    assert page.startswith("# NO_GO (predicted): leave speculation off")
    assert "you need" in page.splitlines()[0]
    document = json.loads((tmp_path / "replay" / "predictions-elsewhere.json").read_text())
    assert "NO_GO" == document["verdict"]
