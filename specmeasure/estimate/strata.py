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

    Formula: Σ values − S_h + n_h / (n_h − 1) · (S_h − value), with S_h the sum of its stratum
    (delete-one jackknife of a stratified sample, Wolter 2007, section 4.5)
    """
    sizes = np.bincount(strata)[strata]
    sums = np.bincount(strata, weights=values)[strata]
    return np.asarray(values.sum() - sums + sizes / (sizes - 1) * (sums - values))


def deviations(left_out: Floats, strata: Strata) -> Floats:
    """Of estimates [n] that leave one cluster out: their stratum's mean less each."""
    means = np.bincount(strata, weights=left_out) / np.bincount(strata)
    return np.asarray(means[strata] - left_out)


def variance(influences: Floats, strata: Strata) -> float:
    """Formula: Σ_h (n_h − 1) / n_h Σ_i influences_hi²."""
    sizes = np.bincount(strata)
    squares = np.bincount(strata, weights=np.square(influences))
    return float(((sizes - 1) / sizes * squares).sum())
