"""Everything that may draft, from what a user names."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from specmeasure.records.plan import Arm, DraftSampling, Method, NgramPick
from specmeasure.records.tree import TokenTree

MAX_NGRAM, MIN_NGRAM = 4, 2  # suffixes that n-gram arms look up
PROBABILISTIC = (DraftSampling.PROBABILISTIC,)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedHeads:
    """Medusa heads, and how many there are."""

    name: str  # folder or hub id
    num_heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramSizes:
    """What prompt lookup looks up, and which occurrence it continues."""

    longest: int = MAX_NGRAM
    shortest: int = MIN_NGRAM
    pick: NgramPick = NgramPick.EARLIEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafters:
    """Ways to draft, as a user names them."""

    drafts: Sequence[str] = ()  # draft models
    draft_samplings: Sequence[DraftSampling] = PROBABILISTIC
    exit_layers: Sequence[int] = ()
    heads: Sequence[NamedHeads] = ()
    trees: Sequence[TokenTree] = ()  # that heads draft beside their chain
    ngrams: Sequence[NgramSizes] = ()
    suffix: bool = False  # lookup of the longest suffix in prompt and answer
    past_outputs: Sequence[str] = ()  # and in earlier answers, one arm for each source

    @property
    def are_named(self) -> bool:
        """Whether there is anything to measure."""
        named = (self.drafts, self.exit_layers, self.heads, self.ngrams, self.past_outputs)
        return self.suffix or any(named)


def plan_candidates(drafters: Drafters, *, most: int) -> tuple[Arm, ...]:
    """Everything that may draft, looked at up to ``most`` drafts a block; heads as far as they go.

    >>> both = (DraftSampling.PROBABILISTIC, DraftSampling.GREEDY)
    >>> named = Drafters(drafts=["a/small"], draft_samplings=both, exit_layers=[4])
    >>> [arm.name for arm in plan_candidates(named, most=8)]
    ['small', 'small greedy', 'early exit 4']
    >>> tree = TokenTree.of([[0], [1], [0, 0]])
    >>> named = Drafters(heads=[NamedHeads(name="a/heads", num_heads=3)], trees=[tree])
    >>> [(arm.name, arm.num_speculative_tokens) for arm in plan_candidates(named, most=8)]
    [('medusa', 3), ('medusa tree 3', 3)]
    """
    found = [
        *_draft_models(drafters, most),
        *_early_exits(drafters, most),
        *_heads(drafters),
        *_ngrams(drafters, most),
        *_suffixes(drafters, most),
    ]
    return tuple(_numbered(found))


def _draft_models(drafters: Drafters, most: int) -> Iterator[Arm]:
    drafts = list(dict.fromkeys(drafters.drafts))
    samplings = drafters.draft_samplings
    for draft, label in zip(drafts, _labels(drafts), strict=True):
        for sampling in samplings:
            is_plain = len(samplings) == 1 or sampling in PROBABILISTIC
            yield Arm(
                name=label if is_plain else f"{label} {sampling}",
                method=Method.DRAFT_MODEL,
                num_speculative_tokens=most,
                draft=draft,
                draft_sampling=sampling,
            )


def _early_exits(drafters: Drafters, most: int) -> Iterator[Arm]:
    for layer in dict.fromkeys(drafters.exit_layers):
        yield Arm(
            name=f"early exit {layer}",
            method=Method.EARLY_EXIT,
            num_speculative_tokens=most,
            exit_layer=layer,
            draft_sampling=drafters.draft_samplings[0],
        )


def _heads(drafters: Drafters) -> Iterator[Arm]:
    """Each chain in full; a shorter one is a smaller K."""
    heads = {one.name: one for one in drafters.heads}
    for one in heads.values():
        label = "medusa" if len(heads) == 1 else f"medusa:{_short(one.name)}"
        chain = Arm(
            name=label,
            method=Method.MEDUSA,
            num_speculative_tokens=one.num_heads,
            heads=one.name,
            draft_sampling=drafters.draft_samplings[0],
        )
        yield chain
        for tree in drafters.trees:
            fitting = tree.down_to(one.num_heads) or tree
            yield replace(
                chain,
                name=f"{label} tree {fitting.num_nodes}",
                num_speculative_tokens=fitting.num_nodes,
                tree=fitting,
            )


def _ngrams(drafters: Drafters, most: int) -> Iterator[Arm]:
    for sizes in dict.fromkeys(drafters.ngrams):
        words = ["ngram"]
        if (sizes.longest, sizes.shortest) != (MAX_NGRAM, MIN_NGRAM):
            words.append(f"{sizes.shortest}-{sizes.longest}")
        if sizes.pick is not NgramPick.EARLIEST:
            words.append(sizes.pick)
        yield Arm(
            name=" ".join(words),
            method=Method.NGRAM,
            num_speculative_tokens=most,
            max_ngram=sizes.longest,
            min_ngram=sizes.shortest,
            ngram_pick=sizes.pick,
        )


def _suffixes(drafters: Drafters, most: int) -> Iterator[Arm]:
    sources = [*([None] if drafters.suffix else []), *dict.fromkeys(drafters.past_outputs)]
    for source in sources:
        yield Arm(
            name="suffix" if source is None else "suffix past",
            method=Method.SUFFIX,
            num_speculative_tokens=most,
            past_outputs=source,
        )


def _numbered(arms: Sequence[Arm]) -> Iterator[Arm]:
    """Arms of one name told apart by their number."""
    seen: Counter[str] = Counter()
    for arm in arms:
        seen[arm.name] += 1
        number = seen[arm.name]
        yield arm if number == 1 else replace(arm, name=f"{arm.name} ({number})")


def _labels(drafts: Sequence[str]) -> list[str]:
    """Short names while they tell arms apart, else the names as given."""
    short = [_short(draft) for draft in drafts]
    taken = {Method.BASELINE, Method.NGRAM, Method.MEDUSA, Method.SUFFIX}
    if len(set(short)) == len(short) and not set(short) & taken:
        return short
    return [f"draft:{draft}" if draft in taken else draft for draft in drafts]


def _short(name: str) -> str:
    return Path(name.rstrip("/").replace("embedded:", "")).name
