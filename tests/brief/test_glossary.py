import re

import pytest

from specmeasure.brief.glossary import _ANCHORS, FILE, Linker, glossary
from specmeasure.brief.markdown import render_details, render_markdown
from tests.brief import examples

EXPLAINED = re.findall(r'<a id="([a-z0-9-]+)"></a>', glossary())
ASKED_FOR = (
    *("tau", "acceptance-rate", "survival", "decode-speedup", "aa", "ttft", "tpot", "near-tie"),
    *("divergence", "pit", "interval", "holm", "break-even", "c", "v", "o", "recovered-token"),
    "k",
)


@pytest.mark.parametrize("anchor", ASKED_FOR)
def test_every_term_is_explained(anchor):
    """Each has one entry, of a bold name and a sentence or two."""
    entry = glossary().split(f'<a id="{anchor}"></a>\n')[1].split("\n\n")[0]

    assert 1 == EXPLAINED.count(anchor)
    assert entry.startswith("**") or "**" in entry[:20]
    assert 20 < len(entry) < 420


@pytest.mark.parametrize("render", [render_markdown, render_details])
@pytest.mark.parametrize("name", ["go", "no_go", "inconclusive", "sampled", "noisy"])
def test_links_lead_to_entries(name, render):
    """No page links a word that the glossary lacks."""
    page = render(*getattr(examples, name)(), figures={})
    links = re.findall(rf"\]\({FILE}#([^)]+)\)", page)

    assert {"tau", "aa", "ttft", "tpot", "decode-speedup"} <= set(links) <= set(EXPLAINED)


def test_every_known_word_has_an_entry():
    """What the linker may ever link is explained."""
    assert set(_ANCHORS.values()) <= set(EXPLAINED)


def test_a_meaning_is_linked_once():
    """The first of a page; other spellings of the same included."""
    linker = Linker()

    assert "[near-ties](glossary.md#near-tie), near-tie" == linker.link("near-ties, near-tie")
    assert "a near-tie" == linker.link("a near-tie")


@pytest.mark.parametrize("text", ["TPOTs", "policyholder", "the c value", "vllm:c", "oτ", "A/As"])
def test_parts_of_words_are_not_linked(text):
    """Letters mean costs only beside their values."""
    assert text == Linker().link(text)


def test_costs_are_linked_with_their_values():
    """c, v and o stand with a number after them."""
    assert "[c](glossary.md#c) = 0.081" == Linker().link("c = 0.081")
