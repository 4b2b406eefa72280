"""The target's first layers as a draft: the same weights, the same logits, the same target."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from specmeasure import demo
from specmeasure.decode.batch import Read
from specmeasure.decode.cache import CachedCausalLM, check_rollback
from specmeasure.decode.early_exit import exit_reader, first_layers
from specmeasure.decode.teacher import Drafter, Finished, score_batch
from specmeasure.engines.models import LoadedModels
from specmeasure.errors import UnsupportedModel
from specmeasure.records.plan import BASELINE, DraftSampling, ModelOptions, Plan, Sampling
from tests.decode import tiny_models

IDS = torch.tensor([[3, 17, 40, 8, 22, 5, 61, 9, 30, 12, 2, 44]])
REREAD = ["crop", "sliding", "sliding and full"]  # whose hidden states can be read by their head


def cached(kind: str) -> CachedCausalLM:
    return CachedCausalLM(tiny_models.ALL[kind](), vocab_size=tiny_models.VOCAB)


@pytest.fixture(scope="module")
def embedded() -> CachedCausalLM:
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE,),
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )
    return LoadedModels.load(plan, most_threads=1).target


@torch.inference_mode()
def logits_of(model: Any) -> Tensor:
    logits: Tensor = model(input_ids=IDS, use_cache=False).logits
    return logits


@torch.inference_mode()
def read_by(target: CachedCausalLM, num_layers: int) -> Tensor:
    """Logits after some layers, from the target's own pass."""
    reader = exit_reader(target, num_layers)
    assert reader is not None
    output = target.model(input_ids=IDS, use_cache=False, output_hidden_states=True)
    return reader(Read(logits=output.logits, hidden_states=tuple(output.hidden_states)))


@pytest.mark.parametrize("kind", REREAD)
def test_a_reading_of_the_targets_pass_is_the_cut_models(kind: str):
    """One pass of the target gives the draft's logits, too."""
    target = cached(kind)
    expected = logits_of(first_layers(target, 1).model)

    torch.testing.assert_close(read_by(target, 1), expected, atol=1e-4, rtol=1e-4)


def test_the_embedded_target_is_read_after_every_layer(embedded: CachedCausalLM):
    """Real weights, each layer but the last."""
    for layer in range(1, embedded.model.config.num_hidden_layers):
        expected = logits_of(first_layers(embedded, layer).model)[..., : embedded.vocab_size]

        torch.testing.assert_close(read_by(embedded, layer), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", [*REREAD, "crop, learnt positions"])
def test_the_cut_model_is_a_model_of_so_many_layers(kind: str):
    """Its logits are those of a fresh model of one layer that was given the target's weights."""
    target = cached(kind)
    cut = first_layers(target, 1).model
    fresh = type(target.model)(cut.config).eval()
    fresh.load_state_dict(cut.state_dict())

    assert 1 == sum(type(one) is type(layers_of(target.model)[0]) for one in fresh.modules())
    torch.testing.assert_close(logits_of(fresh), logits_of(cut), atol=1e-5, rtol=1e-5)


def layers_of(model: Any) -> Any:
    backbone = getattr(model, model.base_model_prefix)
    return next(one for one in backbone.children() if isinstance(one, torch.nn.ModuleList))


@pytest.mark.parametrize("kind", tiny_models.ALL)
def test_cut_weights_are_the_targets_very_tensors(kind: str):
    """A draft that costs no memory."""
    target = cached(kind)
    own = {weight.data_ptr() for weight in target.model.parameters()}
    cut = {weight.data_ptr() for weight in first_layers(target, 1).model.parameters()}

    assert cut < own


@pytest.mark.parametrize("kind", tiny_models.ALL)
def test_the_target_stays_what_it_was(kind: str):
    """Cutting and reading leave layers, config and logits alone."""
    target = cached(kind)
    config, before = target.model.config.to_dict(), logits_of(target.model)
    logits_of(first_layers(target, 1).model)
    exit_reader(target, 1)

    assert config == target.model.config.to_dict()
    assert torch.equal(before, logits_of(target.model))


@pytest.mark.parametrize("kind", [*REREAD, "crop, learnt positions"])
def test_a_cut_model_forgets_like_any_other(kind: str):
    """Its cache has as many layers as it has, and rolls back exactly."""
    target = cached(kind)
    cut = first_layers(target, target.model.config.num_hidden_layers - 1)

    check_rollback(cut, "the cut model")


@pytest.mark.parametrize("layer", [-1, 2, 7])
def test_an_unknown_layer_is_refused(layer: int):
    """The message names those that there are."""
    with pytest.raises(UnsupportedModel, match=f"after layer {layer}.*2 layers; name 1 to 1"):
        first_layers(cached("crop"), layer)


def test_layers_that_are_not_found_are_refused():
    """A backbone with another idea of layers says so, with the way out."""
    target = cached("crop")
    target.model.model.layers = torch.nn.Sequential(*target.model.model.layers)

    with pytest.raises(UnsupportedModel, match=r"were not found\. Leave --early-exit out"):
        first_layers(target, 1)


def test_a_target_spread_over_devices_is_refused():
    """Accelerate puts a forward of all layers into the model, which a cut copy would run."""
    target = cached("crop")
    target.model.forward = partial(type(target.model).forward, target.model)
    with pytest.raises(UnsupportedModel, match=r"spread over devices.*--device-map"):
        first_layers(target, 1)


def test_learnt_positions_cannot_be_read_twice():
    """A model that adds positions on the way in is not reread; the cut model scores instead."""
    target, answers = cached("crop, learnt positions"), [answer()]
    drafter = Drafter(draft_sampling=DraftSampling.PROBABILISTIC, model=first_layers(target, 1))
    scored = score_batch(target, [drafter], answers, Sampling(temperature=1.0))[0].drafts[0]

    assert exit_reader(target, 1) is None
    assert 5 == len(scored.accept_chance)
    assert 0 < max(scored.total_variation)


def answer() -> Finished:
    ids = IDS[0].tolist()
    return Finished(context_ids=ids[:7], token_ids=ids[7:])


@pytest.mark.parametrize("kind", REREAD)
def test_scores_by_either_way_are_the_same(kind: str):
    """Reading the target's pass saves a pass, and changes no score."""
    target = cached(kind)
    reading = Drafter(
        draft_sampling=DraftSampling.PROBABILISTIC, read_target=exit_reader(target, 1)
    )
    cut = Drafter(draft_sampling=DraftSampling.PROBABILISTIC, model=first_layers(target, 1))
    one, other = score_batch(target, [reading, cut], [answer()], Sampling(temperature=1.0))[
        0
    ].drafts

    assert list(one.accept_chance) == pytest.approx(list(other.accept_chance), abs=1e-4)
    assert list(one.total_variation) == pytest.approx(list(other.total_variation), abs=1e-4)
    assert one.token_rank == other.token_rank
