"""The number of a target's layers."""

from pathlib import Path

import pytest
from transformers import BloomConfig, GPT2Config

from specmeasure import demo
from specmeasure.engines.layers import num_layers
from specmeasure.errors import ModelError, ModelNotFound, UnsupportedModel
from specmeasure.records.plan import ModelOptions


def test_the_embedded_targets_layers():
    """As its config says."""
    assert 12 == num_layers(demo.TARGET, ModelOptions())


@pytest.mark.parametrize("config", [GPT2Config(n_layer=3), BloomConfig(n_layer=3)])
def test_a_config_is_enough(tmp_path: Path, config: GPT2Config | BloomConfig):
    """A folder without weights, whatever its family calls layers."""
    config.save_pretrained(tmp_path)

    assert 3 == num_layers(str(tmp_path), ModelOptions())


def test_a_config_without_layers_says_so(tmp_path: Path):
    """One of a network without layers of a kind."""
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')

    with pytest.raises(UnsupportedModel, match="Name the layers that --early-exit"):
        num_layers(str(tmp_path), ModelOptions())


def test_no_such_target():
    """The error that loading it would give."""
    with pytest.raises(ModelNotFound, match="embedded:other"):
        num_layers("embedded:other", ModelOptions())
    with pytest.raises(ModelError, match="target /nowhere"):
        num_layers("/nowhere", ModelOptions())
