"""A target whose first layers draft for it, with one cache of keys and values for both.

Elhoushi et al. 2024 (LayerSkip, arXiv:2404.16710), section 4.3: what the first layers read while
drafting, verification does not read again. It goes on from their states: of K drafts and the token
before them the first layers read K + 1 rows in all, K of them while drafting, and the others read
K + 1 rows in one pass. The draft has no prefill of its own.

Only where that is proved: ``share_exit`` tries it on the loaded model. Models with recurrent layers
and those that do something to embeddings on their way in, such as adding positions, are not shared;
their first layers draft as a model of their own, and what they compute is computed twice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache

from specmeasure.decode.cache import CachedCausalLM, Rollback
from specmeasure.decode.early_exit import cut_layers, shallow

NUM_DRAFTS = 3  # of a block of the trial


class SharedExit:
    """``CachedModel`` over a target that can read drafts with its first layers alone."""

    def __init__(self, target: CachedCausalLM, num_layers: int) -> None:
        self._target = target
        self._num_layers = num_layers
        self._first = cut_layers(target.model, first=0, end=num_layers)
        self._rest = cut_layers(target.model, first=num_layers, end=None)
        self._states: list[Tensor] = []  # each [1, N, D], of what the first layers alone have read
        self._watch_last_layer()

    def reset(self, *, rolls_back: bool) -> None:
        """Start an empty sequence."""
        self._states = []
        self._target.reset(rolls_back=rolls_back)

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Read a prompt with all layers; logits [1, V] after its last token."""
        logits = self._target.prefill(ids)
        self._states = []
        return logits

    def draft(self, ids: Tensor) -> Tensor:
        """Read ids [N] with the first layers; logits [N, V] of the target's own norm and head."""
        output = self._first(
            input_ids=ids[None], past_key_values=self._target.cache, use_cache=True
        )
        logits: Tensor = output.logits[0, :, : self._target.vocab_size]
        return logits

    def forward(self, ids: Tensor) -> Tensor:
        """Read ids [N] of which the first are those that were drafted from; logits [N, V]."""
        num_read = sum(states.shape[1] for states in self._states)
        if not num_read:
            return self._target.forward(ids)
        cache = self._target.cache
        if num_read < len(ids):
            self._first.base_model(  # which has no head
                input_ids=ids[None, num_read:], past_key_values=cache, use_cache=True
            )
        states, self._states = torch.cat(self._states, dim=1), []
        output = self._rest(
            inputs_embeds=states, past_key_values=_later(cache, self._num_layers), use_cache=True
        )
        logits: Tensor = output.logits[0, :, : self._target.vocab_size]
        return logits

    def rollback(self, num_tokens: int) -> None:
        """Settle what was read since the last rollback and forget its last ``num_tokens``."""
        self._target.rollback(num_tokens)

    def forward_tree(self, ids: Tensor, parents: Sequence[int]) -> Tensor:
        """A tree that something else drafted, read by all layers; logits [N, V]."""
        return self._target.forward_tree(ids, parents)

    def keep_path(self, rows: Sequence[int]) -> None:
        """Settle a tree; see ``CachedCausalLM``."""
        self._target.keep_path(rows)

    def _watch_last_layer(self) -> None:
        """Keep what the last of the first layers hands on, before norm and head.

        The layer is watched in a copy of it, so that the target's own passes are not.
        """
        backbone = self._first.base_model
        name, layers = next(
            (name, child)
            for name, child in backbone.named_children()
            if isinstance(child, torch.nn.ModuleList) and len(child) == self._num_layers
        )
        last = shallow(layers[-1])
        last.register_forward_hook(self._remember)
        setattr(backbone, name, torch.nn.ModuleList([*layers[:-1], last]))

    def _remember(self, _: object, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        self._states.append(output if isinstance(output, Tensor) else output[0])


@torch.inference_mode()
def share_exit(target: CachedCausalLM, num_layers: int) -> SharedExit | None:
    """The target with its first layers drafting, or None where it would read something else.

    Blocks are drafted, verified and rolled back, one of them with everything kept and one with
    nothing; every logit is compared with those of one plain pass. Tolerances and the crossing of
    sliding windows are those of ``check_rollback``.

    Raises:
        UnsupportedModel: no such layer, or a model whose layers are not found.
    """
    shared = SharedExit(target, num_layers)
    if target.rollback_kind is Rollback.SNAPSHOT:
        return None  # kept drafts are read again there
    try:
        agrees = _reads_alike(shared, target, num_layers)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        agrees = False  # half a model is not what every architecture can be
    target.reset(rolls_back=False)
    return shared if agrees else None


def _reads_alike(shared: SharedExit, target: CachedCausalLM, num_layers: int) -> bool:
    window = getattr(target.model.config, "sliding_window", None) or 0
    length = window + 8 if 0 < window <= 256 else 16
    ids = [(7 * place + 3) % target.vocab_size for place in range(length + 3 * (NUM_DRAFTS + 1))]
    cut = CachedCausalLM(
        cut_layers(target.model, first=0, end=num_layers), vocab_size=target.vocab_size
    )
    read = ids[:length]
    shared.reset(rolls_back=True)
    shared.prefill(read)
    for num_kept in (1, NUM_DRAFTS + 1, 1, 2):
        start = len(read)
        block = ids[start : start + num_kept] + [
            (place + 1) % target.vocab_size for place in range(NUM_DRAFTS + 1 - num_kept)
        ]
        rows = torch.tensor(block, device=target.device)
        drafted = torch.cat([shared.draft(rows[place : place + 1]) for place in range(NUM_DRAFTS)])
        verified = shared.forward(rows)
        shared.rollback(len(block) - num_kept)
        whole = torch.tensor([[*read, *block]], device=target.device)
        for found, model in ((drafted, cut.model), (verified, target.model)):
            logits = model(input_ids=whole, use_cache=False).logits[0, start:, : target.vocab_size]
            if not _is_close(found, logits[: len(found)]):
                return False
        read += ids[start : start + num_kept]
    return True


def _later(cache: Cache, num_layers: int) -> Cache:
    """The same layers' keys and values, seen by the layers after the first ones.

    A model asks its cache's first layer, or the first with a sliding window, how much was read. The
    first layers are ahead after drafting: later ones of their kind answer in their place.
    """
    first, later = cache.layers[:num_layers], cache.layers[num_layers:]
    answering = [
        next((one for one in later if type(one) is type(layer)), later[0]) for layer in first
    ]
    return Cache(layers=[*answering, *later])


def _is_close(found: Tensor, expected: Tensor) -> bool:
    tolerance = 1e-3 if expected.dtype is torch.float32 else 0.1
    difference = float((found - expected).float().abs().max())
    return difference <= tolerance * float(expected.float().std())  # False where NaN
