"""Models that come and go."""

import pytest

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.engines.models import LoadedModels
from specmeasure.errors import UnsupportedModel
from specmeasure.records.plan import ModelOptions
from tests.decode.tiny_models import VOCAB, lfm2_convolution


def test_an_exit_before_any_attention_is_refused():
    """A cut whose cache cannot be rolled back is named, with what to do; no traceback."""
    target = CachedCausalLM(lfm2_convolution(), vocab_size=VOCAB)
    loaded = LoadedModels("tiny", None, target, ModelOptions())

    with pytest.raises(UnsupportedModel, match="Name a later layer, or leave --early-exit out"):
        loaded.exit_after(1)
