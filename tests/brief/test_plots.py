import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from specmeasure.brief.plots import acceptance_figure, speedup_figure
from specmeasure.records.decision import Decision, SliceVerdict, Verdict
from specmeasure.records.estimates import Estimates, Unmeasured
from tests.brief import examples

NAMES = ("go", "no_go", "inconclusive")
TEXT = "{http://www.w3.org/2000/svg}text"


def letters(svg: bytes | None) -> list[str]:
    """All text of a figure; raises where it is not XML."""
    assert svg is not None
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    return ["".join(element.itertext()).strip() for element in root.iter(TEXT)]


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

    assert first == second
    assert first is not None
    assert b"<dc:date>" not in first


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
    svg = speedup_figure(*many(num_arms=1, names=["<b>&", "$x$", "翻訳"]))

    assert {"<b>&", "$x$", "翻訳"} <= set(letters(svg))


@pytest.mark.parametrize("num_arms", [1, 6, 9])
@pytest.mark.parametrize("num_categories", [1, 13, 20])
def test_many_arms_and_categories(num_arms, num_categories):
    """However much was run, a figure fits on a page and says what it left out."""
    names = [f"category {number}" for number in range(num_categories)]
    estimates, decision = many(num_arms=num_arms, names=names)
    svg = speedup_figure(estimates, decision)
    said = letters(svg)
    height_pt = float(ET.fromstring(svg or b"").attrib["height"].removesuffix("pt"))  # noqa: S314

    assert min(num_categories, 13) == sum(name in said for name in names)
    assert (num_arms > 4) == any(line.startswith("best ") for line in said)
    assert (num_arms > 6) == any(
        "of 9 arms" in line for line in letters(acceptance_figure(estimates))
    )
    assert height_pt <= 11 * 72


def test_matplotlib_is_imported_late():
    """A brief without figures starts without matplotlib."""
    code = "import sys, specmeasure.brief.plots; sys.exit('matplotlib' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


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
