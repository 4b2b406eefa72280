import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from specmeasure.brief.markdown import escape_markdown, render_markdown
from specmeasure.brief.names import plain
from specmeasure.records.corpus import Dropped
from specmeasure.records.decision import SliceVerdict, Verdict
from specmeasure.records.estimates import Unmeasured
from tests.brief import examples

GOLDEN = Path(__file__).parents[1] / "golden"
FIGURES = {"speedup": "speedup.svg", "acceptance": "acceptance.svg"}
HOSTILE = "a|b `c` <script>x</script> [y](http://z) ![i](j) *k* _l_ $m$ &lt; \\ #1"
READER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


@pytest.mark.parametrize("name", ["go", "no_go", "inconclusive"])
def test_golden(name):
    """The brief reads as it was last approved; UPDATE_GOLDEN=1 approves anew."""
    brief = render_markdown(*getattr(examples, name)(), figures=FIGURES)
    path = GOLDEN / f"brief_{name}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(brief, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == brief


@pytest.mark.parametrize("name", ["go", "no_go", "inconclusive"])
def test_verdict_opens_the_brief(name):
    """Who reads one line reads the verdict."""
    records = getattr(examples, name)()
    brief = render_markdown(*records, figures={})

    assert brief.startswith(f"# {records[-1].verdict.value}: ")


@pytest.mark.parametrize("name", ["no_go", "inconclusive"])
def test_settings_on_go_only(name):
    """Nothing to paste unless the answer is GO."""
    assert "To turn it on" not in render_markdown(*getattr(examples, name)(), figures={})


def test_layout_is_clean():
    """No runs of blank lines, no trailing blanks, one newline at the end."""
    brief = render_markdown(*examples.go(), figures=FIGURES)

    assert "\n\n\n" not in brief
    assert not re.search(r"[ \t]\n", brief)
    assert brief.endswith("\n")
    assert not brief.endswith("\n\n")


@given(st.text(min_size=1))
def test_escaped_text_is_shown_as_it_stands(text):
    """A reader of markdown sees the very characters, and no markup."""
    text = f"x{plain(text)}x"

    assert [text] == ["".join(seen(f"{escape_markdown(text)}"))]


@given(st.text(min_size=1))
def test_escaped_cell_is_one_cell(text):
    """No text splits a table's cell."""
    text = f"x{plain(text)}x"

    assert ["a", text] == seen(f"| a |\n| - |\n| {escape_markdown(text)} |")


def test_hostile_names_stay_text():
    """Categories, arms, paths and reasons cannot write markup into the brief."""
    brief = render_markdown(*hostile_records(), figures={})
    html = READER.render(brief)

    assert "<script" not in html
    assert "<a " not in html
    assert "<img" not in html
    assert 0 == html.count("<em>")
    assert HOSTILE in seen(brief)


def test_unmeasured_is_never_a_number():
    """A cell that was not measured has a footnote with its reason, and no digit."""
    manifest, estimates, decision = examples.go()
    nothing = Unmeasured(reason="the sensor was off")
    arm = replace(
        examples.draft_arm(),
        decode_speedup=nothing,
        decode_speedup_corrected=nothing,
        end_to_end_speedup=nothing,
    )
    brief = render_markdown(
        manifest, replace(estimates, arms=(arm, *estimates.arms[1:])), decision, figures={}
    )
    row = next(line for line in brief.splitlines() if line.startswith("| draft k=4 | GO"))

    assert ["draft k=4", "GO", "160", "not measured¹", "not measured¹"] == cells(row)[:5]
    assert "- Not measured¹: the sensor was off\n" in brief


def test_no_prompt_source_is_printed():
    """What was left out appears as counts and reasons; where they stood stays in the trace."""
    brief = render_markdown(*examples.go(), figures={})

    assert "prompts.jsonl:17" not in brief


def test_figure_paths_become_links():
    """Blanks and brackets in a path cannot end the link."""
    brief = render_markdown(*examples.go(), figures={"speedup": "my run/(1).svg"})

    assert "](my%20run/%281%29.svg)" in brief
    assert "Share of blocks" not in brief


def hostile_records() -> examples.Records:
    manifest, estimates, decision = examples.go()
    arm = replace(
        examples.draft_arm(),
        name=HOSTILE,
        slices=tuple(replace(part, name=HOSTILE) for part in examples.draft_arm().slices[:1]),
    )
    decided = replace(
        decision.arms[0],
        arm=HOSTILE,
        slices=(SliceVerdict(axis="category", name=HOSTILE, verdict=Verdict.GO),),
    )
    planned = replace(examples.DRAFT_4, name=HOSTILE, draft=HOSTILE)
    manifest = replace(
        manifest,
        plan=replace(manifest.plan, arms=(manifest.plan.arms[0], planned)),
        argv=("specmeasure", HOSTILE, "```"),
        warnings=(HOSTILE,),
        models=(examples.model(HOSTILE, num_parameters=1),),
        corpus=replace(
            manifest.corpus, dropped=(Dropped(reason=HOSTILE, num_rows=1, places=()),), files=()
        ),
    )
    estimates = replace(estimates, arms=(arm,))
    return manifest, estimates, replace(decision, arm=HOSTILE, arms=(decided,))


def seen(markdown: str) -> list[str]:
    """The text of each inline run, as a browser would show it."""
    runs = [token.children or [] for token in READER.parse(markdown) if token.type == "inline"]
    return ["".join(child.content for child in run) for run in runs]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]
