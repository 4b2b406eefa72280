"""Pages, figures and tables of whole runs on servers."""

import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from rich.cells import cell_len

from specmeasure.brief.canvas import Picture, styled
from specmeasure.brief.console import summary_table
from specmeasure.brief.content import brief_content
from specmeasure.brief.figures import draw_figures
from specmeasure.brief.figures_load import load_figure
from specmeasure.brief.glossary import FILE
from specmeasure.brief.html import render_html
from specmeasure.brief.markdown import render_details, render_markdown
from specmeasure.brief.served import Served
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.plan import Arm, Method
from tests.brief import examples_load
from tests.brief.examples_load import EXAMPLES, ServedExample
from tests.brief.reports import HOSTILE
from tests.brief.terminal import printed
from tests.brief.test_glossary import EXPLAINED
from tests.brief.test_html import LINKS, Read
from tests.brief.test_markdown import GOLDEN, READER, seen
from tests.brief.test_plots import LEGIBLE_PX, LONG, letters

MOST_LINES = 105
OPENINGS = {
    "managed": "up to concurrency 4, NO_GO at 16",
    "overloaded": "at concurrency 16, GO up to 4 with draft k=4",
    "attached": "at concurrency 8, GO at 2",
    "llamacpp": "at 2.5 requests/s",
}
FIGURES = {"load": "load.svg"}
PAGES = {"brief": render_markdown, "details": render_details}


