"""Medusa-1: heads learn what a frozen target says next (Cai et al. 2024, arXiv:2401.10774).

Knows nothing of prompts or folders; who calls it decides when to check and what to keep.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.teacher import Finished
from specmeasure.engines.head_examples import (
    NO_TOKEN,
    ExampleStore,
    HeadExamples,
    epoch_order,
)
from specmeasure.errors import BrokenLogits, UnsupportedModel, UsageError
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.records.heads_training import HeadsCheck, HeadSettings

LOGIT_BYTES = 2**28  # of all heads' float32 logits at once; working copies are a few times it
MOST_GRADIENT = 1.0  # its norm is cut to this


def untrained_heads(target: CachedCausalLM, settings: HeadSettings) -> MedusaHeads:
    """Heads that all say what the target says next: zero blocks, copies of its output matrix.

    They are float32, whatever the target is, and on its output head's device.

    Raises:
        UnsupportedModel: the target has no output matrix that can be copied.
    """
    output = target.model.get_output_embeddings()
    matrix = getattr(output, "weight", None)
    if matrix is None or matrix.dim() != 2 or not matrix.is_floating_point():
        raise UnsupportedModel(
            f"model type {target.model.config.model_type!r} has no output head with a matrix of "
            "floating-point numbers, which heads start from. Load it without quantising its head."
        )
    heads = MedusaHeads(
        hidden_size=matrix.shape[1],
        vocab_size=matrix.shape[0],
        num_heads=settings.num_heads,
        num_layers=settings.num_layers,
    ).to(matrix.device)
    for weight in heads.blocks.parameters():
        nn.init.zeros_(weight)
    with torch.no_grad():
        for weight in heads.lm_heads.parameters():
            weight.copy_(matrix)
    return heads


class HeadTrainer:
    """Heads in training; ``step`` steps are done.

    Args:
        target: stays as it is.
        answers: to learn from.
        held_out: to be checked on.
        settings: what to train and how.
        seed: of the batches' order; nothing else is drawn.

    Raises:
        UsageError: no answer is long enough for the last head.
        UnsupportedModel: the target's output head cannot be copied.
    """

    def __init__(
        self,
        target: CachedCausalLM,
        answers: Sequence[Finished],
        held_out: Sequence[Finished],
        settings: HeadSettings,
        *,
        seed: int,
    ) -> None:
        _refuse_short(answers, settings.num_heads)
        self.heads = untrained_heads(target, settings)
        self.optimiser = torch.optim.AdamW(
            self.heads.parameters(), lr=settings.learning_rate, weight_decay=0.0
        )
        self.step = 0
        self._target = target
        self.settings = settings
        self._seed = seed
        self._learnt, self._held_out = (
            ExampleStore(target, side, settings, seed=seed) for side in (answers, held_out)
        )

    @property
    def num_steps(self) -> int:
        """Of the whole training."""
        return self.settings.num_epochs * len(self._learnt)

    @property
    def check_steps(self) -> frozenset[int]:
        """After which a check is due, the last among them."""
        num_checks = min(self.settings.num_checks, self.num_steps)
        return frozenset(self.num_steps * check // num_checks for check in range(1, num_checks + 1))

    def take_step(self) -> float:
        """Learn from the next batch; returns its loss in nats.

        Formula: sum over heads h of head_weight^h · mean cross-entropy of head h (section 3.2.1)

        Raises:
            BrokenLogits: the loss is no number.
        """
        epoch, place = divmod(self.step, len(self._learnt))
        batch = epoch_order(len(self._learnt), seed=self._seed, epoch=epoch)[place]
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, self.step, self.num_steps)
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._learn(self._learnt.examples(batch))
        if not math.isfinite(loss):
            raise BrokenLogits(
                f"step {self.step + 1}: the loss is {loss}. Lower --learning-rate, or try --dtype "
                "float32 if the target's own states are no numbers."
            )
        nn.utils.clip_grad_norm_(self.heads.parameters(), MOST_GRADIENT)
        self.optimiser.step()
        self.step += 1
        return loss

    def check(self, training_loss: float | None) -> HeadsCheck:
        """The heads as they are, on held-out answers."""
        sums = HeadSums.none(self.settings.num_heads)
        for batch in range(len(self._held_out)):
            for part in self._parts(self._held_out.examples(batch)):
                sums += head_sums(self.heads, part)
        return HeadsCheck(
            step=self.step,
            training_loss=training_loss,
            losses=sums.share_of(sums.nats),
            top_1=sums.share_of(sums.hits_1),
            top_5=sums.share_of(sums.hits_5),
        )

    def halved_heads(self) -> MedusaHeads:
        """A copy of the heads in half precision: bfloat16 where the target is, else float16."""
        weight = self._target.model.get_output_embeddings().weight
        is_bfloat16 = weight.dtype is torch.bfloat16
        return copy.deepcopy(self.heads).to(torch.bfloat16 if is_bfloat16 else torch.float16)

    def _learn(self, examples: HeadExamples) -> float:
        """Add the gradients of one batch; returns its loss."""
        num_heads, device = self.settings.num_heads, examples.states.device
        counts = (examples.tokens != NO_TOKEN).sum(0).clamp_min(1)  # [H]
        weights = self.settings.head_weight ** torch.arange(num_heads, device=device) / counts
        loss = torch.zeros((), device=device)
        for part in self._parts(examples):
            share = (head_losses(self.heads, part) * weights[:, None]).sum()
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        return float(loss)

    def _parts(self, examples: HeadExamples) -> Iterator[HeadExamples]:
        """As many places at once as the heads' logits may take memory for."""
        bytes_per_place = 4 * self.settings.num_heads * self.heads.vocab_size
        size = max(1, LOGIT_BYTES // bytes_per_place)
        for start in range(0, len(examples.states), size):
            yield HeadExamples(
                states=examples.states[start : start + size],
                tokens=examples.tokens[start : start + size],
            )


@dataclass(frozen=True, slots=True)
class HeadSums:
    """Sums over places, [H] each."""

    num_places: Tensor
    nats: Tensor
    hits_1: Tensor
    hits_5: Tensor

    @classmethod
    def none(cls, num_heads: int) -> "HeadSums":
        zero = torch.zeros(num_heads, dtype=torch.float64)
        return cls(zero, zero, zero, zero)

    def __add__(self, other: "HeadSums") -> "HeadSums":
        return HeadSums(
            self.num_places + other.num_places,
            self.nats + other.nats,
            self.hits_1 + other.hits_1,
            self.hits_5 + other.hits_5,
        )

    def share_of(self, sums: Tensor) -> tuple[float | None, ...]:
        """Per place; None for a head that had none."""
        pairs = zip(sums.tolist(), self.num_places.tolist(), strict=True)
        return tuple(total / places if places else None for total, places in pairs)


@torch.inference_mode()
def head_sums(heads: MedusaHeads, examples: HeadExamples) -> HeadSums:
    """How well heads know the tokens of some places."""
    logits = _logits(heads, examples.states)
    tokens = examples.tokens.T  # [H, N]
    likeliest = logits.topk(min(5, logits.shape[-1]), dim=-1).indices  # [H, N, 5]
    hits = likeliest == tokens[..., None]
    nats = _cross_entropy(logits, tokens)
    return HeadSums(
        *(
            one.sum(-1).double().cpu()
            for one in (tokens != NO_TOKEN, nats, hits[..., 0], hits.any(-1))
        )
    )


def head_losses(heads: MedusaHeads, examples: HeadExamples) -> Tensor:
    """Cross-entropy of each head at each place, in nats: [H, N]; 0 where there is no token."""
    return _cross_entropy(_logits(heads, examples.states), examples.tokens.T)


def learning_rate(settings: HeadSettings, step: int, num_steps: int) -> float:
    """A straight rise, then a cosine that ends at zero.

    >>> settings = HeadSettings(learning_rate=1.0)
    >>> [round(learning_rate(settings, step, 100), 3) for step in (0, 50, 99)]
    [0.2, 0.5, 0.0]
    """
    num_warm = max(1, round(settings.warmup_share * num_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / num_steps))
    return settings.learning_rate * min(1.0, (step + 1) / num_warm) * cosine


def _logits(heads: MedusaHeads, states: Tensor) -> Tensor:
    """[H, N, V] float32; a GPU multiplies in half precision, weights and sums stay as they are."""
    with torch.autocast(states.device.type, torch.bfloat16, enabled=states.is_cuda):
        logits: Tensor = heads(states.float())
    return logits.float()


def _cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    flat = functional.cross_entropy(
        logits.flatten(0, 1), tokens.flatten(), ignore_index=NO_TOKEN, reduction="none"
    )
    return flat.view(tokens.shape)


def _refuse_short(answers: Sequence[Finished], num_heads: int) -> None:
    """Raise UsageError where the last head would learn nothing."""
    longest = max((len(one.token_ids) for one in answers), default=0)
    if longest < num_heads + 1:
        raise UsageError(
            f"{num_heads} heads learn from answers of {num_heads + 1} tokens and more; the longest "
            f"of {len(answers)} answers has {longest}. Raise --max-new-tokens, or train fewer "
            "heads."
        )
