"""The prompts of a run or a replay: read, told of, checked against the models, sampled."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from specmeasure.corpus.languages import with_languages
from specmeasure.corpus.load import load_corpus
from specmeasure.corpus.sample import sample_prompts
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Corpus, CorpusOptions, Dropped, Prompt
from specmeasure.records.plan import Plan, Sampling
from specmeasure.records.request import Request
from specmeasure.records.trace import CorpusFacts
from specmeasure.run.fitting import Fit, Tokenises, fit_of

RESERVE = 3  # times the limit are read, for prompts that the models cannot hold
MOST_FILES_TOLD = 20
FIRST_PLACES = 5  # named for each reason to leave prompts out


def read_prompts(sources: Sequence[str], options: CorpusOptions) -> Corpus:
    """The prompts, or a sample with a reserve, each with its language."""
    limit = None if options.limit is None else RESERVE * options.limit
    corpus = load_corpus(sources, replace(options, limit=limit))
    return replace(corpus, prompts=with_languages(corpus.prompts))


def describe_files(corpus: Corpus) -> list[str]:
    """How each file was understood, what was kept of it, and what was not and why."""
    lines = []
    for file in corpus.files[:MOST_FILES_TOLD]:
        dropped = [f"{one.num_rows} x {one.reason}" for one in file.dropped]
        why = f"; dropped {', '.join(dropped)}" if dropped else ""
        lines.append(f"{file.path}: {file.format}, {file.num_prompts} prompts{why}")
    if len(corpus.files) > MOST_FILES_TOLD:
        lines.append(f"and {len(corpus.files) - MOST_FILES_TOLD} more files")
    return lines


def keep_fitting(
    corpus: Corpus, engine: Tokenises, plan: Plan, limit: int | None
) -> tuple[tuple[Prompt, ...], tuple[Dropped, ...]]:
    """The prompts that the models can hold, and those that they cannot, by reason.

    Raises:
        UnreadableCorpus: none can be held.
    """
    return sort_out(corpus.prompts, [fit_of(one, engine, plan, limit) for one in corpus.prompts])


def sort_out(
    prompts: Sequence[Prompt], fits: Sequence[Fit]
) -> tuple[tuple[Prompt, ...], tuple[Dropped, ...]]:
    """The same of prompts whose lengths are known.

    Raises:
        UnreadableCorpus: none can be held.
    """
    kept: list[Prompt] = []
    misfits: dict[str, list[str]] = {}
    for prompt, fit in zip(prompts, fits, strict=True):
        if fit.reason is None:
            kept.append(prompt)
        else:
            misfits.setdefault(fit.reason, []).append(prompt.source)
    if not kept:
        raise UnreadableCorpus(
            f"none of {len(prompts)} prompts can be replayed; the first: "
            f"{next(iter(misfits))}. Lower --max-new-tokens, or use models with a longer context."
        )
    dropped = tuple(
        Dropped(reason=reason, num_rows=len(places), places=tuple(places[:FIRST_PLACES]))
        for reason, places in misfits.items()
    )
    return tuple(kept), dropped


def sample_fitting(
    prompts: tuple[Prompt, ...], corpus: Corpus, options: CorpusOptions
) -> tuple[Prompt, ...]:
    """The limit counts prompts that can be replayed; shares are those of the whole corpus."""
    if options.limit is None:
        return prompts
    return sample_prompts(prompts, limit=options.limit, seed=options.seed, sizes=dict(corpus.sizes))


def budget_notes(plan: Plan, prompts: Sequence[Prompt]) -> list[str]:
    """What is replayed shorter than it was asked for."""
    if not plan.use_asked_sampling:
        return []
    wanted = [prompt.asked.max_tokens or 0 for prompt in prompts]
    num_capped = sum(tokens > plan.max_new_tokens for tokens in wanted)
    if not num_capped:
        return []
    note = (
        f"{num_capped} of {len(prompts)} prompts ask for more than {plan.max_new_tokens} new "
        f"tokens, up to {max(wanted)}; raise --max-new-tokens to replay them in full."
    )
    return [note]


def asked_samplings(plan: Plan, prompts: Sequence[Prompt]) -> tuple[Sampling, ...]:
    """Everything that prompts are decoded with: the plan's sampling, or what rows ask for."""
    return tuple(dict.fromkeys(plan.settings_for(prompt.asked).sampling for prompt in prompts))


def corpus_facts(
    request: Request,
    corpus: Corpus,
    prompts: Sequence[Prompt],
    misfits: tuple[Dropped, ...],
) -> CorpusFacts:
    samplings = Counter(
        request.plan.settings_for(prompt.asked).sampling for prompt in prompts
    ).most_common()
    return CorpusFacts(
        sources=pinned_sources(request.sources, corpus),
        options=request.options,
        fingerprint=corpus.fingerprint,
        num_prompts=len(prompts),
        files=corpus.files,
        dropped=(*corpus.dropped, *misfits),
        samplings=tuple(samplings),
    )


def pinned_sources(sources: Sequence[str], corpus: Corpus) -> tuple[str, ...]:
    """What still names the same prompts later and from another folder: hub names by revision."""
    revisions = {file.path: file.revision for file in corpus.files}
    pinned = []
    for source in sources:
        if source.startswith("hf:"):
            revision = revisions.get(source)
            unpinned = revision is not None and not source.endswith(f"@{revision}")
            pinned.append(f"{source.partition('@')[0]}@{revision}" if unpinned else source)
        else:
            pinned.append(source if source == "-" else str(Path(source).absolute()))
    return tuple(pinned)
