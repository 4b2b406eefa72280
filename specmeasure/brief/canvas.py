"""A blank figure and its files, the same bytes for the same drawing on every machine.

Colours are Okabe and Ito's, which the common colour blindnesses tell apart, and every arm has its
own marker and line, so that grey prints tell them apart too. Letters are large enough to be read at
half size. Matplotlib is imported only when a figure is drawn.
"""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specmeasure.brief.numbers import level
from specmeasure.records.estimates import Estimate, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#555555"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), ":")
_WIDTH = 7.2  # inches
_PNG_DOTS = 150  # an inch
_SHORT_NAME = 30
_STYLE = {
    "svg.fonttype": "none",  # letters stay letters: small and searchable
    "svg.hashsalt": "specmeasure",
    "text.parse_math": False,  # a category may be called $x$
    "font.size": 10.5,
    "axes.titlesize": "medium",
    "figure.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
    "figure.constrained_layout.use": True,
}
SMALL = 9.0  # points, for notes inside a figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one arm is told from the others, in every figure of a brief."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]  # as matplotlib names a line style


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawn figure."""

    svg: bytes
    figure: "Figure"

    @classmethod
    def of(cls, figure: "Figure") -> "Picture":
        svg = to_svg(figure)
        figure.set_layout_engine("none")  # everything is in its place now, for png, too
        return cls(svg=svg, figure=figure)

    def png(self) -> bytes:
        drawn = io.BytesIO()
        with styled():
            self.figure.savefig(drawn, format="png", dpi=_PNG_DOTS, metadata={"Software": None})
        return drawn.getvalue()


def assign_looks(names: Iterable[str]) -> dict[str, Look]:
    """A colour, a marker and a line for each arm, the same in all figures."""
    return {
        name: Look(
            colour=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
            line=_LINES[index % len(_LINES)],
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


def two_panels(*, height: float) -> "tuple[Figure, tuple[Axes, Axes]]":
    """A figure with two drawings side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


def panels(number: int, *, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure with drawings side by side that share what goes up."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    drawn = figure.subplots(1, number, sharey=True, squeeze=False)
    return figure, list(drawn[0])


def set_title(figure: "Figure", said: str) -> None:
    """What the figure shows, in a sentence above it, flush left."""
    figure.suptitle(said, x=0.01, ha="left")


def note(
    axes: "Axes",
    said: str,
    place: tuple[float, float],
    *,
    coordinates: str | tuple[str, str] = "data",
    align: tuple[str, str] = ("left", "bottom"),  # horizontally, vertically
) -> None:
    """Small grey letters inside a figure."""
    axes.annotate(
        said,
        place,
        xycoords=coordinates,
        ha=align[0],
        va=align[1],
        fontsize=SMALL,
        color=GREY,
    )


def num_columns(names: Iterable[str]) -> int:
    """Of a legend below a figure: two where names are short."""
    return 2 if all(len(name) <= _SHORT_NAME for name in names) else 1


def to_svg(figure: "Figure") -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": "specmeasure"})
    return drawn.getvalue()


def all_levels(estimates: Sequence[Estimate | None]) -> str:
    """The levels among them: those of slices are corrected for their number.

    >>> from dataclasses import replace
    >>> found = Interval(value=1.2, low=1.1, high=1.3, level=0.95, num_clusters=40)
    >>> all_levels([found, replace(found, level=0.99), replace(found, level=0.999)])
    '95 % to 99.9 %'
    """
    found = sorted({estimate.level for estimate in estimates if isinstance(estimate, Interval)})
    said = list(dict.fromkeys(level(confidence) for confidence in found))
    return " and ".join(said) if len(said) <= 2 else f"{said[0]} to {said[-1]}"


def spread(index: int, number: int, step: float) -> float:
    """How far the item is moved from the centre, so that intervals do not cover one another."""
    return step * (index - (number - 1) / 2)
