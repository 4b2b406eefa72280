"""A smaller corpus that keeps the mix of categories."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from specmeasure.records.corpus import Prompt


def sample_prompts(prompts: Sequence[Prompt], *, limit: int, seed: int) -> tuple[Prompt, ...]:
    """At most `limit` prompts, in their order, each category by its share.

    Which prompts of a category stay depends on the seed and on what they ask, not on their file
    or place: the same prompts in another order give the same sample.
    """
    if limit >= len(prompts):
        return tuple(prompts)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        places[prompt.category].append(place)
    quotas = allot_quotas({category: len(group) for category, group in places.items()}, limit)
    kept = [
        place
        for category, group in places.items()
        for place in sorted(group, key=lambda place: _draw(prompts[place], seed))[
            : quotas[category]
        ]
    ]
    return tuple(prompts[place] for place in sorted(kept))


def allot_quotas(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """Shares by largest remainder; one at least for each category once the limit allows it.

    >>> allot_quotas({"chat": 90, "code": 9, "maths": 1}, 10)
    {'code': 1, 'maths': 1, 'chat': 8}
    >>> allot_quotas({"chat": 90, "code": 9, "maths": 1}, 2)
    {'chat': 2, 'code': 0, 'maths': 0}
    """
    small: list[str] = []
    rest = dict(sizes)
    while limit >= len(rest):
        total = sum(rest.values())
        short = [category for category, size in rest.items() if size * limit < total]
        if not short:
            break
        small += short
        limit -= len(short)
        rest = {category: size for category, size in rest.items() if category not in short}
    return {**dict.fromkeys(small, 1), **_largest_remainder(rest, limit)}


def _largest_remainder(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    total = sum(sizes.values())
    seats = {category: size * limit // total for category, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(sizes[name] * limit % total), name))
    for category in by_remainder[: limit - sum(seats.values())]:
        seats[category] += 1
    return seats


def _draw(prompt: Prompt, seed: int) -> str:
    """A pseudo-random rank that no other prompt has a say in."""
    return hashlib.sha256(f"{seed}\0{prompt.content_hash}".encode()).hexdigest()
