from dataclasses import replace
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from markdown_it import MarkdownIt

from specmeasure.brief.replay import ConfirmedRun, ReplayContent, render_replay, replay_content
from specmeasure.brief.replay_console import replay_summary
from specmeasure.brief.replay_evidence import write_facts
from specmeasure.brief.replay_plots import lengths_figure
from specmeasure.decide import screen
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.agreement import Agreement
from specmeasure.records.corpus import Dropped
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.machine import Worker
from specmeasure.records.plan import Arm, Method, Sampling
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import Plausibility, ReplayTrace
from tests.brief import examples
from tests.brief.terminal import printed
from tests.estimate.replays import draft_scores, make_costs, replay_trace
from tests.fakes import make_environment

HOSTILE = "|<b>"
READER = MarkdownIt("commonmark").enable("table")
TEXT = "{http://www.w3.org/2000/svg}text"
FIGURES = {"lengths": "lengths.svg"}


@pytest.fixture(scope="module")
def trace() -> ReplayTrace:
    return replay_trace()


@pytest.fixture(scope="module")
def predictions(trace) -> Predictions:
    return predict(trace, Intervals())


def content(
    trace: ReplayTrace,
    predictions: Predictions | None = None,
    *,
    agreements: tuple[Agreement, ...] = (),
    confirmed: ConfirmedRun | None = None,
    elsewhere: str | None = None,
) -> ReplayContent:
    predictions = predictions or predict(trace, Intervals())
    return replay_content(
        trace,
        predictions,
        screen(predictions, Policy()),
        agreements,
        confirmed,
        is_elsewhere=elsewhere is not None,
        machine=elsewhere,
    )


def page(trace: ReplayTrace, predictions: Predictions | None = None, **given) -> str:
    return render_replay(content(trace, predictions, **given), figures=FIGURES)


def agreement(candidate: str = "small", k: int = 3, **changes) -> Agreement:
    values = {
        "candidate": candidate,
        "num_speculative_tokens": k,
        "predicted_length": examples.interval(2.10, 1.88, 2.31, num_prompts=30),
        "measured_length": examples.interval(2.11, 1.89, 2.32, num_prompts=30),
        "length_difference": examples.interval(0.012, -0.011, 0.035, num_prompts=30),
        "predicted_speedup": examples.interval(1.47, 1.31, 1.61, num_prompts=30),
        "measured_speedup": examples.interval(1.49, 1.40, 1.58, num_prompts=30),
        "speedup_error": 1.47 / 1.49 - 1,
        "num_same_answers": 88,
        "num_other_answers": 0,
        "num_equal_counts": 88,
        "unequal": (),
    }
    return Agreement(**{**values, **changes})


def slow_trace(**changes) -> ReplayTrace:
    """Drafts that cost as much as the target's steps."""
    costs = make_costs({"small": 1.0, "large": 1.1, "ngram": 1.2}, num_rounds=5, noise=0.01)
    return replace(replay_trace(costs=costs), **changes)


def early_exit_trace(trace: ReplayTrace, *, chance: float) -> ReplayTrace:
    """The candidate "small" made an early exit, with the same chance everywhere but at one token.

    A part of the tokens must differ, or nothing varies.
    """
    request = trace.manifest.request
    plan = request.request.plan
    exit_arm = Arm(name="small", method=Method.EARLY_EXIT, num_speculative_tokens=8, exit_layer=2)
    arms = tuple(exit_arm if arm.name == "small" else arm for arm in plan.arms)
    request = replace(request, request=replace(request.request, plan=replace(plan, arms=arms)))
    scores = tuple(
        draft_scores([chance - 0.1 * (place % 2) for place in range(answer.num_tokens)])
        for answer in trace.answers
    )
    return replace(
        trace,
        manifest=replace(trace.manifest, request=request),
        scores={**trace.scores, "small": scores},
    )


def test_without_a_real_run_never_go(trace, predictions):
    """Predictions alone say INCONCLUSIVE, that nothing was run, and how to settle it."""
    lines = page(trace, predictions).splitlines()

    assert lines[0].startswith("# INCONCLUSIVE (predicted): `small k=3` is predicted at 1.46× [")
    assert lines[0].endswith("confirm with --confirm 1")
    assert "Nothing was run for real: " in lines[2]
    assert "To turn it on" not in "\n".join(lines)


def test_no_go_says_how_far():
    """A NO_GO names τ that the prompts give and τ that breaks even, and that no K does."""
    predictions = predict(slow_trace(), Intervals())
    best = predictions.candidates[0].best
    lines = page(slow_trace(), predictions).splitlines()
    have = f"you have τ {best.mean_acceptance_length.value:.2f}"

    assert lines[0].startswith("# NO_GO (predicted): leave speculation off; with `")
    assert lines[0].endswith(f" {have}, you need {best.break_even_length:.2f} to break even")
    assert "No candidate is predicted to break even at any K from 1 to 8." in lines[2]


