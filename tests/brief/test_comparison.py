import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from specmeasure.brief.comparison import comparison_content
from specmeasure.brief.pareto import pareto_figure
from specmeasure.brief.regression import regression_content
from specmeasure.brief.side_by_side import (
    comparison_tables,
    regression_table,
    render_comparison,
    render_regression,
)
from specmeasure.records.comparison import (
    ArmChange,
    Candidate,
    ComparedRun,
    Comparison,
    Difference,
    GateOutcome,
    Regression,
    SliceLeader,
)
from specmeasure.records.decision import Policy, Verdict
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.plan import BASELINE
from tests.brief import examples
from tests.brief.examples import DRAFT_4, MIB, NGRAM_8, interval
from tests.brief.terminal import printed, styled

HOSTILE = "a|b `c` <script>x</script> [y](http://z) *k* $m$"
COSTS = examples.draft_arm().costs
NOTHING = Unmeasured(reason="timed on different machines or software (cpu differ)")
MANIFESTS = (examples.manifest(), examples.manifest())


def compared_run(name, **changes):
    made = ComparedRun(
        name=name,
        target="models/tiny-target",
        num_prompts=160,
        num_common_prompts=160,
        num_answers=320,
        num_common_answers=320,
        is_finished=True,
    )
    return replace(made, **changes)


def candidate(arm, *, run="monday", speed=1.42, size=2 * MIB, **changes):
    made = Candidate(
        name=arm,
        run=run,
        arm=arm,
        verdict=Verdict.GO,
        decode_speedup=interval(speed, speed - 0.06, speed + 0.07, level=0.975),
        draft_acceptance_rate=interval(0.713, 0.691, 0.73),
        mean_acceptance_length=interval(2.94, 2.85, 3.02),
        tokens_per_target_pass=interval(2.91, 2.82, 3.0),
        extra_memory_bytes=size,
        on_front=True,
    )
    return replace(made, **changes)


def difference(second, *, ratio=(1.12, 1.05, 1.2), first="draft k=4"):
    return Difference(
        first=first,
        second=second,
        speedup_ratio=interval(*ratio, level=0.983),
        acceptance=interval(0.12, 0.09, 0.15, level=0.983),
        length=interval(0.42, 0.31, 0.53, level=0.983),
    )


def leader(name, *, lead=(1.2, 1.1, 1.3), **changes):
    made = SliceLeader(
        axis="category",
        name=name,
        num_prompts=80,
        leader="draft k=4",
        decode_speedup=interval(1.6, 1.4, 1.8, level=0.99, num_prompts=80),
        runner_up="ngram k=8",
        lead=interval(*lead, level=0.975, num_prompts=80),
    )
    return replace(made, **changes)


def comparison(**changes):
    """A draft on Monday, told apart from n-grams of Friday."""
    made = Comparison(
        runs=(compared_run("monday", num_prompts=200, num_answers=400), compared_run("friday")),
        candidates=(
            candidate("draft k=4"),
            candidate("ngram k=8", run="friday", speed=1.27, size=0),
        ),
        differences=(difference("ngram k=8"),),
        leaders=(leader("booking"), leader("code", lead=(1.02, 0.9, 1.14))),
    )
    return replace(made, **changes)


def content(shown, manifests=MANIFESTS):
    return comparison_content(shown, manifests, COSTS)


def page(shown, manifests=MANIFESTS):
    return render_comparison(content(shown, manifests), figures={"pareto": "pareto.svg"})


@pytest.mark.parametrize(
    "sentence",
    [
        "# GO: turn on `draft k=4` at 1.42× [1.36, 1.49] the target's speed, 1.12× [1.05, 1.20] ",
        "that of ngram k=8\n",
        "Second is ngram k=8 at 1.27× [1.21, 1.34].",
        "On the same 160 prompts draft k=4 decodes at 1.12× [1.05, 1.20] the speed of ngram k=8.",
        "Its draft acceptance rate is 12.0 points higher [9.0, 15.0].",
        "| draft k=4 | monday | GO      | 1.42× [1.36, 1.49] |",
        "| 1.12× [1.05, 1.20]  | 12.0 [9.0, 15.0]   | 0.42 [0.31, 0.53] | yes        |",
        "Told apart from draft k=4: ngram k=8.",
        "On the front of speed against extra memory, by estimates: draft k=4 and ngram k=8.",
        "![Decode speedup against extra memory](pareto.svg)",
        "draft k=4 leads on booking. No candidate is told apart on code.",
        "- Left out of monday: 40 of 200 prompts, which not every run has.\n",
        "- Differences at 98.3 %, corrected for 1 pair of candidates; speedups by",
        "speedups by category at 99 %;",
        "leads at 97.5 %, for 2 slices and all pairs;",
        '"method": "draft_model", "model": "models/tiny-draft", "num_speculative_tokens": 4',
    ],
)
def test_the_page_says_it(sentence):
    """Winner, runner-up and why; differences, front, leaders, what was left out, and settings."""
    assert sentence in page(comparison())


