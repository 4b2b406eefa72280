"""From parsed options to the ways to draft that they name, and the rules that verify."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from specmeasure import api
from specmeasure.api.candidates import MAX_NGRAM, MIN_NGRAM, Drafters, NamedHeads, NgramSizes
from specmeasure.errors import UsageError
from specmeasure.records.plan import DraftSampling, ModelOptions, NgramPick, TypicalAcceptance

NAMING = ("draft", "medusa", "early_exit", "ngram", "ngram_sizes", "suffix", "past_outputs")
ALL = "all"
_TYPICAL = TypicalAcceptance()


def drafters(
    asked: dict[str, Any], target: str, options: ModelOptions, *, default_drafts: Sequence[str] = ()
) -> Drafters:
    """What the options name; heads and layers are counted without loading weights.

    Args:
        asked: parsed options.
        target: whose layers ``--early-exit all`` means.
        options: how models are loaded.
        default_drafts: draft models where none is named.

    Raises:
        UsageError: a tree, sizes or layers that cannot be meant.
        ModelError: heads that are not there, or are none.
    """
    named = Drafters(
        drafts=tuple(asked["draft"] or default_drafts),
        draft_samplings=_draft_samplings(asked["draft_sampling"]),
        exit_layers=_exit_layers(asked["early_exit"] or (), target, options),
        heads=tuple(
            NamedHeads(name=name, num_heads=api.head_count(name, options))
            for name in asked["medusa"] or ()
        ),
        trees=tuple(map(api.read_tree, asked.get("tree") or ())),  # replays have none
        ngrams=_ngrams(asked),
        suffix=asked["suffix"],
        past_outputs=tuple(_absolute(path) for path in asked["past_outputs"] or ()),
    )
    if named.trees and not named.heads:
        raise UsageError("--tree is drafted by heads: name them with --medusa.")
    return named


def notes_on_heads(named: Drafters, lengths: Sequence[int]) -> list[str]:
    """Where heads draft less than was asked for.

    >>> heads = NamedHeads(name="a/heads", num_heads=4)
    >>> notes_on_heads(Drafters(heads=[heads]), [2, 4])
    []
    >>> notes_on_heads(Drafters(heads=[heads]), [4, 8])
    ['a/heads: 4 heads draft 4 tokens at most; K = 8 is measured as K = 4 there.']
    """
    notes = []
    for heads in named.heads:
        most = heads.num_heads
        above = ", ".join(str(length) for length in lengths if length > most)
        if above:
            notes.append(
                f"{heads.name}: {most} heads draft {most} tokens at most; K = {above} is measured "
                f"as K = {most} there."
            )
        for tree in named.trees:
            fitting = tree.down_to(most) or tree
            if fitting != tree:
                notes.append(
                    f"{heads.name}: {most} heads reach {most} levels of a tree {tree.depth} deep; "
                    f"{fitting.num_nodes} of its {tree.num_nodes} nodes are drafted."
                )
    return notes


def lossy_rules(asked: dict[str, Any]) -> list[TypicalAcceptance]:
    """Every rule of ``--lossy``; ``typical`` at each pair of ``--epsilon`` and ``--delta``."""
    named: list[str] = asked["lossy"] or []
    epsilons = _numbers("--epsilon", asked["epsilon"], _TYPICAL.epsilon)
    deltas = _numbers("--delta", asked["delta"], _TYPICAL.delta)
    if (asked["epsilon"] or asked["delta"]) and "typical" not in named:
        raise UsageError("--epsilon and --delta belong to --lossy typical.")
    rules: list[TypicalAcceptance] = []
    for text in named:
        if text == "typical":
            rules += [_thresholds(*pair) for pair in product(epsilons, deltas)]
        else:
            rules.append(_written_rule(text))
    return rules


def _thresholds(epsilon: float, delta: float) -> TypicalAcceptance:
    """The rule of ``--epsilon`` and ``--delta``."""
    try:
        return TypicalAcceptance(epsilon=epsilon, delta=delta)
    except ValueError:
        raise UsageError(
            f"--epsilon {epsilon:g} with --delta {delta:g}: --epsilon lies between 0 and 1, "
            "--delta above 0, e.g. --epsilon 0.05,0.09 --delta 0.3."
        ) from None


def _written_rule(text: str) -> TypicalAcceptance:
    """The rule of 'typical:EPSILON,DELTA'."""
    name, _, numbers = text.partition(":")
    epsilon, _, delta = numbers.partition(",")
    try:
        pair = float(epsilon), float(delta)
    except ValueError:
        pair = math.inf, math.inf
    if name != "typical":
        pair = math.inf, math.inf
    return _rule(text, *pair)


def _rule(text: str, epsilon: float, delta: float) -> TypicalAcceptance:
    try:
        rule = TypicalAcceptance(epsilon=epsilon, delta=delta)
    except ValueError:
        rule = None
    if rule is None or math.isinf(rule.delta):
        raise UsageError(
            f"--lossy {text}: use typical, or typical:EPSILON,DELTA with EPSILON between 0 and 1 "
            "and DELTA above 0, e.g. typical:0.09,0.3."
        )
    return rule


def _numbers(option: str, text: str | None, default: float) -> list[float]:
    if text is None:
        return [default]
    try:
        return list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"{option} {text}: use numbers, e.g. 0.05,0.09,0.2.") from None


def _exit_layers(named: Sequence[str], target: str, options: ModelOptions) -> tuple[int, ...]:
    if ALL in named:
        return tuple(range(1, api.layer_count(target, options)))
    try:
        layers = tuple(int(part) for part in named)
    except ValueError:
        layers = (0,)
    if layers and min(layers) < 1:
        raise UsageError(f"--early-exit {' '.join(named)}: name layers from 1, or all.")
    return layers


def _ngrams(asked: dict[str, Any]) -> tuple[NgramSizes, ...]:
    try:
        picks = [NgramPick(part.strip()) for part in asked["ngram_pick"].split(",")]
    except ValueError:
        raise UsageError(
            f"--ngram-pick {asked['ngram_pick']}: use earliest, latest, or both with a comma "
            "between."
        ) from None
    sizes: list[str] = asked["ngram_sizes"] or []
    if not sizes and not asked["ngram"]:
        return ()
    pairs = [_sizes(text) for text in sizes] or [(MIN_NGRAM, MAX_NGRAM)]
    return tuple(
        NgramSizes(shortest=shortest, longest=longest, pick=pick)
        for shortest, longest in pairs
        for pick in picks
    )


def _sizes(text: str) -> tuple[int, int]:
    shortest, _, longest = text.partition("-")
    if not (shortest.isdigit() and longest.isdigit() and 1 <= int(shortest) <= int(longest)):
        raise UsageError(f"--ngram-sizes {text}: use SHORTEST-LONGEST, e.g. 2-4.")
    return int(shortest), int(longest)


def _draft_samplings(text: str) -> tuple[DraftSampling, ...]:
    try:
        return tuple(dict.fromkeys(DraftSampling(part.strip()) for part in text.split(",")))
    except ValueError:
        raise UsageError(
            f"--draft-sampling {text}: use probabilistic, greedy, or both with a comma between."
        ) from None


def _absolute(path: str) -> str:
    """A resumed run may start elsewhere."""
    return str(Path(path).expanduser().resolve())
