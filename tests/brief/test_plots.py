import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from specmeasure.brief.canvas import Picture, assign_looks, styled
from specmeasure.brief.figures import FIGURES, draw_figures
from specmeasure.brief.figures_blocks import blocks_figure
from specmeasure.brief.figures_drift import drift_figure
from specmeasure.brief.figures_lengths import lengths_figure
from specmeasure.brief.figures_prompts import prompts_figure
from specmeasure.brief.plots import acceptance_figure, speedup_figure
from specmeasure.records.decision import Decision, SliceVerdict, Verdict
from specmeasure.records.estimates import Costs, Estimates, SpeedStep, Unmeasured
from tests.brief import examples
from tests.brief.reports import ratios, rich, steadiness

NAMES = ("go", "no_go", "inconclusive")
TEXT = "{http://www.w3.org/2000/svg}text"
LEGIBLE_PX = 9  # in a figure 691 pixels wide; at half size as large as a footnote
LONG = "draft:/srv/models/a-very-long-folder-name/of-a-model-with-a-very-long-name-of-its-own"


def letters(picture: Picture | None) -> list[str]:
    """All text of a figure; raises where it is not XML."""
    assert picture is not None
    root = ET.fromstring(picture.svg)  # noqa: S314 - our own output
    return ["".join(element.itertext()).strip() for element in root.iter(TEXT)]


@cache
def pictures(name: str = "draft") -> dict[str, Picture]:
    """Every figure of a run at three Ks."""
    return draw_figures(*rich(name=name)[1:])


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_xml_with_text(name):
    """Labels stay letters: searchable, and no outlines."""
    _, estimates, decision = getattr(examples, name)()

    assert any("Draft position" in said for said in letters(acceptance_figure(estimates)))
    assert any("Decode speedup" in said for said in letters(speedup_figure(estimates, decision)))


def test_same_records_same_bytes():
    """A figure has no date and no random ids, whatever the user's settings."""
    _, estimates, decision = examples.go()
    first = speedup_figure(estimates, decision)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        second = speedup_figure(estimates, decision)

    assert first
    assert second
    assert first.svg == second.svg
    assert first.png() == second.png()
    assert b"<dc:date>" not in first.svg


def test_title_carries_the_message():
    """A figure says what it shows before one looks at the dots."""
    _, estimates, decision = examples.go()

    assert "draft k=4 clears the bar in 2 of 3 slices by category, misses it in 1" in letters(
        speedup_figure(estimates, decision)
    )
    assert "draft k=4: 78 % of blocks keep the first draft, 22 % keep 4" in letters(
        acceptance_figure(estimates)
    )


def test_unmeasured_category_has_no_dot():
    """A category without a speedup is named and marked, never drawn at a number."""
    _, estimates, decision = examples.no_go()
    said = letters(speedup_figure(estimates, decision))

    assert "code" in said
    assert 1 == said.count("not measured")


def test_nothing_measured_no_figure():
    """A figure without a point is no figure."""
    _, estimates, decision = examples.go()
    nothing = Unmeasured(reason="no block drafted")
    arm = examples.draft_arm(
        acceptance_survival=(nothing,),
        decode_speedup=nothing,
        decode_speedup_corrected=None,
        slices=(),
    )
    estimates = replace(estimates, arms=(arm,))

    assert acceptance_figure(estimates) is None
    assert speedup_figure(estimates, decision) is None


def test_names_are_drawn_as_they_stand():
    """Neither XML nor mathematics hides in a name, and other scripts draw without a warning."""
    picture = speedup_figure(*many(num_arms=1, names=["<b>&", "$x$", "翻訳"]))

    assert {"<b>&", "$x$", "翻訳"} <= set(letters(picture))


@pytest.mark.parametrize(("num_arms", "num_categories"), [(1, 1), (6, 13), (9, 20)])
def test_many_arms_and_categories(num_arms, num_categories):
    """However much was run, a figure fits on a page and says what it left out."""
    names = [f"category {number}" for number in range(num_categories)]
    estimates, decision = many(num_arms=num_arms, names=names)
    picture = speedup_figure(estimates, decision)
    said = letters(picture)
    assert picture
    height_pt = 72 * picture.figure.get_figheight()

    assert min(num_categories, 13) == sum(name in said for name in names)
    assert (num_arms > 4) == any(line.startswith("best ") for line in said)
    assert (num_arms > 6) == any(
        "of 9 arms" in line for line in letters(acceptance_figure(estimates))
    )
    assert height_pt <= 11 * 72


def test_matplotlib_is_imported_late():
    """A brief without figures starts without matplotlib."""
    code = "import sys, specmeasure.brief.figures; sys.exit('matplotlib' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_a_full_run_has_every_figure():
    """Each as SVG and as PNG, under the names that the pages use.

    All but those of servers and of loose rules.
    """
    drawn = pictures()

    assert [name for name in FIGURES if name not in ("load", "lossy")] == list(drawn)
    assert all(picture.png().startswith(b"\x89PNG") for picture in drawn.values())
    assert all(letters(picture) for picture in drawn.values())


