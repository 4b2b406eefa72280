"""Target and draft read a finished answer side by side, with what was drafted for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from specmeasure.decode.batch import Inside, read_chunks
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.head_board import Heads
from specmeasure.decode.judged import Judged
from specmeasure.decode.shared_exit import SharedExit
from specmeasure.decode.teacher import LOGIT_BYTES, Finished
from specmeasure.records.drafted import drafted_tree, kept_nodes
from specmeasure.records.plan import DraftSampling, Sampling
from specmeasure.records.trace import BlockRecord
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import CachedModel

COARSE_BELOW = 0.5  # temperature, in half precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How an answer came to be."""

    blocks: Sequence[BlockRecord]  # with draft ids
    draft_model: CachedCausalLM | None = None  # None: a lookup, heads, or the baseline
    heads: Heads | None = None  # on the target, of an arm that drafts with them
    shared_exit: SharedExit | None = None  # the target, of an arm that drafts with its first layers
    draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC
    tree: TokenTree | None = None  # that the arm drafts; None: chains
    same_shapes: bool = False  # read the target in the passes that the loop made
    read_by: CachedModel | None = None  # what the loop read the target with, if it is another
    law_is_known: bool = True  # False: drawn by a law that reading the answer does not tell

    @property
    def sampled_model(self) -> CachedCausalLM | None:
        """The model whose law the drafts were drawn from; None: each draft is a point mass."""
        return self.draft_model if self._is_sampled else None

    @property
    def sampled_heads(self) -> Heads | None:
        """The heads whose law the drafts were drawn from; None: likewise."""
        return self.heads if self._is_sampled else None

    @property
    def _is_sampled(self) -> bool:
        return self.draft_sampling is DraftSampling.PROBABILISTIC


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


class HeadsAlong:
    """What heads on the target said of every place, while its states come in.

    A block that starts at place s is drafted from the state that the token at s − 1 was picked by;
    its place s + h is head h's.
    """

    def __init__(self, heads: Heads, judged: Sequence[Judged], device: torch.device) -> None:
        self._heads = heads
        self._rows = torch.tensor([max(0, one.block_start - 1) for one in judged], device=device)
        last = heads.num_heads - 1  # no head drafts behind it, nor do others say anything there
        self._head = torch.tensor([min(last, one.num_before) for one in judged], device=device)
        self._states: list[Tensor] = []  # each [C, D]

    def logits(self, states: Tensor, start: int) -> Tensor:
        """[C, V] of the places from ``start`` on, given their states [C, D]."""
        self._states.append(states)
        places = slice(start, start + len(states))
        drafted_from = torch.cat(self._states)[self._rows[places]]
        found = self._heads.read(drafted_from)  # [H, C, V]
        return found[self._head[places], torch.arange(len(states), device=found.device)]


def read_along(
    target: CachedCausalLM,
    draft: CachedCausalLM | HeadsAlong | None,
    answer: Finished,
    *,
    as_decoded: Origin | None = None,
) -> Iterator[Stretch]:
    """At most ``LOGIT_BYTES`` of a model's logits exist at once, of heads those of each.

    The models' own caches are emptied first: those of these passes take their room.

    Args:
        target: read in one pass, unless told otherwise.
        draft: a model is read in one pass; heads have the states of one of the target's.
        answer: what is read.
        as_decoded: the blocks whose passes the target makes again, in the same shapes.
    """
    heads = draft if isinstance(draft, HeadsAlong) else None
    models = [target] if as_decoded is None or heads else []
    models += [draft] if isinstance(draft, CachedCausalLM) else []
    for model in (target, *models):
        model.reset(rolls_back=False)
    again = None if as_decoded is None else _decode_again(target, answer, as_decoded)
    ids = torch.tensor([[*answer.context_ids, *answer.token_ids]], device=target.device)
    first = len(answer.context_ids) - 1
    rows_per_chunk = max(1, LOGIT_BYTES // (4 * target.vocab_size))
    for chunk in read_chunks(
        models,
        ids[:, :-1],  # nothing follows the last token
        first=first,
        rows_per_chunk=rows_per_chunk,
        inside=lambda _: Inside.HEAD_INPUT if heads else Inside.NOTHING,
    ):
        start, reads = chunk.start - first, chunk.reads
        drafted: Tensor | None = None
        if heads and (states := reads[0].head_input) is not None:
            drafted = heads.logits(states[0], start).float()
        elif draft:
            drafted = reads[-1].logits[0].float()
        of_target = (
            torch.stack(list(islice(again, rows_per_chunk)))
            if again
            else reads[0].logits[0].float()
        )
        yield Stretch(
            start=start,
            target_logits=of_target,
            draft_logits=None if drafted is None else drafted.to(of_target.device),
        )


def _decode_again(target: CachedCausalLM, answer: Finished, origin: Origin) -> Iterator[Tensor]:
    """The logits [V] that each token was picked by, float32, bit for bit where kernels are."""
    read_with = origin.shared_exit or origin.read_by or target
    read_with.reset(rolls_back=any(block.num_draft_tokens for block in origin.blocks))
    yield read_with.prefill(answer.context_ids)[0].float()
    place = 1
    for block in origin.blocks[1:]:
        ids = [answer.token_ids[place - 1], *(block.draft_ids or ())]
        rows = torch.tensor(ids, device=target.device)
        drafted = drafted_tree(block, origin.tree)
        if drafted is None:
            logits = _read_chain(read_with, origin.shared_exit, rows)
            yield from logits.to(torch.float32, copy=True)[: block.num_emitted_tokens]
            read_with.rollback(block.num_draft_tokens - block.num_accepted_tokens)
        else:
            path = (0, *(1 + node for node in kept_nodes(block, drafted)))
            logits = read_with.forward_tree(rows, (-1, *(1 + node for node in drafted.parents)))
            yield from logits[list(path)].float()[: block.num_emitted_tokens]
            read_with.keep_path(path)
        place += block.num_emitted_tokens


def _read_chain(target: CachedModel, shared: SharedExit | None, rows: Tensor) -> Tensor:
    """A target pass over a chain, whose first layers read it while drafting if they did."""
    if shared is None:
        return target.forward(rows)
    for row in rows[:-1]:
        shared.draft(row[None])
    return shared.forward(rows)
