"""Target and draft read a finished answer side by side, with what was drafted for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from specmeasure.decode.batch import read_chunks
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.teacher import LOGIT_BYTES, Finished
from specmeasure.records.plan import DraftSampling, Sampling
from specmeasure.records.trace import BlockRecord

COARSE_BELOW = 0.5  # temperature, in half precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How an answer came to be."""

    blocks: Sequence[BlockRecord]  # with draft ids
    draft_model: CachedCausalLM | None = None  # None: a lookup, or the baseline
    draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC
    same_shapes: bool = False  # read the target in the passes that the loop made

    @property
    def sampled_model(self) -> CachedCausalLM | None:
        """The model whose law the drafts were drawn from; None: each draft is a point mass."""
        is_sampled = self.draft_sampling is DraftSampling.PROBABILISTIC
        return self.draft_model if is_sampled else None


def wants_same_shapes(
    target: CachedCausalLM, blocks: Sequence[BlockRecord], sampling: Sampling
) -> bool:
    """Whether one pass over the answer would show another law than the one that was sampled.

    Two shapes differ by rounding, and a temperature below 1 enlarges that: with bfloat16's logits
    some 0.02 apart, chances are 2 % apart at temperature 1 and 40 % at 0.05. Blocks that are not
    the loop's own cannot be made again.
    """
    is_coarse = torch.finfo(target.model.dtype).bits < 32 and sampling.temperature < COARSE_BELOW
    return is_coarse and not any(block.truncated for block in blocks[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Some places of an answer: row i predicts the token at ``start`` + i."""

    start: int
    target_logits: Tensor  # [C, V] float32
    draft_logits: Tensor | None  # [C, V] float32, on the target's device; None without a model


def read_along(
    target: CachedCausalLM,
    draft_model: CachedCausalLM | None,
    answer: Finished,
    *,
    as_decoded: Sequence[BlockRecord] | None = None,
) -> Iterator[Stretch]:
    """At most ``LOGIT_BYTES`` of a model's logits exist at once.

    The models' own caches are emptied first: those of these passes take their room.

    Args:
        target: read in one pass, unless told otherwise.
        draft_model: read in one pass.
        answer: what is read.
        as_decoded: the blocks whose passes the target makes again, in the same shapes.
    """
    drafting = [] if draft_model is None else [draft_model]
    for model in (target, *drafting):
        model.reset(rolls_back=False)
    again = None if as_decoded is None else _decode_again(target, answer, as_decoded)
    ids = torch.tensor([[*answer.context_ids, *answer.token_ids]], device=target.device)
    first = len(answer.context_ids) - 1
    rows_per_chunk = max(1, LOGIT_BYTES // (4 * target.vocab_size))
    for chunk in read_chunks(
        drafting if again else [target, *drafting],
        ids[:, :-1],  # nothing follows the last token
        first=first,
        rows_per_chunk=rows_per_chunk,
    ):
        logits = [read.logits[0].float() for read in chunk.reads]
        if again:
            logits.insert(0, torch.stack(list(islice(again, rows_per_chunk))))
        of_target, *drafted = logits
        yield Stretch(
            start=chunk.start - first,
            target_logits=of_target,
            draft_logits=drafted[0].to(of_target.device) if drafted else None,
        )


def _decode_again(
    target: CachedCausalLM, answer: Finished, blocks: Sequence[BlockRecord]
) -> Iterator[Tensor]:
    """The logits [V] that each token was picked by, float32, bit for bit where kernels are."""
    target.reset(rolls_back=any(block.num_draft_tokens for block in blocks))
    yield target.prefill(answer.context_ids)[0].float()
    place = 1
    for block in blocks[1:]:
        ids = [answer.token_ids[place - 1], *(block.draft_ids or ())]
        rows = target.forward(torch.tensor(ids, device=target.device)).float()
        yield from rows[: block.num_emitted_tokens]
        target.rollback(block.num_draft_tokens - block.num_accepted_tokens)
        place += block.num_emitted_tokens


def judged_drafts(blocks: Sequence[BlockRecord]) -> list[int | None]:
    """By emitted token: the draft that the target judged for its place; None where none was.

    The prefill's token and bonus tokens had no draft. A recovered token stands where one was
    rejected. Whether a place is judged is settled before its token is drawn.

    Raises:
        ValueError: the blocks do not hold their draft ids.
    """
    found: list[int | None] = []
    for block in blocks:
        drafts = block.draft_ids
        if drafts is None:
            raise ValueError("the blocks hold no draft ids")
        found += [
            drafts[place] if place < block.num_draft_tokens else None
            for place in range(block.num_emitted_tokens)
        ]
    return found


def first_rejected(blocks: Sequence[BlockRecord]) -> list[int | None]:
    """By block: the place in the answer where a draft was rejected; None where all were kept."""
    found: list[int | None] = []
    start = 0
    for block in blocks:
        rejected = not block.truncated and block.num_accepted_tokens < block.num_draft_tokens
        found.append(start + block.num_accepted_tokens if rejected else None)
        start += block.num_emitted_tokens
    return found
