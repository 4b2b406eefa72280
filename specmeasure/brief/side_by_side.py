"""Comparisons and regression checks as a markdown page, or as a terminal shows them."""

from collections.abc import Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from specmeasure.brief.comparison import ComparisonContent
from specmeasure.brief.console import headline_text, rich_table
from specmeasure.brief.markdown import render_template
from specmeasure.brief.regression import RegressionContent
from specmeasure.records.comparison import GateOutcome

_STYLES: Final[Mapping[GateOutcome | None, str]] = {
    GateOutcome.HELD: "bold green",
    GateOutcome.FELL: "bold red",
    GateOutcome.OPEN: "bold yellow",
}
_LEFT_OUT = ("Run", "Tokens per target pass", "On the front")  # so that 100 columns hold the rest


def render_comparison(content: ComparisonContent, *, figures: Mapping[str, str]) -> str:
    """The whole page; ``figures`` are paths as it should link them, by "pareto"."""
    return render_template("compare.md.j2", compared=content, figures=figures)


def render_regression(content: RegressionContent) -> str:
    """The whole page."""
    return render_template("regression.md.j2", check=content)


def comparison_tables(content: ComparisonContent) -> RenderableType:
    """The short form of a comparison; fits in 100 columns, longer names fold."""
    parts: list[RenderableType] = [
        headline_text(content.headline),
        Text(content.why),
        rich_table(content.candidates, title="Candidates", without=_LEFT_OUT),
        rich_table(content.differences, title="Paired differences"),
        Text(content.groups),
        Text(content.front),
    ]
    if content.leaders.rows:
        parts.append(rich_table(content.leaders, title=f"Fastest by {content.axis}"))
    parts.append(Text(content.routing))
    parts += [Text(line, style="dim") for line in (*content.evidence, *content.footnotes)]
    return Group(*parts)


def regression_table(content: RegressionContent) -> RenderableType:
    """The short form of a regression check; fits in 100 columns."""
    said = f"{content.outcome.value}: " if content.outcome else ""
    headline = Text.assemble((said, _STYLES.get(content.outcome, "")), (content.headline, "bold"))
    return Group(
        headline,
        *(Text(line) for line in content.arms),
        rich_table(content.changes, title="New − old"),
        *(Text(line, style="dim") for line in (*content.evidence, *content.footnotes)),
    )
