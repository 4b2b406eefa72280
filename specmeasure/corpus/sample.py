"""A smaller corpus that keeps the mix of categories."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache

from specmeasure.records.corpus import Prompt

_MASK = 2**64 - 1


def sample_prompts(
    prompts: Sequence[Prompt],
    *,
    limit: int,
    seed: int,
    sizes: Mapping[str, int] | None = None,
) -> tuple[Prompt, ...]:
    """At most `limit` prompts, in their order, each category by its share.

    Which prompts of a category stay depends on the seed and on what they ask, not on their file
    or place: the same prompts in another order give the same sample.

    Args:
        prompts: to choose from.
        limit: most prompts to keep.
        seed: of the draws.
        sizes: prompts of each category in the corpus that these stand for; None: these are all.
    """
    if limit >= len(prompts):
        return tuple(prompts)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        places[prompt.category].append(place)
    quotas = _reachable(sizes, {name: len(group) for name, group in places.items()}, limit)
    draws = [draw(prompt.content_hash, seed) for prompt in prompts]
    kept = [
        place
        for category, group in places.items()
        for place in sorted(group, key=lambda place: draws[place])[: quotas[category]]
    ]
    return tuple(prompts[place] for place in sorted(kept))


def draw(content_hash: str, seed: int) -> int:
    """A pseudo-random rank, 64 bits, that no other prompt has a say in.

    The digest is random already; multiplying by a seed's odd number (Dietzfelbinger et al. 1997)
    gives every seed an order of its own.
    """
    return int(content_hash[:16], 16) * _multiplier(seed) & _MASK


@cache
def _multiplier(seed: int) -> int:
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") | 1


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


def _reachable(
    sizes: Mapping[str, int] | None, available: Mapping[str, int], limit: int
) -> dict[str, int]:
    """Quotas by the whole corpus; what a category cannot fill goes to the others."""
    if sizes is None:
        return allot_quotas(available, limit)
    quotas = dict.fromkeys(available, 0)
    open_sizes = {name: max(sizes.get(name, 0), size) for name, size in available.items()}
    while open_sizes:
        left = limit - sum(quotas[name] for name in quotas if name not in open_sizes)
        allotted = allot_quotas(open_sizes, min(left, sum(open_sizes.values())))
        short = [name for name, quota in allotted.items() if quota > available[name]]
        if not short:
            return {**quotas, **allotted}
        for name in short:
            quotas[name] = available[name]
            del open_sizes[name]
    return quotas
