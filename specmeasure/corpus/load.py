"""The front door of this stage: what the user points at becomes one Corpus."""

from collections import Counter
from collections.abc import Sequence
from typing import IO

from specmeasure.corpus.distinct import make_distinct
from specmeasure.corpus.options import CorpusOptions, check_options
from specmeasure.corpus.reading import FileReading, read_file
from specmeasure.corpus.sample import sample_prompts
from specmeasure.corpus.sources import find_sources
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Corpus, SkippedPrompt, SourceFile

_DEFAULTS = CorpusOptions()
_MOST_REASONS = 5


def load_corpus(
    sources: Sequence[str],  # files, folders, globs, or "-" for stdin
    options: CorpusOptions = _DEFAULTS,
    *,
    stdin: IO[bytes] | None = None,
) -> Corpus:
    """All prompts of the sources in a fixed order, and a reason for each that is left out.

    Prompts beyond the limit are not listed as skipped: the user asked for fewer.

    Raises:
        UnreadableCorpus: a source, a line or the whole that holds no prompt to replay.
        UsageError: options that no corpus could satisfy.
    """
    check_options(options)
    found = find_sources(sources)
    readings = make_distinct([read_file(source, options, stdin) for source in found.sources])
    prompts = tuple(prompt for reading in readings for prompt in reading.prompts)
    skipped = (*found.skipped, *(row for reading in readings for row in reading.skipped))
    if not prompts:
        raise _nothing_left(skipped)
    if options.limit is not None:
        prompts = sample_prompts(prompts, limit=options.limit, seed=options.seed)
    return Corpus(prompts=prompts, skipped=skipped, files=tuple(map(_describe, readings)))


def _describe(reading: FileReading) -> SourceFile:
    return SourceFile(
        path=reading.source.name, format=reading.format, num_prompts=len(reading.prompts)
    )


def _nothing_left(skipped: Sequence[SkippedPrompt]) -> UnreadableCorpus:
    reasons = Counter(row.reason for row in skipped).most_common()
    shown = [f"{count} x {reason}" for reason, count in reasons[:_MOST_REASONS]]
    if reasons[_MOST_REASONS:]:
        shown.append(f"{sum(count for _, count in reasons[_MOST_REASONS:])} x other reasons")
    return UnreadableCorpus(
        f"no prompt is left to replay: {'; '.join(shown)}. Pass other files, or --field NAME."
    )