def test_acceptance_out_of_reach():
    """Where even full acceptance would not pay, no percentage is asked for."""
    trace = slow_trace()
    predictions = predict(trace, Intervals())
    fastest = predictions.candidates[0]
    best = replace(fastest.best, break_even_acceptance=1.2)
    lengths = tuple(
        best if one.num_speculative_tokens == fastest.choice.best else one
        for one in fastest.lengths
    )
    changed = replace(fastest, lengths=lengths)
    said = content(trace, replace(predictions, candidates=(changed, *predictions.candidates[1:])))

    assert "breaking even is out of reach there" in said.summary
    assert "out of reach" == said.candidates.rows[0][8]


def test_too_slow_but_above_one():
    """A NO_GO above 1.00 does not claim that break-even is missed."""
    trace = slow_trace()
    predictions = predict(trace, Intervals())
    fastest = predictions.candidates[0]
    have = fastest.best.mean_acceptance_length.value
    best = replace(fastest.best, break_even_length=have - 0.1)
    lengths = tuple(
        best if one.num_speculative_tokens == fastest.choice.best else one
        for one in fastest.lengths
    )
    changed = replace(fastest, lengths=lengths)
    said = content(trace, replace(predictions, candidates=(changed, *predictions.candidates[1:])))

    assert f"{have - 0.1:.2f} breaks even, but" in said.headline.after


def test_go_of_a_real_run(trace, predictions):
    """A real run's GO names what was measured and predicted, and how to turn it on."""
    confirmed = ConfirmedRun(**dict(zip(ConfirmedRun.__slots__, examples.go(), strict=True)))
    text = page(trace, predictions, agreements=(agreement("draft", 4),), confirmed=confirmed)

    assert text.startswith(
        "# GO: turn on `draft k=4`: measured 1.42× [1.35, 1.49], predicted 1.47×\n"
    )
    assert "## To turn it on" in text
    assert '"num_speculative_tokens": 4' in text


@pytest.mark.parametrize("name", ["no_go", "inconclusive"])
def test_other_verdicts_of_a_real_run(trace, predictions, name):
    """The real run's verdict stands before the prediction, with its rule, and nothing to paste."""
    records = getattr(examples, name)()
    confirmed = ConfirmedRun(**dict(zip(ConfirmedRun.__slots__, records, strict=True)))
    text = page(trace, predictions, confirmed=confirmed)

    assert text.startswith(f"# {records[-1].verdict.value}: ")
    assert "(predicted)" not in text.splitlines()[0]
    assert "; measured " in text.splitlines()[0]
    assert "To turn it on" not in text


def test_agreement_is_shown(trace, predictions):
    """Predicted stands beside measured, with the error and the exactly equal answers."""
    made = agreement(num_other_answers=2, unequal=("p1, turn 1: 12 passes, 11 predicted",))
    row = content(trace, predictions, agreements=(made,)).agreements.rows[0]

    assert ("small k=3", "-1.3 %", "88 of 88 answers") == (row[0], row[6], row[7])
    text = page(trace, predictions, agreements=(made,))
    assert "2 greedy answers came out with other tokens" in text
    assert "p1, turn 1: 12 passes, 11 predicted" in text


def test_no_agreement_no_section(trace, predictions):
    """A replay that was not confirmed compares nothing."""
    assert "Predicted against measured" not in page(trace, predictions)


def test_elsewhere_is_said(trace, predictions):
    """At another machine's costs the page says so, and compares no speeds with ours."""
    said = content(trace, predictions, agreements=(agreement(),), elsewhere="a <big> GPU")
    text = render_replay(said, figures={})

    assert "nothing was timed there" in text.splitlines()[2]
    assert "costs of another machine, a \\<big\\> GPU" in text
    assert "confirm on that machine" in text.splitlines()[0]
    assert "–" == said.agreements.rows[0][6]
    assert "Timed on" not in text


def test_one_round_of_costs_is_said():
    """Costs that were timed once have no known error, and the page does not hide it."""
    text = page(replay_trace(costs=make_costs()))

    assert "in 1 round: timed once, so that the error of the costs is not known" in text


@pytest.mark.parametrize(
    ("alike", "said"),
    [
        ((3,), "K = 3 is told apart from every other K for small."),
        ((3, 4, 5), "K = 3, 4 and 5 are indistinguishable for small."),
        (tuple(range(1, 9)), "Every K from 1 to 8 is indistinguishable for small"),
    ],
)
def test_indistinguishable_lengths(trace, predictions, alike, said):
    """One sentence says which Ks the prompts cannot choose between."""
    assert said in page(trace, chosen(predictions, indistinguishable=alike))