def test_who_is_not_told_apart_is_named_in_the_headline():
    """Between equals the smaller one is pointed at."""
    alike = comparison(differences=(difference("ngram k=8", ratio=(1.02, 0.97, 1.07)),))
    said = page(alike)

    assert "the target's speed, not told apart from ngram k=8\n" in said
    assert "draft k=4 is first by its estimate alone." in said
    assert "Of those not told apart ngram k=8 needs least memory beside its target, 0 B." in said


def test_memory_does_not_recommend_what_the_policy_refuses():
    """A small candidate whose answers diverged is no cheap alternative."""
    refused = replace(comparison().candidates[1], verdict=Verdict.NO_GO)
    alike = comparison(
        candidates=(comparison().candidates[0], refused),
        differences=(difference("ngram k=8", ratio=(1.02, 0.97, 1.07)),),
    )

    assert "needs least memory" not in page(alike)


def test_a_verdict_goes_before_speed():
    """A faster candidate without GO is second, and the page says why."""
    second = candidate("ngram k=8", run="friday", speed=1.6, verdict=Verdict.INCONCLUSIVE)
    shown = comparison(candidates=(candidate("draft k=4"), second))

    assert "draft k=4 is first by its verdict, GO against INCONCLUSIVE." in page(shown)


@pytest.mark.parametrize("verdict", [Verdict.NO_GO, Verdict.INCONCLUSIVE])
def test_settings_on_go_only(verdict):
    """Nothing to paste unless the winner is GO."""
    shown = comparison(
        candidates=tuple(replace(one, verdict=verdict) for one in comparison().candidates)
    )

    assert "To turn it on" not in page(shown)
    assert page(shown).startswith(f"# {verdict.value}: ")


def test_speeds_of_different_machines_are_not_measured():
    """The cell has a footnote, the group says so, and the order is explained."""
    apart = replace(difference("ngram k=8"), speedup_ratio=NOTHING)
    said = page(comparison(differences=(apart,)))

    assert "| ngram k=8      | not measured¹" in said
    assert "- Not measured¹: timed on different machines or software (cpu differ)\n" in said
    assert "Not compared in speed with draft k=4: ngram k=8." in said
    assert "The order of such candidates rests on each run's own speedup" in said


def test_what_differs_between_runs_is_said():
    """Targets, policies, interruptions and missing repeats."""
    other = examples.manifest(
        models=(replace(examples.model("models/huge", num_parameters=9), fingerprint="f" * 64),),
        policy=Policy(min_prompts=5),
    )
    runs = (compared_run("monday", num_answers=640), compared_run("friday", is_finished=False))
    said = page(comparison(runs=runs), (examples.manifest(), other))

    assert (
        "different targets: models/tiny-target (4be1d0c9aa55, float32) and models/huge (f" in said
    )
    assert "these policies differ" in said
    assert "Interrupted, and compared as far as it got: friday." in said
    assert "Compared of monday: 320 of 640 answers of each arm" in said


def test_a_slice_that_none_gains_on_is_left_to_the_target():
    """The fastest candidate can still be slower than none."""
    slow = leader("code", decode_speedup=interval(0.8, 0.7, 0.9, num_prompts=80))

    assert "The target alone is faster than all on code." in page(comparison(leaders=(slow,)))


def test_layout_is_clean():
    """No runs of blank lines, no trailing blanks, one newline at the end; of both pages."""
    for said in (page(comparison()), checked()):
        assert "\n\n\n" not in said
        assert not re.search(r"[ \t]\n", said)
        assert said.endswith("\n")
        assert not said.endswith("\n\n")


