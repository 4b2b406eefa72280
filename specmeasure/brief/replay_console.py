"""A replay as a terminal shows it: the verdict, the candidates, how well predictions held."""

from rich.console import Group, RenderableType
from rich.text import Text

from specmeasure.brief.console import headline_text, rich_table
from specmeasure.brief.replay import ReplayContent
from specmeasure.brief.tables import Table

_ACCEPTED = "Drafts accepted: you have"
_CANDIDATES_WITHOUT = ("Cross-fitted", "FLOPs per token")  # so that 100 columns hold the rest
_AGREEMENTS_WITHOUT = ("τ predicted", "τ measured")


def replay_summary(content: ReplayContent) -> RenderableType:
    """The short form of the page; fits in 100 columns, longer names fold."""
    shown = _without(content.candidates, _ACCEPTED, num_columns=2)
    parts: list[RenderableType] = [
        _headline(content),
        Text(content.summary),
        rich_table(shown, title="Candidates at their best K", without=_CANDIDATES_WITHOUT),
        *map(Text, content.notes),
    ]
    tables = [shown]
    if content.agreements.rows:
        tables.append(content.agreements)
        parts.append(
            rich_table(
                content.agreements, title="Predicted against measured", without=_AGREEMENTS_WITHOUT
            )
        )
        parts += map(Text, content.agreement_notes)
    if content.exits.rows:
        tables.append(content.exits)
        parts.append(rich_table(content.exits, title="Early exits by layer, at their best K"))
    if content.slices:
        parts.append(Text(content.gains))
    parts.append(Text(content.failure_notes[0]))
    dim = [content.costs_notes[0], *footnotes_in(tables, content.footnotes)]
    return Group(*parts, *(Text(line, style="dim") for line in dim))


def _headline(content: ReplayContent) -> Text:
    said = headline_text(content.headline)
    if not content.is_predicted:
        return said
    verdict, rest = said.divide([len(content.headline.verdict.value)])
    return Text.assemble(verdict, " (predicted)", rest)


def _without(table: Table, first: str, *, num_columns: int) -> Table:
    """The table less so many columns from the one that is called ``first``."""
    start = table.columns.index(first)

    def kept(cells: tuple[str, ...]) -> tuple[str, ...]:
        return cells[:start] + cells[start + num_columns :]

    return Table(columns=kept(table.columns), rows=tuple(map(kept, table.rows)))


def footnotes_in(tables: list[Table], footnotes: tuple[str, ...]) -> list[str]:
    """Those whose mark stands in a table that is shown."""
    cells = [cell for table in tables for row in table.rows for cell in row]
    marks = {note: note.partition(":")[0].removeprefix("Not measured") for note in footnotes}
    return [note for note, mark in marks.items() if any(cell.endswith(mark) for cell in cells)]