@pytest.mark.parametrize(("gain", "worth"), [(0.021, ": not worth building"), (0.2, ".")])
def test_oracle(trace, predictions, gain, worth):
    """What the best possible choice of K by request would gain is stated, and judged if small."""
    gained = f"gain at most {'2.1' if gain < 0.1 else '20'} % over K = 3{worth}"

    assert gained in page(trace, chosen(predictions, oracle_gain=gain))


def test_halves_that_differ(trace, predictions):
    """Halves that choose unlike Ks are named; halves that agree are no news."""
    assert "choose K = 2 and 5 for small" in page(trace, chosen(predictions, chosen_by_half=(2, 5)))
    assert "for small" not in halves(page(trace, chosen(predictions, chosen_by_half=(3, 3))))


def test_largest_length_is_the_fastest(trace, predictions):
    """Where the search ended at its edge, the page says to look further."""
    assert "raise --max-k" in page(trace, chosen(predictions, best=8))
    assert "raise --max-k" not in page(trace, predictions)


def test_formula_error_has_its_sign(trace, predictions):
    """The geometric formula is said to promise too much exactly where it is above τ."""
    best = predictions.candidates[0].best
    said = content(trace, predictions).failure_notes[0]
    wanted = "much" if best.geometric_length > best.mean_acceptance_length.value else "little"

    assert f"τ {best.geometric_length:.2f} at K = 3" in said
    assert f" % too {wanted}." in said


def test_costliest_class(trace, predictions):
    """The token class with most rejections is named."""
    parts = predictions.candidates[0].disagreement.parts
    worst = max(
        (part for part in parts if part.axis == "token class"),
        key=lambda part: part.share_of_rejections,
    )

    assert f"Most is lost on {worst.name}: " in content(trace, predictions).failure_notes[0]


@pytest.mark.parametrize(("chance", "is_poor"), [(0.3, True), (0.9, False)])
def test_poor_early_exit(trace, chance, is_poor):
    """An early exit that seldom hits is explained by its training; another is not."""
    text = page(early_exit_trace(trace, chance=chance))

    assert is_poor == ("models not trained for early exits" in text)
    assert "small: the target's first 2 layers" in text


def test_plausibility_of_recorded_responses(trace, predictions):
    """Recorded responses come with how well they fit the target."""
    fit = Plausibility(
        num_answers=30,
        num_other_greedy_answers=1,
        num_tokens=1295,
        mean_rank=0.42,
        num_sampled_tokens=1200,
        num_impossible_tokens=3,
        mean_log_prob=-0.912,
        expected_log_prob=-0.905,
        z_score=-1.2,
    )
    recording = replace(trace.recording, plausibility=fit, generation_s=None, scoring_s=2.0)
    request = replace(trace.manifest.request, use_references=True)
    manifest = replace(trace.manifest, request=request)
    text = page(replace(trace, recording=recording, manifest=manifest), predictions)

    assert "30 recorded responses" in text
    assert "mean rank of a token 0.42" in text
    assert "-0.912 nats, of the target's own -0.905; 1.2 standard errors apart" in text
    assert "Nothing was generated; scoring and timing took 2.00 s." in text
    assert "recorded in batches" not in text


def test_what_was_left_out_is_counted(trace, predictions):
    """Rows of the corpus and turns of the recording are counted by reason, without their places."""
    dropped = Dropped(reason="empty", num_rows=2, places=("a.jsonl:17",))
    recording = replace(trace.recording, left_out=(replace(dropped, reason="no response"),))
    corpus = replace(trace.manifest.corpus, dropped=(dropped,))
    manifest = replace(trace.manifest, corpus=corpus, warnings=("busy *machine*",))
    text = page(replace(trace, recording=recording, manifest=manifest), predictions)

    assert "4 rows or turns left out: 2 × empty; 2 × no response." in text
    assert "Warning: busy \\*machine\\*" in text
    assert "a.jsonl" not in text


def test_workers_are_told_by_node(trace):
    """How many there were and on what; a replay in one process has none."""
    one = Worker(number=0, node="alpha", environment=make_environment())
    other = Worker(number=1, node="beta", environment=make_environment(cpu="a slow CPU"))
    workers = (one, other, replace(one, number=2))
    shared = replace(trace, manifest=replace(trace.manifest, workers=workers))
    told = {fact.label: fact.text for fact in write_facts(shared)}

    assert "Workers" not in {fact.label for fact in write_facts(trace)}
    assert told["Workers"] == (
        "3, of them 2 on alpha: a CPU, 4 cores, 2 threads; 1 on beta: a slow CPU, 4 cores, "
        "2 threads"
    )


