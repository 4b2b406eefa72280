"""Ways to draft, as the options name them."""

from typing import Any

import pytest

from specmeasure.api.candidates import Drafters, NamedHeads, NgramSizes
from specmeasure.cli.drafting import drafters, notes_on_heads
from specmeasure.errors import UsageError
from specmeasure.records.plan import ModelOptions, NgramPick
from specmeasure.records.tree import TokenTree

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("draft", "early_exit", "medusa", "tree", "ngram_sizes", "past_outputs")),
    "draft_sampling": "probabilistic",
    "ngram": False,
    "ngram_pick": "earliest",
    "suffix": False,
}


def named(**asked: Any):
    return drafters({**NOTHING, **asked}, "embedded:target", ModelOptions())


def test_nothing_is_named_by_default():
    """So that the command can say that there is nothing to measure."""
    assert not named().are_named


@pytest.mark.parametrize(
    "asked",
    [
        {"draft": ["embedded:draft"]},
        {"early_exit": ["4"]},
        {"ngram": True},
        {"ngram_sizes": ["3-3"]},
        {"suffix": True},
        {"past_outputs": ["logs.jsonl"]},
    ],
)
def test_each_way_is_enough(asked):
    """One way to draft is something to measure."""
    assert named(**asked).are_named


def test_every_size_is_looked_up_in_every_way():
    """Sizes and picks are crossed; sizes alone name prompt lookup, too."""
    sizes = named(ngram_sizes=["1-3", "2-8"], ngram_pick="earliest,latest").ngrams

    assert [
        NgramSizes(shortest=shortest, longest=longest, pick=pick)
        for shortest, longest in ((1, 3), (2, 8))
        for pick in NgramPick
    ] == list(sizes)


def test_heads_that_draft_less_than_asked_say_so():
    """Longer chains by their K, deeper trees by the nodes that are left; nothing else."""
    heads = NamedHeads(name="a/heads", num_heads=2)
    chain, flat = TokenTree.chain(3), TokenTree.of([[0], [1], [0, 0]])
    cut = "a/heads: 2 heads reach 2 levels of a tree 3 deep; 2 of its 3 nodes are drafted."
    long = "a/heads: 2 heads draft 2 tokens at most; K = 3, 4 is measured as K = 2 there."

    assert [] == notes_on_heads(Drafters(heads=[heads], trees=[flat]), [1, 2])
    assert [long, cut] == notes_on_heads(Drafters(heads=[heads], trees=[flat, chain]), [2, 3, 4])


def test_all_layers_but_the_last_are_exits():
    """They are counted from the target's config."""
    assert tuple(range(1, 12)) == named(early_exit=["all"]).exit_layers


def test_past_outputs_are_found_from_elsewhere():
    """A run that is resumed from another folder reads the same file."""
    (path,) = named(past_outputs=["logs.jsonl"]).past_outputs

    assert path.startswith("/")
    assert path.endswith("logs.jsonl")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"early_exit": ["first"]}, "--early-exit first: name layers from 1, or all"),
        ({"early_exit": ["0"]}, "--early-exit 0: name layers"),
        ({"ngram_sizes": ["4-2"]}, "--ngram-sizes 4-2: use SHORTEST-LONGEST"),
        ({"ngram_sizes": ["0-2"]}, "--ngram-sizes 0-2"),
        ({"ngram_sizes": ["3"]}, "--ngram-sizes 3"),
        ({"ngram_pick": "last"}, "--ngram-pick last: use earliest, latest"),
        ({"draft_sampling": "drawn"}, "--draft-sampling drawn"),
    ],
)
def test_what_cannot_be_meant_is_explained(asked, message):
    """One line with what belongs there."""
    with pytest.raises(UsageError, match=message):
        named(**asked)
