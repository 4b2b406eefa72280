"""A look at a corpus: what it is made of, and what should be mended before paying for a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from specmeasure.corpus.languages import asked_text
from specmeasure.corpus.near_duplicates import find_near_duplicates
from specmeasure.corpus.suspects import looks_encoded, looks_random
from specmeasure.records.corpus import AskedSampling, Corpus, Prompt
from specmeasure.records.survey import Count, Distribution, Survey, SurveyWarning

_NOT_DETECTED = "not detected"
_MOST_DUPLICATES = 0.05
_SHARED_PREFIX = 200  # characters
_FEW_PROMPTS = 10


def survey(corpus: Corpus) -> Survey:
    """Counts of the whole corpus, and a close look at the prompts that it holds.

    Knows no tokens. Languages are counted where they were detected before.
    """
    prompts = corpus.prompts
    texts = [asked_text(prompt) for prompt in prompts]
    num_duplicates = sum(d.num_rows for d in corpus.dropped if d.reason == "duplicate")
    num_near = len(find_near_duplicates(texts))
    return Survey(
        files=corpus.files,
        left_out=corpus.left_out,
        num_prompts=corpus.num_prompts,
        num_duplicates=num_duplicates,
        categories=tuple(Count(name=name, num_prompts=size) for name, size in corpus.sizes),
        num_looked_at=len(prompts),
        num_near_duplicates=num_near,
        languages=count_values(prompt.language or _NOT_DETECTED for prompt in prompts),
        turns=count_values(str(len(prompt.turns)) for prompt in prompts),
        samplings=count_values(_say_asked(prompt.asked) for prompt in prompts),
        num_with_reference=sum(bool(prompt.references) for prompt in prompts),
        num_with_tools=sum(prompt.tools is not None for prompt in prompts),
        num_characters=distribution([len(text) for text in texts]),
        warnings=(
            *_repeated(num_duplicates, corpus.num_prompts, num_near, len(prompts)),
            *_ordered(prompts),
            *_shared_prefix(prompts),
            *_small_categories(corpus),
            *_suspects(prompts, texts),
            *(SurveyWarning(code="not-replayed", message=said) for said in corpus.warnings),
        ),
    )


def count_values(values: Iterable[str]) -> tuple[Count, ...]:
    """Each value with its number, the most frequent first."""
    counts = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(Count(name=name, num_prompts=number) for name, number in counts)


def distribution(values: Sequence[int]) -> Distribution:
    """Of one value or more; percentiles are values that occur."""
    low, median, p95, high = np.percentile(values, [0, 50, 95, 100], method="inverted_cdf")
    return Distribution(
        minimum=float(low), median=float(median), p95=float(p95), maximum=float(high)
    )


def _say_asked(asked: AskedSampling) -> str:
    named = [
        ("temperature", asked.temperature),
        ("top-p", asked.top_p),
        ("top-k", asked.top_k),
        ("at most", asked.max_tokens),
    ]
    said = [f"{name} {value:g}" for name, value in named if value is not None]
    said += ["a seed"] if asked.seed is not None else []
    said += [f"{len(asked.stop)} stop texts"] if asked.stop else []
    return ", ".join(said) or "nothing"


def _repeated(
    num_duplicates: int, num_prompts: int, num_near: int, num_looked_at: int
) -> Iterable[SurveyWarning]:
    num_rows = num_duplicates + num_prompts
    if num_duplicates > _MOST_DUPLICATES * num_rows:
        yield SurveyWarning(
            code="duplicates",
            message=f"{num_duplicates / num_rows:.0%} of prompts repeat an earlier one word for "
            "word and are dropped; in traffic they would hit the prefix cache.",
        )
    if num_near > _MOST_DUPLICATES * num_looked_at:
        yield SurveyWarning(
            code="near-duplicates",
            message=f"{num_near / num_looked_at:.0%} of prompts are nearly an earlier one: the "
            "corpus says less than its number of prompts. Thin them out, or give more kinds.",
        )


def _ordered(prompts: Sequence[Prompt]) -> Iterable[SurveyWarning]:
    """Fewer changes from one category to the next than a shuffled file would have."""
    categories = [prompt.category for prompt in prompts]
    sizes = Counter(categories)
    if len(sizes) < 2 or len(categories) < 2 * len(sizes):
        return
    num_changes = sum(one != other for one, other in pairwise(categories))
    total = len(categories)
    expected = (total - 1) * (1 - sum(n * (n - 1) for n in sizes.values()) / (total * (total - 1)))
    if num_changes < expected / 4:
        yield SurveyWarning(
            code="category-ordered",
            message="Prompts stand sorted by category: the head of a file is not a sample of it. "
            "Take one with --limit, which draws from every category.",
        )


def _shared_prefix(prompts: Sequence[Prompt]) -> Iterable[SurveyWarning]:
    openings = Counter(
        opening
        for prompt in prompts
        if len(opening := _opening(prompt)) >= _SHARED_PREFIX or _has_system(prompt)
    )
    if len(prompts) < _FEW_PROMPTS or not openings:
        return
    opening, number = openings.most_common(1)[0]
    if number > len(prompts) / 2:
        yield SurveyWarning(
            code="shared-prefix",
            message=f"{number / len(prompts):.0%} of prompts begin with the same {len(opening)} "
            "characters: a server with a prefix cache reads them once, so TTFT here is longer.",
        )


def _opening(prompt: Prompt) -> str:
    if _has_system(prompt):
        return prompt.messages[0].content
    return asked_text(prompt)[:_SHARED_PREFIX]


def _has_system(prompt: Prompt) -> bool:
    return bool(prompt.messages) and prompt.messages[0].role in ("system", "developer")


def _small_categories(corpus: Corpus) -> Iterable[SurveyWarning]:
    small = [name for name, size in corpus.sizes if size < _FEW_PROMPTS]
    if small and len(corpus.sizes) > 1:
        yield SurveyWarning(
            code="small-category",
            message=f"{len(small)} of {len(corpus.sizes)} categories have under {_FEW_PROMPTS} "
            "prompts: their own figures will be wide or missing. Add prompts, or name a coarser "
            "--category-field.",
        )


def _suspects(prompts: Sequence[Prompt], texts: Sequence[str]) -> Iterable[SurveyWarning]:
    encoded = sum(map(looks_encoded, texts))
    random = sum(map(looks_random, texts))
    ids = sum(prompt.token_ids is not None for prompt in prompts)
    if encoded:
        yield SurveyWarning(
            code="encoded",
            message=f"{encoded} prompts look like base64 or hexadecimal digits. Decode them, or "
            "point --field elsewhere.",
        )
    if random:
        yield SurveyWarning(
            code="random",
            message=f"{random} prompts look like random words or tokens: acceptance on them says "
            "nothing about real traffic.",
        )
    if ids:
        yield SurveyWarning(
            code="token-ids",
            message=f"{ids} prompts are token ids: whether they are text cannot be seen, and load "
            "generators draw them at random. Replay them only if they were real requests.",
        )
