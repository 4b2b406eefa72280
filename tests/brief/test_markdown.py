import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from specmeasure.brief.markdown import escape_markdown, render_details, render_markdown
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import noise
from specmeasure.records.corpus import Dropped
from specmeasure.records.decision import SliceVerdict, Verdict
from specmeasure.records.estimates import Unmeasured
from tests.brief import examples
from tests.brief.golden_trace import golden_records

GOLDEN = Path(__file__).parents[1] / "golden"
FIGURES = {
    name: f"{name}.svg"
    for name in (
        "acceptance",
        "block_time",
        "drift",
        "prompt_speedups",
        "speedup",
        "speedup_by_k",
    )
}
MOST_LINES = 93
EXAMPLES = {
    "go": examples.go,
    "no_go": examples.no_go,
    "inconclusive": examples.inconclusive,
    "sampled": examples.sampled,
    "noisy": examples.noisy,
    "trace": golden_records,
}
HOSTILE = "a|b `c` <script>x</script> [y](http://z) ![i](j) *k* _l_ $m$ &lt; \\ #1"
PAGES = [render_markdown, render_details]
READER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


@pytest.mark.parametrize(
    ("page", "name"),
    [
        *(("brief", name) for name in EXAMPLES),
        *(("details", name) for name in ("go", "sampled", "trace")),
    ],
)
def test_golden(page, name):
    """The pages read as they were last approved; UPDATE_GOLDEN=1 approves anew."""
    render = {"brief": render_markdown, "details": render_details}[page]
    written = render(*EXAMPLES[name](), figures=FIGURES)
    path = GOLDEN / f"{page}_{name}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(written, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == written


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_brief_is_one_page(name):
    """About a screen and a half, whatever was measured."""
    brief = render_markdown(*EXAMPLES[name](), figures=FIGURES)

    assert 60 <= len(brief.splitlines()) <= MOST_LINES


def test_many_arms_and_slices_stay_one_page():
    """The best arms and the largest slices have room; the rest is told to be in the details."""
    manifest, estimates, decision = examples.go()
    names = [f"draft k={k}" for k in range(1, 10)]
    slices = [
        replace(part, name=f"{part.name} {n}")
        for part in examples.draft_arm().slices
        for n in range(9)
    ]
    arms = tuple(examples.draft_arm(name=name, slices=tuple(slices)) for name in names)
    plans = tuple(replace(examples.DRAFT_4, name=name) for name in names)
    decided = tuple(replace(decision.arms[0], arm=name) for name in names)
    records = (
        replace(manifest, plan=replace(manifest.plan, arms=(manifest.plan.arms[0], *plans))),
        replace(estimates, arms=arms),
        replace(decision, arm=names[0], arms=decided),
    )
    brief = render_markdown(*records, figures=FIGURES)

    assert len(brief.splitlines()) <= MOST_LINES
    assert "5 more arms, not before these by verdict and speed: draft k=5, draft k=6" in brief
    assert "And 21 smaller slices by category." in brief
    assert all(f"| {name} " in render_details(*records, figures={}) for name in names)


@pytest.mark.parametrize("name", ["go", "no_go", "inconclusive"])
def test_verdict_opens_the_brief(name):
    """Who reads one line reads the verdict."""
    records = getattr(examples, name)()
    brief = render_markdown(*records, figures={})

    assert brief.startswith(f"# {records[-1].verdict.value}: ")


@pytest.mark.parametrize("render", PAGES)
@pytest.mark.parametrize("name", ["no_go", "inconclusive"])
def test_settings_on_go_only(name, render):
    """Nothing to paste unless the answer is GO."""
    assert "To turn it on" not in render(*EXAMPLES[name](), figures={})


