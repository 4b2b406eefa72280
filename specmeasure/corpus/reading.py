"""One file to its prompts, with everything that was left out of it."""

from dataclasses import dataclass
from typing import IO

from specmeasure.corpus.formats import read_rows
from specmeasure.corpus.options import CorpusOptions
from specmeasure.corpus.problems import BadRow, Undecidable, Unreplayable
from specmeasure.corpus.prompts import choose_field, read_prompt
from specmeasure.corpus.rows import Row
from specmeasure.corpus.sources import Source, open_source
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Prompt, SkippedPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """What one file gave; ids may collide and prompts repeat until all files are read."""

    source: Source
    format: str  # e.g. "jsonl, field turns"
    prompts: tuple[Prompt, ...]
    skipped: tuple[SkippedPrompt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReading:
    """The prompt of one row and the field it stood in; plain text has no field."""

    prompt: Prompt
    field: str | None


def read_file(source: Source, options: CorpusOptions, stdin: IO[bytes] | None) -> FileReading:
    """All prompts of a file in order; the first bad row ends it unless bad rows are skipped."""
    with open_source(source, stdin) as stream:
        rows = read_rows(stream, source)
        readings = [read_row(row, source.stem, options) for row in rows.rows]
    if not readings:
        raise UnreadableCorpus(f"{source.name}: it is empty. Put prompts into it or leave it out.")
    kept = [reading for reading in readings if isinstance(reading, RowReading)]
    fields = list(dict.fromkeys(reading.field for reading in kept if reading.field))
    return FileReading(
        source=source,
        format=", ".join([rows.format, *_describe_fields(fields)]),
        prompts=tuple(reading.prompt for reading in kept),
        skipped=tuple(reading for reading in readings if isinstance(reading, SkippedPrompt)),
    )


def read_row(row: Row, stem: str, options: CorpusOptions) -> RowReading | SkippedPrompt:
    """The prompt of a row or why it has none; UnreadableCorpus with its place where it is bad."""
    try:
        field = choose_field(row, options.field)
        prompt = read_prompt(row, field, stem=stem, options=options)
    except Unreplayable as problem:
        return SkippedPrompt(source=row.source, reason=str(problem))
    except Undecidable as problem:
        raise UnreadableCorpus(f"{row.source}: {problem}") from problem
    except BadRow as problem:
        if options.skip_bad_lines:
            return SkippedPrompt(source=row.source, reason=problem.found)
        raise UnreadableCorpus(
            f"{row.source}: {problem.found}. {problem.remedy}, or pass --skip-bad-lines."
        ) from problem
    return RowReading(prompt=prompt, field=None if isinstance(row.value, str) else field.name)


def _describe_fields(fields: list[str]) -> list[str]:
    match fields:
        case []:
            return []
        case [field]:
            return [f"field {field}"]
        case _:
            return [f"fields {' and '.join(fields)}"]
