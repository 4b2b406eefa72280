"""The front door of this stage: what the user points at becomes one Corpus."""

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from specmeasure.corpus.distinct import unique_ids
from specmeasure.corpus.intake import Intake
from specmeasure.corpus.options import check_options
from specmeasure.corpus.reading import read_source
from specmeasure.corpus.sources import Source, find_sources
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Corpus, CorpusOptions, Dropped, Prompt

_DEFAULTS = CorpusOptions()
_MOST_REASONS = 5


def load_corpus(
    sources: Sequence[str],  # files, folders, globs, datasets, or "-" for stdin
    options: CorpusOptions = _DEFAULTS,
    *,
    stdin: IO[bytes] | None = None,
) -> Corpus:
    """The distinct prompts of the sources in a fixed order, or a sample of them.

    Prompts beyond the limit are not listed as dropped: the user asked for fewer.

    Raises:
        UnreadableCorpus: a source, a line or the whole that holds no prompt to replay.
        UsageError: options that no corpus could satisfy.
    """
    check_options(options)
    found = find_sources(sources)
    intake = Intake(options)
    with _collector_paused():
        readings = [read_source(source, options, stdin, intake) for source in found.sources]
    corpus = Corpus(
        prompts=_with_unique_ids(intake.prompts()),
        files=tuple(reading.file for reading in readings),
        left_out=found.left_out,
        sizes=tuple(intake.sizes.items()),
        warnings=tuple(warning for reading in readings for warning in reading.warnings),
    )
    if not corpus.prompts:
        raise _nothing_left(corpus.dropped)
    return corpus


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Rows make no cycles; looking for some would take a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _with_unique_ids(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    stems = [Source(path=Path(prompt.source_file)).stem for prompt in prompts]
    names = unique_ids([prompt.prompt_id for prompt in prompts], stems)
    return tuple(
        prompt if prompt.prompt_id == name else replace(prompt, prompt_id=name)
        for prompt, name in zip(prompts, names, strict=True)
    )


def _nothing_left(dropped: Sequence[Dropped]) -> UnreadableCorpus:
    counts = Counter[str]()
    for one in dropped:
        counts[one.reason] += one.num_rows
    reasons = counts.most_common()
    shown = [f"{count} x {reason}" for reason, count in reasons[:_MOST_REASONS]]
    if reasons[_MOST_REASONS:]:
        shown.append(f"{sum(count for _, count in reasons[_MOST_REASONS:])} x other reasons")
    return UnreadableCorpus(
        f"no prompt is left to replay: {'; '.join(shown)}. Pass other files, or --field NAME."
    )
