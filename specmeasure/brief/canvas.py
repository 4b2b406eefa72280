"""A blank figure and its SVG, the same bytes for the same drawing on every machine.

Colours are Okabe and Ito's, which the common colour blindnesses tell apart, and every arm has its
own marker. Matplotlib is imported only when a figure is drawn.
"""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_WIDTH = 7.2  # inches
_STYLE = {
    "svg.fonttype": "none",  # letters stay letters: small and searchable
    "svg.hashsalt": "specmeasure",
    "text.parse_math": False,  # a category may be called $x$
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one arm is told from the others, in every figure of a brief."""

    colour: str
    marker: str


def assign_looks(names: Iterable[str]) -> dict[str, Look]:
    """A colour and a marker for each arm, the same in both figures."""
    return {
        name: Look(
            colour=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
        )
        for index, name in enumerate(names)
    }


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's defaults and our own, whatever the user's matplotlibrc says."""
    from matplotlib import style

    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The viewer's font draws the letters, so ours need not have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def blank_figure(*, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.add_subplot()


def to_svg(figure: "Figure") -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": "specmeasure"})
    return drawn.getvalue()
