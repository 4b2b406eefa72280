"""What heads learn from: the target's states along answers, and the tokens that follow them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specmeasure.decode.batch import PADDING
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.teacher import Finished
from specmeasure.errors import UnsupportedModel
from specmeasure.records.heads_training import HeadSettings

NO_TOKEN = -1
KEPT_BYTES = 2**30  # of states
POOL = 16  # batches whose answers are sorted by length together


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadExamples:
    """N places of some answers."""

    states: Tensor  # [N, D], what went into the target's output head
    tokens: Tensor  # [N, H], what head h should say there; NO_TOKEN behind the answer's end

    @property
    def num_bytes(self) -> int:
        return sum(one.numel() * one.element_size() for one in (self.states, self.tokens))

    def to(self, device: torch.device) -> "HeadExamples":
        """The same on another device."""
        return HeadExamples(states=self.states.to(device), tokens=self.tokens.to(device))


def head_examples(
    target: CachedCausalLM,
    answers: Sequence[Finished],
    *,
    num_heads: int,
    with_prompts: bool = False,
) -> HeadExamples:
    """Every place of these answers that a block of drafts could start from.

    The state that gives the answer's token i is where head h learns token i + h + 1. Places in the
    prompt count with ``with_prompts`` alone.

    Raises:
        UnsupportedModel: the states cannot be seen.
    """
    lengths = [len(one.context_ids) + len(one.token_ids) for one in answers]
    ids = torch.full((len(answers), max(lengths) + num_heads), NO_TOKEN)
    for row, one in enumerate(answers):
        ids[row, : lengths[row]] = torch.tensor([*one.context_ids, *one.token_ids])
    states = _states(target, ids[:, : max(lengths)])
    following = ids[:, 2:].unfold(1, num_heads, 1)  # [B, S - 1, H]
    firsts = torch.tensor([0 if with_prompts else len(one.context_ids) - 1 for one in answers])
    wanted = (following[..., 0] != NO_TOKEN) & (torch.arange(following.shape[1]) >= firsts[:, None])
    return HeadExamples(
        states=states[:, : wanted.shape[1]][wanted.to(states.device)],
        tokens=following[wanted].to(states.device),
    )


@torch.inference_mode()
def _states(target: CachedCausalLM, ids: Tensor) -> Tensor:
    """What goes into the output head for every token of ids [B, S], padded on the right."""
    head = target.model.get_output_embeddings()
    seen: list[Tensor] = []

    def remember(_: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(inputs[0])
        return (inputs[0][:, -1:],)  # logits that nobody reads: one place is enough

    known: dict[str, Any] = {}
    if "attention_mask" in target.arguments:
        known["attention_mask"] = (ids != NO_TOKEN).long().to(target.device)
    handle = head.register_forward_pre_hook(remember)
    try:
        target.model(
            input_ids=ids.masked_fill(ids == NO_TOKEN, PADDING).to(target.device),
            use_cache=False,
            **known,
        )
    finally:
        handle.remove()
    if not seen or seen[-1].shape[:2] != ids.shape:
        raise UnsupportedModel(
            f"model type {target.model.config.model_type!r} does not pass the states of all tokens "
            "through its output head, which heads would be trained on."
        )
    return seen[-1]


def batches_of(lengths: Sequence[int], batch_size: int, *, seed: int) -> list[list[int]]:
    """Places of all answers, each once, in batches of about one length; the last may be smaller."""
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), POOL * batch_size):
        pool = sorted(order[start : start + POOL * batch_size], key=lambda place: lengths[place])
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return batches


def epoch_order(num_batches: int, *, seed: int, epoch: int) -> list[int]:
    """In which order the batches come; the same arguments give the same order."""
    order = list(range(num_batches))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return order


class ExampleStore:
    """Examples of fixed batches of answers, read when first asked for.

    What fits in ``KEPT_BYTES`` is kept in the host's memory, so that an epoch need not run the
    target again; the rest is read anew. Both give the same numbers: a batch never changes.
    """

    def __init__(
        self,
        target: CachedCausalLM,
        answers: Sequence[Finished],
        settings: HeadSettings,
        *,
        seed: int,
    ) -> None:
        lengths = [len(one.context_ids) + len(one.token_ids) for one in answers]
        self._batches = batches_of(lengths, settings.batch_size, seed=seed)
        self._target = target
        self._answers = answers
        self._settings = settings
        self._kept: dict[int, HeadExamples] = {}
        self._num_free_bytes = KEPT_BYTES

    def __len__(self) -> int:
        """Batches."""
        return len(self._batches)

    def examples(self, batch: int) -> HeadExamples:
        """All examples of one batch, on the device of the target's output head."""
        if batch in self._kept:
            return self._kept[batch].to(self._device)
        read = head_examples(
            self._target,
            [self._answers[place] for place in self._batches[batch]],
            num_heads=self._settings.num_heads,
            with_prompts=self._settings.learns_prompts,
        )
        if read.num_bytes <= self._num_free_bytes:
            self._kept[batch] = read.to(torch.device("cpu"))
            self._num_free_bytes -= read.num_bytes
        return read

    @property
    def _device(self) -> torch.device:
        return torch.device(self._target.model.get_output_embeddings().weight.device)