def test_sampled_answers_are_expectations():
    """Only greedy answers are said to be counted exactly."""
    text = page(replay_trace(sampling=Sampling(temperature=0.7)))

    assert "all 30 sampled answers are expectations" in text
    assert "greedy answers are counted" not in text


def test_few_prompts_have_no_interval():
    """A prediction without an interval says so, and why; it is never given one."""
    said = content(replay_trace(num_prompts=3))

    assert "without interval" in said.headline.after
    assert "without interval¹" in said.candidates.rows[0][3]
    assert said.footnotes[0].startswith("Not measured¹: ")


def test_hostile_candidate_stays_text(trace, predictions):
    """A candidate's name cannot split a table's cell or write markup."""
    text = page(*renamed(trace, predictions, HOSTILE), agreements=(agreement(HOSTILE),))
    html = READER.render(text)

    assert "<b>" not in html
    assert "<td>|&lt;b&gt;</td>" in html
    assert "`|<b> k=3`" in text.splitlines()[0]


def test_layout_is_clean(trace, predictions):
    """No runs of blank lines, no trailing blanks, one newline at the end."""
    for text in (
        page(trace, predictions, agreements=(agreement(),)),
        render_replay(content(trace, predictions), figures={}),
    ):
        assert "\n\n\n" not in text
        assert " \n" not in text
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


@pytest.mark.parametrize("name", ["small", "x" * 80, HOSTILE])
def test_console_fits(trace, predictions, name):
    """A terminal of 100 columns holds every line, whatever a candidate is called."""
    trace, predictions = renamed(trace, predictions, name)
    made = agreement(name, num_other_answers=1)
    text = printed(replay_summary(content(trace, predictions, agreements=(made,))))

    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith("INCONCLUSIVE (predicted): ")


def test_console_explains_its_own_footnotes():
    """Of the footnotes, a terminal shows those whose marks it shows."""
    trace = replay_trace()
    shown = printed(replay_summary(content(trace)))
    few = printed(replay_summary(content(replay_trace(num_prompts=3))))

    assert "Not measured" not in shown
    assert "Not measured¹" in few


def test_figure_is_the_same_bytes(predictions):
    """The figure has no date and no random ids, whatever the user's settings."""
    first = lengths_figure(predictions, (agreement(),), demanded=1.1)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        second = lengths_figure(predictions, (agreement(),), demanded=1.1)

    assert first is not None
    assert first == second
    assert b"<dc:date>" not in first


def test_figure_says_what_it_shows(predictions):
    """Title, thresholds and what was measured are letters in the figure."""
    said = letters(lengths_figure(predictions, (agreement(),), demanded=1.1))

    assert any(line.startswith("small is predicted fastest at K = 3: 1.46×") for line in said)
    assert {"no gain", "demanded", "small", "ngram", "small, measured"} <= set(said)


def test_unmeasured_point_is_not_drawn(predictions):
    """What the real run did not measure has no point."""
    nothing = agreement(measured_speedup=Unmeasured(reason="off"))
    said = letters(lengths_figure(predictions, (nothing,), demanded=1.1))

    assert "small, measured" not in said


def test_figure_without_candidates(predictions):
    """A figure without a line is no figure."""
    assert lengths_figure(replace(predictions, candidates=()), (), demanded=1.1) is None


def chosen(predictions: Predictions, **changes) -> Predictions:
    """The fastest candidate's choice, changed."""
    fastest, *others = predictions.candidates
    return replace(
        predictions,
        candidates=(replace(fastest, choice=replace(fastest.choice, **changes)), *others),
    )


def halves(text: str) -> str:
    return " ".join(part for part in text.split(". ") if part.startswith("Halves"))


def renamed(
    trace: ReplayTrace, predictions: Predictions, name: str
) -> tuple[ReplayTrace, Predictions]:
    """The candidate "small" called otherwise."""
    request = trace.manifest.request
    plan = request.request.plan
    arms = tuple(replace(arm, name=name) if arm.name == "small" else arm for arm in plan.arms)
    request = replace(request, request=replace(request.request, plan=replace(plan, arms=arms)))
    ratios = {name if one == "small" else one: c for one, c in predictions.draft_ratios.items()}
    fastest, *others = predictions.candidates
    return (
        replace(trace, manifest=replace(trace.manifest, request=request)),
        replace(
            predictions, candidates=(replace(fastest, name=name), *others), draft_ratios=ratios
        ),
    )


def letters(svg: bytes | None) -> list[str]:
    assert svg is not None
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    return ["".join(element.itertext()).strip() for element in root.iter(TEXT)]
