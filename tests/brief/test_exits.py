"""Early exits on a page: one line each, the best shown elsewhere, and what poor ones need."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from specmeasure.brief.evidence import write_evidence
from specmeasure.brief.exit_plots import exits_figure
from specmeasure.brief.exits import (
    exits_of,
    with_the_best_exit,
    write_own_verification,
    write_poor_exits,
)
from specmeasure.brief.joined import join_arms
from specmeasure.brief.replay import ReplayContent, render_replay, replay_content
from specmeasure.brief.replay_console import replay_summary
from specmeasure.decide import screen
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.costs import CostTable
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.plan import Arm, DraftSampling, Method
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import CandidateFacts, ReplayTrace
from tests.brief import examples
from tests.brief.terminal import printed
from tests.estimate.replays import draft_scores, make_costs, replay_trace

LAYERS = (2, 4, 6, 8, 10)
RATES = {2: 0.1, 4: 0.3, 6: 0.6, 8: 0.8, 10: 0.9}
TEXT = "{http://www.w3.org/2000/svg}text"


def exit_arm(layer: int) -> Arm:
    return Arm(
        name=f"exit {layer}",
        method=Method.EARLY_EXIT,
        num_speculative_tokens=8,
        exit_layer=layer,
    )


def exits_trace(layers: tuple[int, ...] = LAYERS, *, with_others: bool = True) -> ReplayTrace:
    """Exits whose later layers draft better and cost more, beside two drafts and a lookup."""
    base = replay_trace()
    arms = [exit_arm(layer) for layer in layers]
    request = base.manifest.request
    plan = request.request.plan
    others = plan.speculative_arms if with_others else ()
    ratios = {"small": 0.05, "large": 0.2, "ngram": 0.001}
    costs = make_costs(
        {**ratios, **{f"exit {layer}": layer / 12 for layer in layers}}, num_rounds=5, noise=0.01
    )
    scores = {
        f"exit {layer}": tuple(
            draft_scores([RATES[layer] - 0.05 * (place % 2) for place in range(one.num_tokens)])
            for one in base.answers
        )
        for layer in layers
    }
    plan = replace(plan, arms=(plan.arms[0], *others, *arms))
    request = replace(request, request=replace(request.request, plan=plan))
    return replace(
        base,
        manifest=replace(base.manifest, request=request),
        scores={**base.scores, **scores},
        candidates=(*base.candidates, *(CandidateFacts(name=arm.name) for arm in arms)),
        costs=costs,
    )


def content(trace: ReplayTrace, predictions: Predictions) -> ReplayContent:
    return replay_content(
        trace, predictions, screen(predictions, Policy()), (), None, is_elsewhere=False
    )


@pytest.fixture(scope="module")
def trace() -> ReplayTrace:
    return exits_trace()


@pytest.fixture(scope="module")
def predictions(trace: ReplayTrace) -> Predictions:
    return predict(trace, Intervals())


def best_name(predictions: Predictions) -> str:
    return next(one.name for one in predictions.candidates if one.name.startswith("exit"))


def test_every_exit_has_a_line_and_the_fastest_is_marked(trace, predictions):
    """By layer, whatever their speed."""
    rows = content(trace, predictions).exits.rows
    best = best_name(predictions)
    expected = [f"exit {layer}" for layer in LAYERS]

    assert expected == [row[0].removesuffix(" (best)") for row in rows]
    assert [f"{best} (best)"] == [row[0] for row in rows if "(best)" in row[0]]


def test_other_tables_show_the_fastest_exit_alone(trace, predictions):
    """Candidates, lengths and notes have no column or line for the rest."""
    made, best = content(trace, predictions), best_name(predictions)
    shown = {"small", "large", "ngram", best}

    assert shown == {row[0] for row in made.candidates.rows}
    assert shown == set(made.lengths.columns[1:])
    assert 3 == len(made.failure_notes[1:])
    assert f"Of 5 early exits {best} is predicted fastest" in made.exits_note


def test_the_page_and_the_terminal_have_them(trace, predictions):
    """With the figure where it was drawn; on 100 columns."""
    made = content(trace, predictions)
    page = render_replay(made, figures={"lengths": "lengths.svg", "exits": "exits.svg"})

    assert "## Early exits by layer" in page
    assert "(exits.svg)" in page
    assert "exit 10" in printed(replay_summary(made))
    assert "(exits.svg)" not in render_replay(made, figures={})


def test_one_exit_is_a_candidate_like_any_other():
    """No section, no figure, nothing left out."""
    trace = exits_trace((4,))
    predictions = predict(trace, Intervals())
    made = content(trace, predictions)

    assert predictions.candidates == with_the_best_exit(trace, predictions).candidates
    assert "Early exits by layer" not in render_replay(made, figures={})
    assert "" == made.exits_note
    assert exits_figure(exits_of(trace, predictions)) is None


def test_the_figure_goes_over_the_layers(trace, predictions):
    """Every layer is a tick of both panels, and the title names the fastest."""
    drawn = exits_figure(exits_of(trace, predictions))
    assert drawn is not None
    said = [one.text for one in ET.fromstring(drawn).iter(TEXT)]  # noqa: S314 - our own
    best = best_name(predictions).removeprefix("exit ")

    assert all(2 <= said.count(str(layer)) for layer in LAYERS)
    assert any(f"after layer {best} at K = " in (one or "") for one in said)
    assert drawn == exits_figure(exits_of(trace, predictions))


def test_the_figure_of_few_prompts(trace, predictions):
    """Without intervals speeds are still drawn, and acceptance is left blank."""
    unknown = Unmeasured(reason="too few prompts")
    bare = replace(
        predictions,
        candidates=tuple(
            replace(
                one,
                lengths=tuple(
                    replace(found, decode_speedup=unknown, draft_acceptance_rate=unknown)
                    for found in one.lengths
                ),
            )
            for one in predictions.candidates
        ),
    )

    assert b"without interval" in (exits_figure(exits_of(trace, bare)) or b"")


def test_drafts_picked_in_two_ways_are_two_lines_of_one_layer():
    """The table has both; one layer alone is no figure."""
    trace = exits_trace((6, 8), with_others=False)
    plan = trace.manifest.request.request.plan
    both = (
        replace(exit_arm(6), draft_sampling=DraftSampling.GREEDY),
        replace(exit_arm(8), exit_layer=6),
    )
    request = trace.manifest.request
    request = replace(
        request,
        request=replace(request.request, plan=replace(plan, arms=(plan.arms[0], *both))),
    )
    trace = replace(trace, manifest=replace(trace.manifest, request=request))
    predictions = predict(trace, Intervals())

    assert 2 == len(content(trace, predictions).exits.rows)
    assert exits_figure(exits_of(trace, predictions)) is None


def with_own_verifications(costs: CostTable, name: str) -> CostTable:
    rounds = []
    for one in costs.rounds:
        own = tuple(tuple(0.5 * cell for cell in row) for row in one.verify_s)
        drafts = {**one.drafts, name: replace(one.drafts[name], verify_s=own)}
        rounds.append(replace(one, drafts=drafts))
    return replace(costs, rounds=tuple(rounds))


def test_what_verifying_an_exits_drafts_costs_is_told():
    """Its own v(K) in the notes and in its line, half the target's here; silence without it."""
    trace = exits_trace((6, 8))
    before = predict(trace, Intervals())
    trace = replace(trace, costs=with_own_verifications(trace.costs, "exit 8"))
    predictions = predict(trace, Intervals())
    found = next(one for one in predictions.candidates if one.name == "exit 8")
    middle = predictions.costs[len(predictions.costs) // 2]
    ratio = predictions.verify_ratios["exit 8"]
    said = f"{ratio:.2f} for exit 8 at K = {found.choice.best}"
    made = content(trace, predictions)

    assert ratio == pytest.approx(0.5 * middle.verify_ratios[found.choice.best])
    assert said in write_own_verification(predictions)
    assert said in made.costs_notes[1]
    assert f"{ratio:.2f}" == made.exits.rows[1][-1]
    assert "" == write_own_verification(before)


def test_a_poor_exit_says_what_it_would_take():
    """One sentence with the share that is kept, for early exits below one half alone."""
    poor, fair = examples.interval(0.31, 0.28, 0.34), examples.interval(0.55, 0.5, 0.6)
    (said,) = write_poor_exits([(exit_arm(4), poor), (exit_arm(8), fair)])

    assert said.startswith("The target keeps 31.0 % [28, 34] of what exit 4 drafts: ")
    assert said.endswith("LayerSkip would be needed, such as facebook/layerskip-llama3.2-1B.")
    assert [] == write_poor_exits([(exit_arm(4), fair)])
    assert [] == write_poor_exits([(exit_arm(4), Unmeasured(reason="no drafts"))])
    assert [] == write_poor_exits([(examples.DRAFT_4, poor)])


def test_several_poor_exits_say_it_once():
    """Each with its own share, and one advice for all."""
    poor, worse = examples.interval(0.31, 0.28, 0.34), examples.interval(0.2, 0.1, 0.3)
    (said,) = write_poor_exits([(exit_arm(4), poor), (exit_arm(2), worse)])

    assert said.startswith(
        "The target keeps 31.0 % [28, 34] of what exit 4 drafts and 20 % [10, 30] of what exit 2 "
        "drafts: "
    )


def test_a_run_says_so_too():
    """Of an early exit that was run for real, among the evidence."""
    manifest, estimates, decision = examples.go()
    arms = join_arms(manifest, estimates, decision)
    poor = examples.interval(0.31, 0.28, 0.34)
    first = replace(
        arms[0],
        plan=exit_arm(4),
        estimates=replace(arms[0].estimates, draft_acceptance_rate=poor),
    )
    said = write_evidence(manifest, estimates, decision.policy, (first, *arms[1:]))

    assert 1 == sum("models not trained for early exits" in line for line in said)
    assert not any(
        "early exits" in line for line in write_evidence(manifest, estimates, decision.policy, arms)
    )