@pytest.mark.parametrize("name", ["draft", LONG])
def test_everything_is_inside_and_legible(name):
    """Nothing is cut off at the edges, however long the names; no letter is smaller than 9 px."""
    for picture in pictures(name).values():
        with styled():
            box = picture.figure.get_tightbbox()
        sizes = [float(size) for size in re.findall(rb"font-size: ([\d.]+)px", picture.svg)]

        assert box.x0 > -0.03
        assert box.x1 < picture.figure.get_figwidth() + 0.03
        assert min(sizes) >= LEGIBLE_PX


def test_looks_do_not_rest_on_colour():
    """Six arms have six markers and six lines, so that grey prints tell them apart."""
    looks = assign_looks(f"arm {number}" for number in range(6)).values()

    assert 6 == len({look.marker for look in looks})
    assert 6 == len({look.line for look in looks})


def test_speedup_over_k_names_the_best():
    """A line for the candidate with three Ks, none for that with one."""
    said = letters(pictures()["speedup_by_k"])

    assert "draft is fastest at K = 4: 1.42× [1.35, 1.50]" in said
    assert {"2", "4", "8", "demanded", "no gain"} <= set(said)
    assert "1 of 2 candidates: fastest, at several Ks" in said


def test_one_k_is_no_line():
    """Where every candidate ran at one K, its speedup is in the other figures."""
    assert lengths_figure(*examples.go()[1:]) is None


def test_prompts_that_lost_time_are_named():
    """The share of slower prompts stands in the legend, the middle one above."""
    said = letters(pictures()["prompt_speedups"])

    assert "draft k=4: the middle one of 160 prompts runs at 1.39× [1.33, 1.44]" in said
    assert "draft k=4: 4.4 % [2, 8] slower" in said


def test_a_block_is_its_parts():
    """Bars of verifying, drafting and overhead end where the block breaks even."""
    made = examples.draft_arm()
    picture = blocks_figure(replace(examples.go()[1], arms=(made,)), examples.go()[2])
    assert picture
    bars = [bar for group in picture.figure.axes[0].containers for bar in group.patches]
    costs = made.costs
    assert isinstance(costs, Costs)

    assert costs.break_even_tokens_per_pass == pytest.approx(sum(bar.get_width() for bar in bars))
    assert [0, costs.verify_ratio] == pytest.approx([bars[0].get_x(), bars[1].get_x()])
    assert f"yields {costs.tokens_per_pass:.2f}, needs 1.75" in letters(picture)


def test_steps_of_the_machine_are_marked():
    """Where the pace changed, by how much, and how many trials lay out of line."""
    said = letters(pictures()["drift"])

    assert "160 cycles: 1 lasting change of the machine's pace, 3 outlying trials" in said
    assert "×1.15" in said


def test_long_runs_stay_small():
    """Ten thousand prompts and cycles make figures of a hundred kilobytes at most."""
    _, estimates, decision = examples.go()
    step = SpeedStep(cycle=4_000, ratio=0.9)
    arm = examples.draft_arm(prompt_speedups=ratios(1.4, 10_000), num_prompt_speedups=10_000)
    estimates = replace(
        estimates,
        arms=(arm,),
        steadiness=steadiness(10_000, step),
    )

    for picture in (prompts_figure(estimates, decision), drift_figure(estimates)):
        assert picture
        assert len(picture.svg) < 100_000
    assert any("medians of 25" in line for line in letters(drift_figure(estimates)))


def test_a_run_that_measured_nothing_has_no_figures():
    """Unmeasured is left out, not drawn at 0 or 1."""
    _, estimates, decision = examples.go()
    nothing = Unmeasured(reason="no trial of this arm succeeded beside the baseline")
    arm = examples.draft_arm(
        acceptance_survival=(),
        conditional_acceptance=(),
        decode_speedup=nothing,
        decode_speedup_corrected=nothing,
        median_prompt_speedup=nothing,
        share_slower=nothing,
        slices=(),
        costs=nothing,
    )

    assert {} == draw_figures(replace(estimates, arms=(arm,), steadiness=nothing), decision)


def many(*, num_arms: int, names: list[str]) -> tuple[Estimates, Decision]:
    _, estimates, decision = examples.go()
    slices = tuple(
        replace(examples.draft_arm().slices[0], name=name, num_prompts=100 - place)
        for place, name in enumerate(names)
    )
    arms = tuple(examples.draft_arm(name=f"draft k={k}", slices=slices) for k in range(num_arms))
    verdicts = tuple(SliceVerdict(axis="category", name=name, verdict=Verdict.GO) for name in names)
    decided = tuple(replace(decision.arms[0], arm=arm.name, slices=verdicts) for arm in arms)
    return (
        replace(estimates, arms=arms),
        replace(decision, arm=arms[0].name, arms=decided),
    )