@pytest.mark.parametrize("figures", [{}, FIGURES])
@pytest.mark.parametrize("render", PAGES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_layout_is_clean(name, render, figures):
    """No runs of blank lines, no trailing blanks, one newline at the end."""
    page = render(*EXAMPLES[name](), figures=figures)

    assert "\n\n\n" not in page
    assert not re.search(r"[ \t]\n", page)
    assert page.endswith("\n")
    assert not page.endswith("\n\n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_policy_is_in_a_box(name):
    """A reader of markdown frames the table of rules: a quotation with a table in it."""
    html = READER.render(render_markdown(*EXAMPLES[name](), figures={}))
    box = html[html.index("<blockquote>") : html.index("</blockquote>")]

    assert "<table>" in box
    assert len(EXAMPLES[name]()[-1].arms[0].findings) == box.count("<tr>") - 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_noise_stands_beside_every_table_of_speedups(name):
    """The A/A interval is read where the speedups are."""
    manifest, estimates, decision = EXAMPLES[name]()
    brief = render_markdown(manifest, estimates, decision, figures={})
    said = noise(estimates.noise_floor)

    assert f"A/A {said}" in brief.split("## The numbers")[1].split("## ")[0]
    assert said in brief.split("## The numbers")[0]
    if any(arm.slices for arm in estimates.arms):
        assert said in brief.split("## Where it pays")[1].split("## ")[0]


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


@pytest.mark.parametrize("render", PAGES)
def test_hostile_names_stay_text(render):
    """Categories, arms, paths and reasons cannot write markup into a page."""
    page = render(*hostile_records(), figures={})
    html = re.sub(r'<a href="[a-z]+\.(md|html)(#[a-z0-9-]+)?">', "", READER.render(page))

    assert "<script" not in html
    assert "<a " not in html
    assert "<img" not in html
    assert 0 == html.count("<em>")
    assert HOSTILE in seen(page)


def test_unmeasured_is_never_a_number():
    """A cell that was not measured has a footnote with its reason, and no digit."""
    manifest, estimates, decision = examples.go()
    nothing = Unmeasured(reason="the sensor was off")
    arm = replace(
        examples.draft_arm(),
        decode_speedup=nothing,
        decode_speedup_corrected=nothing,
        end_to_end_speedup=nothing,
        ttft_quantiles=nothing,
        tpot_quantiles=replace(examples.quantiles(1, 2, 3), p95=nothing),
    )
    records = (manifest, replace(estimates, arms=(arm, *estimates.arms[1:])), decision)
    brief = render_markdown(*records, figures={})

    row = next(line for line in brief.splitlines() if line.startswith("| [Decode speedup]"))
    assert ["not measured¹", "0.88× [0.84, 0.92]"] == cells(row)[2:]
    assert 4 == brief.count("not measured¹")
    assert "\n- Not measured¹: the sensor was off; Not measured²: fewer" in brief
    assert 7 == render_details(*records, figures={}).count("not measured¹")


def test_a_brief_without_quantiles_is_whole():
    """What is not wired or does not apply leaves neither holes nor claims."""
    manifest, estimates, decision = examples.go()
    bare = {"ttft_quantiles": None, "tpot_quantiles": None, "end_to_end_quantiles": None}
    bare |= {"textbook": None, "losslessness": None}
    records = (
        manifest,
        replace(
            estimates,
            baseline=replace(estimates.baseline, **bare),
            arms=tuple(replace(arm, **bare) for arm in estimates.arms),
            steadiness=None,
        ),
        decision,
    )
    brief = render_markdown(*records, figures={})

    assert "TTFT](glossary.md#ttft), median of prompts" in brief
    assert "Not audited: the run holds no audit." in brief
    assert "Steadiness" not in brief
    assert "None" not in re.sub("None lies below", "", brief + render_details(*records, figures={}))


def test_no_prompt_source_is_printed():
    """What was left out appears as counts and reasons; where they stood stays in the trace."""
    assert "prompts.jsonl:17" not in render_markdown(*examples.go(), figures={})
    assert "prompts.jsonl:17" not in render_details(*examples.go(), figures={})


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
