"""Looking at a run several times before it ends, without erring more often for it.

Each look spends a part of the error that one interval at the end would make (Lan & DeMets 1983,
with the O'Brien-Fleming-type function); the intervals of all looks then hold together (repeated
confidence intervals, Jennison & Turnbull 1989). Information is counted in prompts. The boundaries
are those of normal statistics with independent increments; that estimates over prompts keep them
is simulated, see docs/calibration.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from specmeasure.estimate.intervals import Floats

NUM_LOOKS = 5
LEAST_ERROR = 1e-12  # of a look: below it, bounds would be infinite and say nothing


def plan_looks(max_prompts: int, min_prompts: int) -> tuple[int, ...]:
    """Prompts recorded at each look: fifths of the most, none below the fewest; the most is last.

    >>> plan_looks(200, 20), plan_looks(50, 20), plan_looks(12, 20)
    ((40, 80, 120, 160, 200), (20, 30, 40, 50), (12,))
    """
    fifths = (math.ceil(max_prompts * look / NUM_LOOKS) for look in range(1, NUM_LOOKS + 1))
    looks = (min(max_prompts, max(min_prompts, fifth)) for fifth in fifths)
    return tuple(dict.fromkeys(looks))


def look_levels(num_prompts_at_looks: Sequence[int], level: float) -> tuple[float, ...]:
    """The confidence level of each look's intervals, which all hold together at ``level``.

    Information fractions are the looks' prompts over the last look's.

    >>> [round(one, 4) for one in look_levels((40, 80, 120, 160, 200), 0.95)]
    [1.0, 0.9992, 0.9926, 0.978, 0.9577]
    """
    last = num_prompts_at_looks[-1]
    fractions = [num_prompts / last for num_prompts in num_prompts_at_looks]
    return tuple(
        1 - max(LEAST_ERROR, 2 * float(special.ndtr(-bound)))
        for bound in boundaries(fractions, 1 - level)
    )


def spent_error(fraction: float, error: float) -> float:
    """The share of a two-sided ``error`` that may be spent by an information fraction.

    Formula: 2 · (2 − 2 Φ(z / √t)) with Φ(z) = 1 − error / 4, so that each side spends its half
    """
    z = -special.ndtri(error / 4)
    return float(4 * special.ndtr(-z / math.sqrt(fraction)))


def boundaries(fractions: Sequence[float], error: float) -> tuple[float, ...]:
    """What |Z| must reach at each look; a two-sided ``error`` is spent over all of them.

    The density of the paths that have not crossed yet is integrated from look to look (Armitage,
    McPherson & Rowe 1969).

    >>> [round(one, 3) for one in boundaries((0.2, 0.4, 0.6, 0.8, 1.0), 0.05)]
    [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    if not fractions or any(
        later <= earlier for earlier, later in zip((0.0, *fractions), fractions, strict=False)
    ):
        raise ValueError(f"information fractions must grow from above 0: {list(fractions)}")
    paths, spent, bounds = _START, 0.0, []
    for fraction in fractions:
        allowed = spent_error(fraction, error)
        bound = _bound(paths, fraction, allowed - spent)
        paths, spent = paths.onward(fraction, bound), allowed
        bounds.append(bound)
    return tuple(bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """Where the score process √t · Z stands at a look, of the paths that never crossed."""

    fraction: float
    places: Floats
    weights: Floats  # chances of being near each place; they sum up to less than 1

    def crossing(self, fraction: float, bound: float) -> float:
        """The chance that |Z| reaches ``bound`` at the next look."""
        edge, scale = bound * math.sqrt(fraction), math.sqrt(fraction - self.fraction)
        beyond = special.ndtr((self.places - edge) / scale)
        below = special.ndtr((-self.places - edge) / scale)
        return float(self.weights @ (beyond + below))

    def onward(self, fraction: float, bound: float) -> "_Paths":
        """The paths within ``bound`` at the next look (Gauss-Legendre nodes)."""
        edge, scale = bound * math.sqrt(fraction), math.sqrt(fraction - self.fraction)
        nodes, weights = np.polynomial.legendre.leggauss(64 + math.ceil(8 * edge / scale))
        places = edge * nodes
        steps = (places[:, None] - self.places) / scale
        density = np.exp(-(steps**2) / 2) @ self.weights / (scale * math.sqrt(2 * math.pi))
        return _Paths(fraction=fraction, places=places, weights=edge * weights * density)


_START = _Paths(fraction=0.0, places=np.zeros(1), weights=np.ones(1))


def _bound(paths: _Paths, fraction: float, error: float) -> float:
    """The bound that is crossed at this look, and not before, with a chance of ``error``."""
    most = 30.0
    if paths.crossing(fraction, most) >= error:  # too early for any error that can be written
        return most
    return float(
        optimize.brentq(
            lambda bound: paths.crossing(fraction, bound) - error, 0.0, most, xtol=1e-10
        )
    )
