"""Models that come and go."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.engines.models import LoadedModels
from specmeasure.engines.proposing import drafting_for
from specmeasure.errors import UnsupportedModel
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.records.plan import BASELINE, GREEDY, Arm, Method, ModelOptions
from tests.decode.tiny_models import VOCAB, gpt2, lfm2_convolution, llama

EXIT = Arm(name="exit", method=Method.EARLY_EXIT, num_speculative_tokens=2, exit_layer=1)


def test_an_exit_before_any_attention_is_refused():
    """A cut whose cache cannot be rolled back is named, with what to do; no traceback."""
    target = CachedCausalLM(lfm2_convolution(), vocab_size=VOCAB)
    loaded = LoadedModels("tiny", None, target, ModelOptions())

    with pytest.raises(UnsupportedModel, match="Name a later layer, or leave --early-exit out"):
        loaded.exit_after(1)


def test_an_exit_shares_the_targets_cache_where_it_can():
    """The proof is made once; a reader of the brief is told where it fails, and nothing else."""
    one = LoadedModels("tiny", None, cached(llama()), ModelOptions())
    other = LoadedModels("tiny", None, cached(gpt2()), ModelOptions())

    assert one.shared_exit(EXIT) is one.shared_exit(EXIT) is not None
    assert one.shared_exit(BASELINE) is other.shared_exit(EXIT) is None
    assert () == one.exit_warnings([BASELINE, EXIT])
    (said,) = other.exit_warnings([EXIT, replace(EXIT, name="again"), BASELINE])
    assert said.startswith("Early exit after layer 1: what its layers read while drafting is read")
    assert "model type 'gpt2'" in said


def test_an_exit_that_cannot_share_drafts_by_itself():
    """The same answers, by a model of the first layers with a cache of its own."""
    models = LoadedModels("tiny", None, cached(gpt2()), ModelOptions())
    drafting = drafting_for(EXIT, models, GREEDY, generator=torch.Generator())

    assert models.target is drafting.target
    assert isinstance(drafting.proposer, DraftModelProposer)


def cached(model: Any) -> CachedCausalLM:
    return CachedCausalLM(model, vocab_size=VOCAB)
