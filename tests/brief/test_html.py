import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import pytest

from specmeasure.brief.content import brief_content
from specmeasure.brief.figures import FIGURES, draw_figures
from specmeasure.brief.tables import Table
from specmeasure.brief.tokens import MOST_TOKENS
from tests.brief import examples
from tests.brief.reports import HOSTILE, html, kept_trace, kept_trial, rich, spell

MEGABYTES = 1_000_000
LINKS = {"href", "src", "action", "srcset", "poster", "data", "formaction", "xlink:href"}


class Read(HTMLParser):
    """Elements, attributes and text of a page, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name):
        return [value for key, value in self.attributes if key == name]


def hostile():
    """A user who names arm, category, model, file and rule to break the page."""
    made, found, decision = rich(name=HOSTILE, category=HOSTILE)
    model = replace(made.models[0], name=HOSTILE, device=HOSTILE)
    file = replace(made.corpus.files[0], path=HOSTILE)
    made = replace(
        made,
        models=(model, *made.models[1:]),
        corpus=replace(made.corpus, files=(file,)),
        argv=("specmeasure", "run", HOSTILE),
        warnings=(HOSTILE,),
    )
    finding = replace(decision.arms[0].findings[0], rule=HOSTILE, observed=HOSTILE)
    chosen = replace(decision.arms[0], findings=(finding,))
    return made, found, replace(decision, arms=(chosen, *decision.arms[1:]))


def test_names_stay_text():
    """No name can write an element, an attribute or a link, in tables, figures or tokens."""
    trace = kept_trace(kept_trial(HOSTILE, category=HOSTILE))
    clean = Read(html(rich(), kept_trace(kept_trial()), spell))
    read = Read(html(hostile(), trace, spell, figures=draw_figures(*hostile()[1:])))

    assert clean.tags.count("script") == read.tags.count("script")
    assert "img" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert all(link.startswith(("#", "data:,")) for name in LINKS for link in read.values(name))
    assert HOSTILE in "".join(read.text)


def test_tokens_cannot_leave_their_script():
    """An answer that holds a closing tag arrives whole in the viewer's data."""
    page = html(rich(), kept_trace(kept_trial()), spell)
    start = page.index('<script type="application/json" id="trials">')
    data = page[page.index(">", start) + 1 : page.index("</script>", start)]
    (prompt,) = json.loads(data)
    tokens = [token for block in prompt["arms"][0]["blocks"] for token in block[0]]

    assert " w20 w21" == prompt["prompt"]
    assert [HOSTILE[:60], "a", 0.55, 0.5] in tokens


@pytest.mark.parametrize("name", ["go", "no_go", "inconclusive"])
def test_a_report_needs_nothing_beside_it(name):
    """Everything is in the file, and a policy forbids the browser to ask for more."""
    read = Read(html(getattr(examples, name)()))
    policy = next(value for value in read.values("content") if "default-src" in value)

    assert {
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
        "img-src data:",
    } <= set(policy.split("; "))
    assert all(link.startswith(("#", "data:,")) for name in LINKS for link in read.values(name))


def test_ids_are_unique():
    """Figures share a page without sharing ids, and what they point to is there."""
    figures = draw_figures(*rich()[1:])
    read = Read(html(rich(), kept_trace(kept_trial()), spell, figures=figures))
    ids = read.values("id")
    used = [href[1:] for href in read.values("href") if href.startswith("#")]
    used += re.findall(r"url\(#([^)]+)\)", " ".join(value for _, value in read.attributes))

    assert set(FIGURES) - {"load", "lossy"} == set(figures)
    assert len(set(ids)) == len(ids)
    assert set(used) <= set(ids)


def test_the_report_says_what_the_brief_says():
    """Every cell of every table, every fact, every caveat."""
    content = brief_content(*rich())
    text = "".join(Read(html(rich())).text)
    tables = [
        value
        for field in fields(content)
        if isinstance(value := getattr(content, field.name), Table)
    ]
    tables += [part.table for part in content.slices]
    said = [cell for table in tables for row in (table.columns, *table.rows) for cell in row]
    said += [*content.evidence, *content.footnotes, *content.caveats, content.why, content.gains]
    said += [content.policy_note, content.predicted, content.correction, content.command]
    said += [fact.text for fact in (*content.provenance, *content.arm_output)]

    assert [] == [one for one in said if one not in text]


def test_a_report_is_written_the_same_twice():
    """No date, no random id."""
    assert html(rich()) == html(rich())


def test_a_report_stays_small():
    """However long the answers, however many the prompts, arms and slices."""
    blocks = kept_trial().blocks * 40
    long = [
        replace(
            kept_trial(f"p-{number}"),
            blocks=blocks,
            token_ids=tuple(token for block in blocks for token in block.emitted_ids or ()),
            checks=None,
        )
        for number in range(60)
    ]
    page = html(rich(), kept_trace(*long), lambda ids: "12345 字" * len(ids))

    assert len(page.encode()) < 2 * MEGABYTES
    assert MOST_TOKENS < sum(len(trial.token_ids or ()) for trial in long)
    assert "more answers are left out" in page


def test_without_text_there_is_no_viewer():
    """Not even an empty one."""
    page = html(rich(), kept_trace(kept_trial(), include_text=False), spell)

    assert 'id="tokens"' not in page
    assert 'id="trials"' not in page
