"""What a tokenizer makes of prompts: lengths, the tax on languages, and template traps."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import AutoConfig

from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.loading import load_tokenizer
from specmeasure.engines.locating import location
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Dropped, Prompt
from specmeasure.records.plan import ModelOptions
from specmeasure.records.survey import Distribution, LanguageTokens, TokenFacts

_FIRST_PLACES = 5
_UNBOUNDED = 10**9  # tokenizers that know no limit name a number beyond any


def token_facts(name: str, prompts: Sequence[Prompt], options: ModelOptions) -> TokenFacts:
    """Tokenise the first turn of every prompt exactly as a run would send it.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(name, options)
    chat = ChatTokenizer(tokenizer)
    lengths: dict[str, int] = {}
    refused: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        try:
            lengths[prompt.prompt_id] = len(chat.context_ids(prompt, []))
        except UnreadableCorpus as error:
            refused[str(error).removeprefix(f"{prompt.source}: ")].append(prompt.source)
    sent = [prompt for prompt in prompts if prompt.prompt_id in lengths]
    limit = _context_limit(name, tokenizer, options)
    return TokenFacts(
        tokenizer=name,
        num_prompts=len(sent),
        num_tokens=_distribution(list(lengths.values())) if lengths else None,
        languages=_by_language(tokenizer, sent),
        context_limit=limit,
        num_over_context=None if limit is None else sum(n > limit for n in lengths.values()),
        num_double_bos=sum(map(chat.doubles_bos, sent)),
        has_chat_template=chat.has_chat_template,
        num_chats=sum(bool(prompt.messages) for prompt in prompts),
        num_tools_ignored=sum(map(chat.ignores_tools, sent)),
        refused=tuple(
            Dropped(reason=reason, num_rows=len(places), places=tuple(places[:_FIRST_PLACES]))
            for reason, places in refused.items()
        ),
    )


def _distribution(values: Sequence[int]) -> Distribution:
    low, median, p95, high = np.percentile(values, [0, 50, 95, 100], method="inverted_cdf")
    return Distribution(
        minimum=float(low), median=float(median), p95=float(p95), maximum=float(high)
    )


def _by_language(tokenizer: Any, prompts: Sequence[Prompt]) -> tuple[LanguageTokens, ...]:
    """Of what users say alone: templates and system messages would blur the languages."""
    texts: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        said = [m.content for m in prompt.messages if m.role == "user"]
        texts[prompt.language or "not detected"].append(prompt.text or "\n".join(said))
    found = []
    for language, said in texts.items():
        ids = tokenizer(said, add_special_tokens=False)["input_ids"]
        num_tokens = sum(map(len, ids))
        if num_tokens:
            found.append(
                LanguageTokens(
                    language=language,
                    num_prompts=len(said),
                    characters_per_token=sum(map(len, said)) / num_tokens,
                    bytes_per_token=sum(len(text.encode()) for text in said) / num_tokens,
                )
            )
    return tuple(sorted(found, key=lambda one: -one.num_prompts))


def _context_limit(name: str, tokenizer: Any, options: ModelOptions) -> int | None:
    """The model's positions where its config is at hand, else what the tokenizer says."""
    try:
        config = AutoConfig.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )
    except (OSError, ValueError):
        limit = tokenizer.model_max_length
        return int(limit) if limit < _UNBOUNDED else None
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions) if positions else None