def page(kind: str, served: ServedExample, **given) -> str:
    return PAGES[kind](*served.records, figures=FIGURES, served=Served(curve=served.curve, **given))


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("brief", name) for name in EXAMPLES), ("details", "managed"), ("details", "attached")],
)
def test_golden(kind, name):
    """The pages read as they were last approved; UPDATE_GOLDEN=1 approves anew."""
    written = page(kind, EXAMPLES[name]())
    path = Path(GOLDEN) / f"{kind}_{name}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(written, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == written


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_brief_is_one_page(name):
    """With the curve, too."""
    assert 60 <= len(page("brief", EXAMPLES[name]()).splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_verdict_opens_every_form(name):
    """With the load that it speaks of."""
    served = EXAMPLES[name]()
    opening = f"{served.decision.verdict.value} {OPENINGS[name]}: "

    assert page("brief", served).startswith(f"# {opening}")
    assert page("details", served).startswith(f"# Details. {opening}")
    assert " ".join(shown(served).split()).startswith(opening)
    assert opening in " ".join("".join(Read(report(served)).text).split())


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_layout_is_clean(name, kind):
    """No runs of blank lines, no trailing blanks, one newline at the end."""
    written = page(kind, EXAMPLES[name]())

    assert "\n\n\n" not in written
    assert not re.search(r"[ \t]\n", written)
    assert written.endswith("\n")
    assert not written.endswith("\n\n")


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_unmeasured_without_a_reason(name, kind):
    """A cell has its footnote, a sentence its reason; nothing prints as None or nan."""
    written = page(kind, EXAMPLES[name]())
    mentions = re.findall(r"not measured.?.?", written, flags=re.IGNORECASE)
    explained = re.compile(r"not measured([¹²³⁴⁵⁶⁷⁸⁹⁰]|:| \()", flags=re.IGNORECASE)

    assert mentions
    assert [] == [one for one in mentions if not explained.match(one)]
    assert not re.search(r"\b(None|nan)\b", written.replace("None lies below", ""))


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_claim_of_one_request_at_a_time(name, kind):
    """What holds in this process alone is not said of servers, nor prompts for windows."""
    written = page(kind, EXAMPLES[name]())

    assert "One request at a time." not in written
    assert "Measured at concurrency 1. " not in written
    assert "This holds for " in written
    assert "10 windows" in written or "10 [windows]" in written
    assert "Intervals in brackets are over 160 prompts" not in written
    assert "teacher" not in written


@pytest.mark.parametrize("kind", PAGES)
def test_links_lead_to_entries(kind):
    """Words of load are explained."""
    links = re.findall(rf"\]\({FILE}#([^)]+)\)", page(kind, examples_load.managed()))

    assert {"concurrency", "throughput", "goodput", "slo", "window"} <= set(links)
    assert set(links) <= set(EXPLAINED)


def test_cross_checks_stand_in_the_details():
    """Whatever the servers' own counts were found to say of one another."""
    said = "Per-request counts and Prometheus agree: 1,204 accepted tokens by both."

    assert f"- {said}" in page("details", examples_load.managed(), cross_checks=(said,))


@pytest.mark.parametrize("kind", PAGES)
def test_hostile_servers_stay_text(kind):
    """What a server says of itself, and how it was started, cannot write markup."""
    html = re.sub(
        r'<a href="[a-z]+\.(md|html)(#[a-z0-9-]+)?">', "", READER.render(page(kind, hostile()))
    )

    assert "<script" not in html
    assert "<a " not in html
    assert "<img src=x" not in html
    assert any(HOSTILE in one for one in seen(page(kind, hostile())))


def test_hostile_servers_stay_text_in_html():
    """Nor elements, attributes or links of the report."""
    clean, read = Read(report(examples_load.managed())), Read(report(hostile()))

    assert clean.tags.count("script") == read.tags.count("script")
    assert "img" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert all(link.startswith(("#", "data:,")) for name in LINKS for link in read.values(name))
    assert HOSTILE in "".join(read.text)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_report_has_the_curve(name):
    """Its tables, which sort, its sentences and its figure."""
    served = EXAMPLES[name]()
    load = brief_content(*served.records, Served(curve=served.curve)).load
    assert load
    read = Read(report(served))
    text = "".join(read.text)
    tables = [
        load.table,
        load.beside,
        load.schedules,
        load.servers,
        *(p.table for p in load.points),
    ]
    said = [cell for table in tables for row in table.rows for cell in row]

    assert [] == [one for one in (*said, *load.sentences, *load.crossovers) if one not in text]
    assert "load" in read.values("id")
    assert "#load" in read.values("href")
    assert "over the load" in " ".join(read.values("aria-label"))


def test_ids_are_unique():
    """The figure of load shares the page with others."""
    ids = Read(report(examples_load.managed())).values("id")

    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_terminal_shows_arms_by_load(name):
    """In 100 columns, unfolded: speedup, τ, tokens/s and verdict; the noise first."""
    text = shown(EXAMPLES[name]())
    rows = [line for line in text.splitlines() if line.strip().startswith("baseline A/A")]

    assert max(map(cell_len, text.splitlines())) <= 100
    assert "…" not in text
    assert len(EXAMPLES[name]().curve.points) == len(rows)
    assert all("1.002× [0.991, 1.013]" in row for row in rows)


def test_a_terminal_says_where_it_stops_paying():
    """Without opening a file."""
    text = " ".join(shown(examples_load.managed()).split())

    assert "draft k=4 pays up to concurrency 4; at 16 its interval includes 1" in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_curve_is_drawn(name):
    """Both panels over measured loads, named by their ends; the noise beside the arms."""
    said = letters(drawn(name))

    assert {"no gain", "demanded", "baseline (left: A/A)"} <= set(said)
    assert "Tokens per second, all requests" in said
    assert ("Concurrency" in said) != ("Requests per second" in said)


def test_only_measured_loads_have_ticks():
    """On an axis where doublings are equally far apart."""
    picture = drawn("managed")
    left, right = picture.figure.axes

    assert [1, 4, 16] == list(left.get_xticks()) == list(right.get_xticks())
    assert "log" == left.get_xscale()
    assert [0, 0] == [len(axes.get_xticks(minor=True)) for axes in (left, right)]


def test_everything_is_inside_and_legible():
    """Long names and long speedups, too."""
    made = renamed(examples_load.managed(), LONG)
    picture = load_figure(made.curve, made.decision)
    assert picture
    with styled():
        box = picture.figure.get_tightbbox()
    sizes = [float(size) for size in re.findall(rb"font-size: ([\d.]+)px", picture.svg)]

    assert box.x0 > -0.03
    assert box.x1 < picture.figure.get_figwidth() + 0.03
    assert box.y0 > -0.03
    assert box.y1 < picture.figure.get_figheight() + 0.03
    assert min(sizes) >= LEGIBLE_PX


def test_a_curve_takes_two_loads():
    """One is a table; a speed that was not measured is no point of it."""
    served = examples_load.managed()
    one = replace(served.curve, points=served.curve.points[:1])
    nothing = Unmeasured(reason="not enough windows")
    blind = [
        replace(
            point,
            estimates=replace(
                point.estimates,
                arms=tuple(
                    replace(arm, decode_speedup=nothing, decode_speedup_corrected=nothing)
                    for arm in point.estimates.arms
                ),
            ),
        )
        for point in served.curve.points
    ]

    assert load_figure(one, served.decision) is None
    assert load_figure(replace(served.curve, points=tuple(blind)), served.decision) is None


def test_same_records_same_bytes():
    """No date and no random ids."""
    served = examples_load.managed()
    again = load_figure(served.curve, served.decision)
    assert again

    assert drawn("managed").svg == again.svg


@cache
def drawn(name: str) -> Picture:
    served = EXAMPLES[name]()
    return draw_figures(*served.records[1:], curve=served.curve)["load"]


def shown(served: ServedExample) -> str:
    return printed(summary_table(*served.records, Served(curve=served.curve)))


def report(served: ServedExample) -> str:
    figures = {"load": load_figure(served.curve, served.decision)}
    kept = {name: picture for name, picture in figures.items() if picture}
    return render_html(brief_content(*served.records, Served(curve=served.curve)), kept, None)


def hostile() -> ServedExample:
    """Servers that call themselves markup, started by a command of it, with an arm's JSON of it."""
    served = renamed(examples_load.managed(), HOSTILE)
    servers = tuple(
        replace(one, model=HOSTILE, version=HOSTILE, command=(HOSTILE, HOSTILE))
        for one in served.manifest.servers
    )
    return replace(served, manifest=replace(served.manifest, servers=servers))


def renamed(served: ServedExample, name: str) -> ServedExample:
    """The run with another name of its first arm, configured by a JSON that holds the name."""
    old = served.decision.arm
    arm = Arm(
        name=name, method=Method.SERVED, num_speculative_tokens=4, speculative_config=f'"{name}"'
    )
    plan, curve = served.manifest.plan, served.curve
    return replace(
        served,
        manifest=replace(
            served.manifest,
            plan=replace(plan, arms=tuple(arm if one.name == old else one for one in plan.arms)),
            servers=tuple(
                replace(one, arm=name if one.arm == old else one.arm)
                for one in served.manifest.servers
            ),
        ),
        decision=replace(
            served.decision,
            arm=name,
            arms=tuple(
                replace(one, arm=name if one.arm == old else one.arm)
                for one in served.decision.arms
            ),
            by_load=tuple(
                replace(one, arm=name if one.arm == old else one.arm)
                for one in served.decision.by_load
            ),
        ),
        curve=replace(
            curve,
            points=tuple(
                replace(
                    point,
                    estimates=replace(
                        point.estimates,
                        arms=tuple(
                            replace(one, name=name if one.name == old else one.name)
                            for one in point.estimates.arms
                        ),
                    ),
                    arms=tuple(
                        replace(one, name=name if one.name == old else one.name)
                        for one in point.arms
                    ),
                )
                for point in curve.points
            ),
            crossovers=tuple(
                replace(one, arm=name if one.arm == old else one.arm) for one in curve.crossovers
            ),
        ),
    )