def test_hostile_names_stay_text():
    """Arms, runs and slices cannot write markup into the page."""
    arm = replace(DRAFT_4, name=HOSTILE, draft=HOSTILE)
    manifest = examples.manifest(
        plan=replace(examples.manifest().plan, arms=(BASELINE, arm, NGRAM_8))
    )
    shown = comparison(
        runs=(compared_run(HOSTILE), compared_run("friday")),
        candidates=(candidate(HOSTILE, run=HOSTILE), *comparison().candidates[1:]),
        differences=(difference("ngram k=8", first=HOSTILE),),
        leaders=(leader(HOSTILE, leader=HOSTILE),),
    )
    html = MarkdownIt("commonmark").enable("table").render(page(shown, (manifest, manifest)))

    assert not re.search("<(script|a|em)[ >]", html)
    assert "&lt;script&gt;" in html


def test_the_terminal_shows_lines_whole():
    """100 columns hold every line of both; the verdict leads in its colour."""
    for shown in (comparison_tables(content(comparison())), regression_table(check())):
        text = printed(shown)

        assert max(map(cell_len, text.splitlines())) <= 100
        assert "…" not in text
    assert ("GO", "bold green") == styled(comparison_tables(content(comparison())))[0]
    assert ("FELL:", "bold red") == styled(regression_table(check()))[0]


def test_figure_names_the_front():
    """Text stays text; the title says who is beaten by none."""
    svg = pareto_figure(comparison())
    root = ET.fromstring(svg or b"")  # noqa: S314 - our own output
    said = [
        "".join(one.itertext()).strip() for one in root.iter("{http://www.w3.org/2000/svg}text")
    ]

    assert "Beaten by none in speed and memory: draft k=4 and ngram k=8" in said
    assert {"draft k=4", "ngram k=8"} <= set(said)
    assert svg == pareto_figure(comparison())


def test_nothing_placed_no_figure():
    """Without memory or speed there is no place on the front."""
    unknown = tuple(
        replace(one, extra_memory_bytes=None, on_front=None) for one in comparison().candidates
    )

    assert pareto_figure(comparison(candidates=unknown)) is None


def regression(*, acceptance=(-0.04, -0.06, -0.02), outcome=GateOutcome.FELL, **changes):
    change = ArmChange(
        arm="draft k=4",
        old_arm="draft k=4",
        difference=replace(difference("draft k=4"), acceptance=interval(*acceptance)),
        verdict=Verdict.GO,
        old_verdict=Verdict.GO,
        outcome=outcome,
    )
    made = Regression(
        new=compared_run("friday"),
        old=compared_run("monday"),
        fail_if_lower=0.02,
        changes=(replace(change, **changes),),
        only_new=(),
        only_old=("ngram k=8",),
    )
    return made if outcome else replace(made, fail_if_lower=None)


def check(**changes):
    return regression_content(regression(**changes), MANIFESTS)


def checked(**changes):
    return render_regression(check(**changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "# FELL: acceptance fell by more than 2 points with draft k=4\n"),
        ({}, "- draft k=4: acceptance fell 4.0 points [2.0, 6.0]; decision unchanged (GO)\n"),
        ({}, "- Only in monday, and not compared: ngram k=8.\n"),
        ({}, "at 95 %, corrected for 1 arm."),
        ({"acceptance": (0.04, 0.02, 0.06)}, "acceptance rose 4.0 points [2.0, 6.0]"),
        ({"acceptance": (0.0, 0.0, 0.0)}, "shows no change, 0.00 points [0.00, 0.00]"),
        ({"outcome": GateOutcome.OPEN}, "# OPEN: whether acceptance fell by more than 2 points"),
        ({"outcome": GateOutcome.HELD}, "# HELD: acceptance did not fall by more than 2 points"),
        ({"outcome": None}, "# friday against monday\n"),
        ({"verdict": Verdict.NO_GO}, "decision changed from GO to NO_GO"),
        ({"old_arm": "v1 k=4"}, "draft k=4 (was v1 k=4): acceptance"),
    ],
)
def test_the_check_says_it(changes, sentence):
    """What moved, by how much, what it does to the decision, and the gate's outcome."""
    assert sentence in checked(**changes)
