import copy

import pytest
import torch
from transformers import DynamicCache

from specmeasure.decode.cache import CachedCausalLM, Rollback, check_rollback, rollback_kind
from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.errors import UnsupportedModel
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.records.plan import Sampling
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock

CPU = torch.device("cpu")
PROMPT = [5, 9, 3, 7, 11] * 4  # past the sliding windows of 16


def cached(kind: str) -> CachedCausalLM:
    return CachedCausalLM(tiny_models.ALL[kind](), vocab_size=tiny_models.VOCAB)


def answer(target: CachedCausalLM, draft: CachedCausalLM | None, k: int = 0) -> tuple[int, ...]:
    generator = torch.Generator()
    decoder = Decoder(
        target=target, sampling=Sampling(), generator=generator, clock=FakeClock(), device=CPU
    )
    proposer = (
        None
        if draft is None
        else DraftModelProposer(draft, Sampling(), generator=generator, device=CPU)
    )
    stopping = Stopping(max_new_tokens=40, eos_ids=frozenset(), num_speculative_tokens=k)
    return decoder.decode(proposer, PROMPT, stopping).token_ids


def imperfect_copy(model: CachedCausalLM) -> CachedCausalLM:
    """A draft that is right often, not always."""
    draft = copy.deepcopy(model.model)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in draft.parameters():
            if weight.dim() > 1:
                weight.add_(0.01 * torch.randn(weight.shape, generator=noise))
    return CachedCausalLM(draft, vocab_size=model.vocab_size)


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny_models.ALL)
def test_rollback_leaves_no_trace(kind: str):
    """Every kind of cache passes its self-test, decodes as generate does, and so does its draft."""
    target = cached(kind)
    check_rollback(target, kind)
    with torch.inference_mode():
        generated = target.model.generate(
            torch.tensor([PROMPT]),
            attention_mask=torch.ones(1, len(PROMPT), dtype=torch.int64),
            max_new_tokens=40,
            min_new_tokens=40,
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
        )[0, len(PROMPT) :].tolist()

    assert generated == list(answer(target, None))
    for k in (1, 4):
        assert generated == list(answer(target, imperfect_copy(target), k))


def test_kinds_are_told_apart():
    """Full attention crops, windows and convolutions record, recurrent states are copied."""
    kinds = {name: rollback_kind(build()) for name, build in tiny_models.ALL.items()}

    assert {
        "crop": Rollback.CROP,
        "crop, learnt positions": Rollback.CROP,
        "sliding": Rollback.RECORD,
        "sliding and full": Rollback.RECORD,
        "convolution": Rollback.RECORD,
        "recurrent": Rollback.SNAPSHOT,
    } == kinds


def test_a_cache_that_does_not_forget_is_refused():
    """A rollback that drops too little is caught before anything is measured."""

    class Forgetful(CachedCausalLM):
        def rollback(self, num_tokens: int) -> None:
            super().rollback(max(0, num_tokens - 1))

    with pytest.raises(UnsupportedModel, match="differs from a fresh prefill"):
        check_rollback(Forgetful(tiny_models.llama(), vocab_size=tiny_models.VOCAB), "mine")


def test_a_recurrent_model_treated_as_croppable_is_refused():
    """The silent corruption of recurrent drafts (transformers issue 49036) is an error here."""
    model = CachedCausalLM(tiny_models.qwen3_next_recurrent(), vocab_size=tiny_models.VOCAB)
    model.rollback_kind = Rollback.RECORD

    with pytest.raises(UnsupportedModel, match="qwen3_next"):
        check_rollback(model, "mine")


def test_a_model_without_a_usable_cache_is_refused():
    """Mamba keeps its state elsewhere: refused with its model type, not measured wrongly."""
    model = CachedCausalLM(tiny_models.mamba_recurrent(), vocab_size=tiny_models.VOCAB)

    with pytest.raises(UnsupportedModel, match="'mamba'"):
        check_rollback(model, "mine")


def test_vocabulary_padding_is_dropped():
    """Logits beyond the tokenizer's ids do not exist for the loop."""
    model = CachedCausalLM(tiny_models.llama(), vocab_size=50)
    model.reset(rolls_back=False)

    assert (1, 50) == model.prefill([1, 2, 3]).shape


def test_cache_bytes_grow_with_the_context():
    """Two layers × keys and values × 2 heads × 8 floats × tokens."""
    model = CachedCausalLM(tiny_models.llama(), vocab_size=tiny_models.VOCAB)
    model.reset(rolls_back=False)
    with torch.inference_mode():
        model.prefill([1, 2, 3])

    assert 2 * 2 * 2 * 8 * 4 * 3 == model.cache_bytes
    assert isinstance(model._cache, DynamicCache)
