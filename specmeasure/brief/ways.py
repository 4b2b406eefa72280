"""Heads or a draft model: the fastest arm of each way to draft, in a sentence and a table."""

from collections.abc import Sequence

from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import NOT_APPLICABLE, byte_size, count, speedup
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import Interval, Way


def write_ways(ways: Sequence[Way]) -> str | None:
    """Which way is the fastest, and which of the others that holds against; None: one was tried."""
    if not ways:
        return None
    best, *others = ways
    beaten = [one for one in others if isinstance(one.lead, Interval) and one.lead.low > 1]
    level = [one for one in others if one not in beaten]
    said = f"The fastest way to draft on these prompts is {_named(best)}"
    if beaten:
        leads = [f"{_named(one)} by {speedup(one.lead)}" for one in beaten]
        said += f", ahead of {listed(leads)}"
    if level:
        said += f"{'; it' if beaten else ', but it'} is not told apart from "
        said += listed([_named(one) for one in level])
    return f"{said}."


def ways_table(ways: Sequence[Way], notes: Footnotes) -> Table:
    """One line each: speed, lead and memory side by side."""
    return Table(
        columns=("Way to draft", "Fastest arm", "Decode speedup", "Leader's lead", "Memory"),
        rows=tuple(
            (
                f"{way.name}, {count(way.num_arms, 'arm')}",
                plain(way.arm),
                notes.cell(speedup, way.decode_speedup),
                NOT_APPLICABLE if way.lead is None else notes.cell(speedup, way.lead),
                _memory(way.extra_memory_bytes),
            )
            for way in ways
        ),
    )


def _named(way: Way) -> str:
    article = "a " if way.name == "draft model" else ""
    return f"{article}{way.name} ({plain(way.arm)})"


def _memory(extra_bytes: int | None) -> str:
    sign = "" if extra_bytes is None or extra_bytes < 0 else "+"
    return f"{sign}{byte_size(extra_bytes)}"
