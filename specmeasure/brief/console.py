"""The brief as a terminal shows it: the verdict, the arms, the slices of the first axis."""

from collections.abc import Mapping
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from specmeasure.brief.content import BriefContent, brief_content
from specmeasure.brief.headline import Headline
from specmeasure.brief.served import Served
from specmeasure.brief.tables import Table
from specmeasure.records.decision import Decision, Verdict
from specmeasure.records.estimates import Estimates
from specmeasure.records.trace import Manifest

_STYLES: Final[Mapping[str, str]] = {
    Verdict.GO: "bold green",
    Verdict.NO_GO: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
}
NAME_WIDTH = 18  # columns that a name keeps when a terminal is narrow
_LEFT_OUT = ("Prompts", "End-to-end speedup")  # of the arms, so that they fit in 100 columns


def summary_table(
    manifest: Manifest,
    estimates: Estimates,
    decision: Decision,
    served: Served | None = None,
) -> RenderableType:
    """The short form of the brief; fits in 100 columns, longer names fold."""
    brief = brief_content(manifest, estimates, decision, served)
    parts: list[RenderableType] = [
        headline_text(brief.headline),
        *(Text(notice, style="bold") for notice in brief.notices),
        Text(f"{brief.summary[0]} {brief.summary[1]}"),
        *_arms(brief),
    ]
    if brief.slices:
        shown = brief.slices[0]
        parts.append(rich_table(shown.table, title=f"{brief.headline.arm} by {shown.axis}"))
        parts.append(Text(brief.gains))
    if not brief.load:  # servers do not tell where their time goes
        parts.append(Text(brief.why))
    parts.extend(Text(note, style="dim") for note in _footnotes_in_sight(brief))
    return Group(*parts)


def _arms(brief: BriefContent) -> list[RenderableType]:
    """The arms' speed; on servers at each load, and where it stops."""
    if not brief.load:
        return [rich_table(brief.speed, title="Arms", without=_LEFT_OUT)]
    return [
        rich_table(brief.load.summary, title="Arms under load"),
        *map(Text, brief.load.crossovers),
    ]


def _footnotes_in_sight(brief: BriefContent) -> list[str]:
    arms = brief.load.summary if brief.load else brief.speed
    cells = {cell for table in (arms, *_first_slices(brief)) for row in table.rows for cell in row}
    return [note for note in brief.footnotes if note.partition(":")[0].lower() in cells]


def _first_slices(brief: BriefContent) -> list[Table]:
    return [one.table for one in brief.slices[:1]]


def headline_text(line: Headline) -> Text:
    """The verdict in its colour, and what it says."""
    return Text.assemble(
        (line.verdict.value, _STYLES[line.verdict]),
        (f"{line.scope}: {line.before}{line.arm}{line.after}", "bold"),
    )


def rich_table(table: Table, *, title: str, without: tuple[str, ...] = ()) -> RichTable:
    """A table whose first column keeps its width and whose verdicts have their colours."""
    shown = RichTable(title=Text(title), title_justify="left", box=box.SIMPLE, pad_edge=False)
    kept = [index for index, name in enumerate(table.columns) if name not in without]
    for index in kept:
        longest = max((len(row[index]) for row in table.rows), default=0)
        min_width = min(longest, NAME_WIDTH) if index == 0 else None
        shown.add_column(Text(table.columns[index]), overflow="fold", min_width=min_width)
    for row in table.rows:
        shown.add_row(*(Text(row[index], style=_STYLES.get(row[index], "")) for index in kept))
    return shown
