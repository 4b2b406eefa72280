"""One source to its prompts, with everything that was left out of it."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import IO

from specmeasure.corpus.asked import not_replayed
from specmeasure.corpus.columns import decide_column
from specmeasure.corpus.formats import rows_of
from specmeasure.corpus.intake import Intake
from specmeasure.corpus.problems import BadRow, Undecidable, Unreplayable
from specmeasure.corpus.prompts import find_in_row, read_prompt
from specmeasure.corpus.rows import Row
from specmeasure.corpus.sources import Source
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions, Dropped, Prompt, SourceFile

_FIRST_PLACES = 5
_MOST_REASONS = 100  # of one file; what follows is counted together
_INDEX = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class DroppedCounts:
    """How often and where first, by reason."""

    _counts: Counter[str] = field(default_factory=Counter)
    _places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, *places: str, num_rows: int = 1) -> None:
        """Count rows for one reason, whichever of their messages it is about."""
        reason = _INDEX.sub("[]", reason)
        if reason not in self._counts and len(self._counts) >= _MOST_REASONS:
            reason = "another reason"
        self._counts[reason] += num_rows
        known = self._places.setdefault(reason, [])
        known.extend(places[: _FIRST_PLACES - len(known)])

    @property
    def num_rows(self) -> int:
        return self._counts.total()

    def records(self) -> tuple[Dropped, ...]:
        return tuple(
            Dropped(reason=reason, num_rows=count, places=tuple(self._places[reason]))
            for reason, count in self._counts.items()
        )


@dataclass(slots=True)
class _Tally:
    """What one source was made of."""

    num_rows: int = 0
    num_prompts: int = 0
    known: dict[tuple[str, str], None] = field(default_factory=dict)  # shapes and fields
    ignored: Counter[str] = field(default_factory=Counter)  # parameters that are not replayed
    dropped: DroppedCounts = field(default_factory=DroppedCounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """What a source gave, and what a reader of the brief should know about it."""

    file: SourceFile
    warnings: tuple[str, ...]


def read_source(
    source: Source, options: CorpusOptions, stdin: IO[bytes] | None, intake: Intake
) -> FileReading:
    """Offer all prompts of a source; the first bad row ends it unless bad rows are skipped."""
    tally, stem = _Tally(), source.stem
    with rows_of(source, options, stdin) as from_start:
        stream = from_start
        if options.field is None:
            column, stream = decide_column(from_start, source.name)
            options = replace(options, field=column)
        for row in stream.rows:
            tally.num_rows += 1
            for prompt, content in _prompts_of(row, stem, options, tally):
                tally.num_prompts += 1
                intake.offer(prompt, content)
    num_duplicates, places = intake.duplicates()
    if num_duplicates:
        tally.num_prompts -= num_duplicates
        tally.dropped.add("duplicate", *places, num_rows=num_duplicates)
    if not tally.num_rows:
        raise UnreadableCorpus(f"{source.name}: it is empty. Put prompts into it or leave it out.")
    return FileReading(
        file=SourceFile(
            path=source.name,
            format=", ".join([stream.format, *_describe(tally.known)]),
            num_rows=tally.num_rows,
            num_prompts=tally.num_prompts,
            dropped=tally.dropped.records(),
            revision=stream.revision,
        ),
        warnings=tuple(
            f"{count} prompts of {source.name} set {name}, which is not replayed."
            for name, count in tally.ignored.items()
        ),
    )


def _prompts_of(
    row: Row, stem: str, options: CorpusOptions, tally: _Tally
) -> list[tuple[Prompt, str]]:
    """The prompts of a row; UnreadableCorpus with its place where it is bad."""
    try:
        found = find_in_row(row, options)
        prompts = [read_prompt(row, one, stem=stem, options=options) for one in found]
    except Unreplayable as problem:
        tally.dropped.add(str(problem), row.source)
        return []
    except Undecidable as problem:
        raise UnreadableCorpus(f"{row.source}: {problem}") from problem
    except BadRow as problem:
        if not options.skip_bad_lines:
            raise UnreadableCorpus(
                f"{row.source}: {problem.found}. {problem.remedy}, or pass --skip-bad-lines."
            ) from problem
        tally.dropped.add(problem.found, row.source)
        return []
    if not isinstance(row.value, str):
        for one in found:
            tally.known[one.shape, one.field] = None
            if ignored := not_replayed(one.request):
                tally.ignored.update(ignored)
    return prompts


def _describe(known: Iterable[tuple[str, str]]) -> list[str]:
    """Shapes by their names; where a field alone was recognised, by the field's."""
    shapes = list(dict.fromkeys(shape for shape, _ in known if shape))
    fields = list(dict.fromkeys(name for shape, name in known if not shape))
    said = [" and ".join(shapes)] if shapes else []
    if fields:
        said.append(f"field{'s' if len(fields) > 1 else ''} {' and '.join(fields)}")
    return said
