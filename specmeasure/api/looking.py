"""A corpus, looked at before it is paid for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specmeasure.corpus.languages import with_languages
from specmeasure.corpus.load import load_corpus
from specmeasure.corpus.survey import survey
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.plan import ModelOptions
from specmeasure.records.survey import Survey, TokenFacts

MOST_LOOKED_AT = 10_000  # prompts that a look at a corpus examines one by one
DEFAULT_MODEL_OPTIONS = ModelOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A corpus before it is paid for."""

    survey: Survey
    tokens: TokenFacts | None  # None: no tokenizer was named


def look(
    sources: Sequence[str],
    options: CorpusOptions,
    *,
    tokenizer: str | None = None,
    model_options: ModelOptions = DEFAULT_MODEL_OPTIONS,
) -> Look:
    """Read everything, look closely at a sample of at most ``MOST_LOOKED_AT`` prompts.

    Raises:
        UnreadableCorpus: a source that cannot be understood.
        ModelError: a tokenizer that cannot be loaded.
    """
    limit = min(options.limit or MOST_LOOKED_AT, MOST_LOOKED_AT)
    corpus = load_corpus(sources, replace(options, limit=limit))
    corpus = replace(corpus, prompts=with_languages(corpus.prompts))
    tokens = None
    if tokenizer is not None:
        from specmeasure.engines.tokens import token_facts

        tokens = token_facts(tokenizer, corpus.prompts, model_options)
    return Look(survey=survey(corpus), tokens=tokens)
