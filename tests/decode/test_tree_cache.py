"""Trees of drafts over real caches: read like their paths, and forgotten but for one of these."""

import pytest
import torch
import transformers as hf

from specmeasure.decode.cache import CachedCausalLM, check_tree
from specmeasure.errors import UnsupportedModel
from tests.decode import tiny_models

PROMPT = [5, 9, 3, 7, 11, 2]
PARENTS = (-1, 0, 0, 1, 2, 2, 4)  # the row that stands for the root, and a tree of six drafts
ROWS = [13, 21, 34, 8, 40, 17, 29]
CROPPED = {"llama": tiny_models.llama, "gpt2": tiny_models.gpt2}


def cached(kind: str = "llama", attention: str = "sdpa", dtype=torch.float32) -> CachedCausalLM:
    model = CROPPED[kind]().to(dtype)
    model.set_attn_implementation(attention)
    return CachedCausalLM(model, vocab_size=tiny_models.VOCAB)


def tensor(ids) -> torch.Tensor:
    return torch.tensor(ids)


def path_to(row: int) -> list[int]:
    return [] if row < 0 else [*path_to(PARENTS[row]), row]


@torch.inference_mode()
def read_tree(model: CachedCausalLM) -> torch.Tensor:
    model.reset(rolls_back=True)
    model.prefill(PROMPT)
    return model.forward_tree(tensor(ROWS), PARENTS)


@torch.inference_mode()
def after(model: CachedCausalLM, ids) -> torch.Tensor:
    """By a plain pass without a cache."""
    return model.model(input_ids=tensor([ids]), use_cache=False).logits[0, -1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CROPPED)
def test_a_node_is_read_as_the_end_of_its_path(kind: str, attention: str):
    """Logits of every row are those of a plain pass over the prompt and the row's ancestors."""
    model = cached(kind, attention)
    found = read_tree(model)
    expected = [after(model, PROMPT + [ROWS[i] for i in path_to(row)]) for row in range(len(ROWS))]

    assert torch.allclose(torch.stack(expected), found, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("row", range(len(ROWS)))
@pytest.mark.parametrize("kind", CROPPED)
def test_the_kept_path_is_all_that_is_remembered(kind: str, row: int):
    """Keys and values afterwards are those of a prefill of the path; so is what is read next."""
    model, fresh = cached(kind), cached(kind)
    read_tree(model)
    model.keep_path(path_to(row))
    fresh.reset(rolls_back=True)
    fresh.prefill(PROMPT + [ROWS[i] for i in path_to(row)])

    for own, expected in zip(model._cache.layers, fresh._cache.layers, strict=True):
        assert torch.allclose(expected.keys, own.keys, atol=1e-5)
        assert torch.allclose(expected.values, own.values, atol=1e-5)
    again = [cache.forward_tree(tensor(ROWS), PARENTS) for cache in (fresh, model)]
    assert torch.allclose(*again, atol=1e-4)


@torch.inference_mode()
def test_the_last_state_is_that_of_the_last_kept_node():
    """What drafts go on from is what the target made of the path's end."""
    model = cached()
    model.watch_states()
    states = []
    for row in (6, 3, 0):
        read_tree(model)
        model.keep_path(path_to(row))
        states.append(model.last_state)
        model.reset(rolls_back=False)
        model.prefill(PROMPT + [ROWS[i] for i in path_to(row)])

        assert torch.allclose(model.last_state, states[-1], atol=1e-5)


@torch.inference_mode()
def test_a_chain_read_as_a_tree_is_the_chain():
    """Whichever way it is read and forgotten, the same logits and the same cache."""
    as_chain, as_tree = cached(), cached()
    read = []
    for model in (as_chain, as_tree):
        model.reset(rolls_back=True)
        model.prefill(PROMPT)
        if model is as_chain:
            read.append(model.forward(tensor(ROWS)))
            model.rollback(4)
        else:
            read.append(model.forward_tree(tensor(ROWS), range(-1, len(ROWS) - 1)))
            model.keep_path([0, 1, 2])

    assert torch.allclose(*read, atol=1e-5)
    assert torch.allclose(as_chain._cache.layers[1].keys, as_tree._cache.layers[1].keys, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CROPPED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_full_attention_passes_the_check(kind: str, attention: str, dtype: torch.dtype):
    """Two architectures, two attentions, two dtypes: nothing is raised."""
    check_tree(cached(kind, attention, dtype), "mine")


@pytest.mark.parametrize("kind", ["sliding", "sliding and full", "convolution", "recurrent"])
def test_other_caches_are_refused(kind: str):
    """What cannot drop tokens from its middle says so, and that chains will do."""
    model = CachedCausalLM(tiny_models.ALL[kind](), vocab_size=tiny_models.VOCAB)

    with pytest.raises(UnsupportedModel, match=r"full attention.*Draft chains"):
        check_tree(model, "mine")


def test_attention_without_free_masks_is_refused():
    """Flash attention takes no such mask; the message names what does."""
    model = cached()
    model.model.config._attn_implementation = "flash_attention_2"

    with pytest.raises(UnsupportedModel, match=r"mine.*flash_attention_2.*--attn sdpa"):
        check_tree(model, "mine")


def test_a_model_that_knows_places_by_itself_is_refused():
    """Bloom has no position ids to give a node its depth by."""
    config = hf.BloomConfig(vocab_size=tiny_models.VOCAB, hidden_size=32, n_layer=1, n_head=4)
    model = CachedCausalLM(tiny_models.build(config), vocab_size=tiny_models.VOCAB)

    with pytest.raises(UnsupportedModel, match=r"position_ids.*'bloom'"):
        check_tree(model, "mine")


class SeesSiblings(CachedCausalLM):
    """Reads a tree as a chain, and keeps the right number of rows."""

    def forward_tree(self, ids, parents):
        return super().forward_tree(ids, range(-1, len(parents) - 1))


class KeepsFirstRows(CachedCausalLM):
    """Cuts the tree's end, and forgets to move the path to the front."""

    def keep_path(self, rows):
        super().keep_path(range(len(rows)))


@pytest.mark.parametrize("broken", [SeesSiblings, KeepsFirstRows])
def test_a_wrong_reading_is_caught(broken: type[CachedCausalLM]):
    """A mask that shows siblings, and a cache that is not compacted, are refused."""
    model = broken(tiny_models.llama(), vocab_size=tiny_models.VOCAB)

    with pytest.raises(UnsupportedModel, match="otherwise than the tree's paths"):
        check_tree(model, "mine")
