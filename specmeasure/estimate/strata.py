"""Workers as strata: prompts vary within one, and the workers themselves are no sample.

Leaving out one prompt of a worker tells how prompts vary there; that workers differ in speed is no
error of an estimate over all of them.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Strata = NDArray[np.int64]  # [n] the worker of each cluster


def joined(strata: Strata) -> Strata:
    """Strata [n] numbered from 0, none of them of a single cluster, which would tell no spread.

    All workers with one cluster are taken for one worker; if that leaves one with a single cluster,
    it is joined with the smallest of the others.
    """
    if (strata == strata[:1]).all():
        return np.zeros(len(strata), dtype=np.int64)
    _, numbers, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    single = sizes == 1
    if not single.any() or len(sizes) == 1:
        return numbers
    target = np.arange(len(sizes))
    target[single] = target[single][0]
    if single.sum() == 1 and len(sizes) > 1:
        smallest = int(np.where(single, len(strata) + 1, sizes).argmin())
        target[single] = smallest
    return np.unique(target[numbers], return_inverse=True)[1]


def sums_without_each(values: Floats, strata: Strata) -> Floats:
    """Σ over all others [n], those of its stratum weighing for it as well.

    Formula: Σ_{k≠h} S_k + n_h / (n_h − 1) · Σ of the others of h, with S_k the sum of a stratum
    (delete-one jackknife of a stratified sample, Wolter 2007, section 4.5)
    """
    others = sums_of_others(np.bincount(strata, weights=values).astype(np.float64))
    found = np.empty(len(values))
    for number, of_others in enumerate(others):
        own = strata == number
        size = int(own.sum())
        found[own] = of_others + size / (size - 1) * sums_of_others(values[own])
    return found


def sums_of_others(values: Floats) -> Floats:
    """Σ over all others, for each of [n].

    Summed from both ends: the total less the value would lose what is small beside it, and be 0
    where the others are not.
    """
    before = np.concatenate(([0.0], values[:-1].cumsum()))
    after = np.concatenate((values[:0:-1].cumsum()[::-1], [0.0]))
    return before + after


def deviations(left_out: Floats, strata: Strata) -> Floats:
    """Of estimates [n] that leave one cluster out: their stratum's mean less each."""
    means = np.bincount(strata, weights=left_out) / np.bincount(strata)
    return np.asarray(means[strata] - left_out)


def variances(influences: Floats, strata: Strata) -> Floats:
    """What each stratum adds to the variance. Formula: (n_h − 1) / n_h Σ_i influences_hi²."""
    sizes = np.bincount(strata)
    squares = np.bincount(strata, weights=np.square(influences))
    return np.asarray((sizes - 1) / sizes * squares)


def degrees(variances: Floats, weights: Floats, strata: Strata) -> float:
    """Degrees of freedom of the strata's variances together; a lone small one may be most of them.

    Formula: ν = (Σ v_h)² / Σ v_h² / ν_h, with ν_h one less than the stratum's effective number of
    clusters, 1 at least (Satterthwaite 1946)
    """
    sums = np.bincount(strata, weights=weights)
    effective = sums**2 / np.bincount(strata, weights=np.square(weights))
    own = np.maximum(1.0, effective - 1)
    return float(variances.sum() ** 2 / (np.square(variances) / own).sum())
