"""A static cache reads and forgets as one that grows, whatever was captured, at every length."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.static_model import StaticCausalLM
from tests.decode import tiny_models
from tests.decode.recorded_graphs import RecordedGraphs

PROMPT = [5, 9, 3, 7, 11, 2]
PARENTS = (-1, 0, 0, 1, 2, 2, 4)  # the row that stands for the root, and a tree of six drafts
PATHS = ((0,), (0, 2, 5), (0, 1, 3), (0, 2, 4, 6))
CROPPED = {"llama": tiny_models.llama, "gpt2": tiny_models.gpt2}
NEAR = 1e-4


def cached(kind: str = "llama", attention: str = "sdpa", dtype=torch.float32) -> CachedCausalLM:
    model = CROPPED[kind]().to(dtype)
    model.set_attn_implementation(attention)
    return CachedCausalLM(model, vocab_size=tiny_models.VOCAB)


def fixed(
    like: CachedCausalLM, graphs: RecordedGraphs | None = None, *, grouped_from: int = 0
) -> StaticCausalLM:
    """With rooms of 16, 24, 32, 48 … tokens."""
    return StaticCausalLM(like, graphs, shortest=16, grouped_from=grouped_from)


def tensor(ids: Sequence[int]) -> Tensor:
    return torch.tensor(list(ids))


@torch.inference_mode()
def read_much(model: CachedCausalLM | StaticCausalLM) -> Tensor:
    """Chains of 1 … 8 rows of which something is forgotten, and trees, over 90 tokens."""
    model.reset(rolls_back=True)
    seen = [model.prefill(PROMPT)]
    for block in range(24):
        num_rows = 1 + block % 8
        ids = [(5 * block + 3 * place) % tiny_models.VOCAB for place in range(num_rows)]
        seen.append(model.forward(tensor(ids)).clone())
        model.rollback(block % num_rows)
        if block % 3 == 0:
            nodes = [(7 * block + place) % tiny_models.VOCAB for place in range(len(PARENTS))]
            seen.append(model.forward_tree(tensor(nodes), PARENTS).clone())
            model.keep_path(PATHS[block // 3 % len(PATHS)])
    return torch.cat(seen)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CROPPED)
@pytest.mark.parametrize("rows", [(), range(1, 9), (2, 7)], ids=["none", "all", "some"])
def test_it_reads_as_a_cache_that_grows(kind: str, attention: str, rows: Sequence[int]):
    """Every logit of chains and trees across six rooms; captured, launched one by one, or both."""
    like, graphs = cached(kind, attention), RecordedGraphs()
    model = fixed(like, graphs)
    model.prepare(rows, first=len(PROMPT) + 1, last=96)
    expected, found = read_much(like), read_much(model)

    assert 96 > like.cache.get_seq_length() > 64
    assert torch.allclose(expected, found, atol=NEAR)
    assert len(rows) * 6 == graphs.num_captures  # 16, 24, 32, 48, 64 and 96 tokens
    assert bool(rows) == bool(graphs.num_replays)


@pytest.mark.parametrize("grouped_from", [0, 32, 1024])
def test_grouped_attention_changes_nothing_but_rounding(grouped_from: int):
    """From the first room on, from the third, never."""
    like = cached()
    model = fixed(like, RecordedGraphs(), grouped_from=grouped_from)
    model.prepare(range(1, 9), first=7, last=96)

    assert torch.allclose(read_much(like), read_much(model), atol=NEAR)


def test_without_being_prepared_it_grows_by_itself():
    """What was read stays when the room is too small; graphs of the old room are not launched."""
    like, graphs = cached(), RecordedGraphs()
    model = fixed(like, graphs)
    model.prepare((1, 2, 3), first=7, last=20)
    num_captures = graphs.num_captures
    expected, found = read_much(like), read_much(model)

    assert torch.allclose(expected, found, atol=NEAR)
    assert num_captures == graphs.num_captures
    assert 1 == graphs.num_renewals


def test_a_capture_is_made_once():
    """Asked again for the same, and for less, nothing is captured."""
    graphs = RecordedGraphs()
    model = fixed(cached(), graphs)

    assert 4 == model.prepare((1, 5), first=17, last=30)  # over 24 and 32 tokens
    assert 0 == model.prepare((5,), first=20, last=31)
    assert 2 == model.prepare((1, 2), first=17, last=30)
    assert 6 == graphs.num_captures


def test_more_room_makes_known_passes_anew():
    """Their addresses are gone; they are captured at once, so that no later answer waits."""
    model = fixed(cached(), RecordedGraphs())
    model.prepare((1,), first=7, last=16)

    assert 1 + 2 == model.prepare((2,), first=20, last=30)
    assert 0 == model.prepare((1,), first=7, last=16)


def test_without_graphs_there_is_room_alone():
    """Nothing can be captured, and nothing is."""
    model = fixed(cached())

    assert 0 == model.prepare((1, 2), first=7, last=40)
    assert 48 * model.cache_bytes == 0 < model.room_bytes


@torch.inference_mode()
def test_cache_bytes_are_those_of_a_cache_that_grows():
    """Arms compare: what is remembered counts, not the room."""
    like = cached()
    model = fixed(like)
    for one in (like, model):
        one.reset(rolls_back=True)
        one.prefill(PROMPT)
        one.forward(tensor([1, 2, 3]))
        one.rollback(2)

    assert like.cache_bytes == model.cache_bytes > 0
    assert 16 * model.cache_bytes == 7 * model.room_bytes


@torch.inference_mode()
def test_the_last_state_is_the_growing_caches():
    """After a prompt, a chain of which something is forgotten, and a tree; watched late."""
    like, graphs = cached(), RecordedGraphs()
    model = fixed(like, graphs)
    model.prepare((4, 7), first=7, last=16)
    for one in (like, model):
        one.watch_states()
    model.prepare((4, 7), first=7, last=16)

    states: list[list[Tensor]] = []
    for one in (like, model):
        one.reset(rolls_back=True)
        one.prefill(PROMPT)
        states.append([one.last_state.clone()])
        one.forward(tensor([1, 2, 3, 4]))
        one.rollback(2)
        states[-1].append(one.last_state.clone())
        one.forward_tree(tensor(range(7)), PARENTS)
        one.keep_path((0, 2, 5))
        states[-1].append(one.last_state.clone())

    assert 2 == graphs.num_replays
    for expected, found in zip(*states, strict=True):
        assert torch.allclose(expected, found, atol=NEAR)


def test_states_that_nobody_watches_are_not_there():
    """As on a cache that grows."""
    with pytest.raises(RuntimeError, match="no state was watched"):
        _ = fixed(cached()).last_state


@torch.inference_mode()
def test_a_broken_answer_leaves_nothing_behind():
    """NaN behind the mask would weigh nothing, and nothing times NaN is NaN."""
    like = cached()
    model = fixed(like, RecordedGraphs())
    model.prepare((3,), first=7, last=16)
    model.reset(rolls_back=True)
    model.prefill(PROMPT)
    for layer in model._cache.layers:
        layer.values.fill_(torch.nan)
    model.forward(tensor([1, 2, 3]))
    read = []
    for one in (like, model):
        one.reset(rolls_back=True)
        one.prefill(PROMPT)
        read.append(one.forward(tensor([1, 2, 3])))

    assert torch.allclose(*read, atol=NEAR)


@torch.inference_mode()
def test_a_pass_that_failed_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch):
    """The next prompt is read from the beginning, over zeros."""
    like = cached()
    model = fixed(like)
    model.reset(rolls_back=True)
    model.prefill(PROMPT)
    forward = model.model.lm_head.forward

    def fail(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.model.lm_head, "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        model.forward(tensor([1, 2]))
    monkeypatch.setattr(model.model.lm_head, "forward", forward)

    assert torch.allclose(read_much(like), read_much(model), atol=NEAR)
    model.reset(rolls_back=True)
    monkeypatch.setattr(model.model.lm_head, "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        model.prefill(PROMPT)
    model.reset(rolls_back=True)
    assert not model._cache.layers[0].keys.any()


def test_it_begins_anew_outside_of_inference_too():
    """What was written in inference mode is wiped by whoever asks."""
    model = fixed(cached())
    with torch.inference_mode():
        model.reset(rolls_back=True)
        model.prefill(PROMPT)
    model.reset(rolls_back=True)

    assert 0 == model.cache_bytes


@torch.inference_mode()
def test_what_was_released_is_taken_again():
    """Room and graphs go; the model goes on without, or is prepared anew."""
    like = cached()
    model = fixed(like, RecordedGraphs())
    model.prepare((1, 2), first=7, last=40)
    model.release()

    assert 0 == model.room_bytes
    assert torch.allclose(read_much(like), read_much(model), atol=NEAR)
    assert 2 == model.prepare((2,), first=97, last=140)


@torch.inference_mode()
def test_logits_that_a_model_widens_stay_wide():
    """A half-precision model that caps its logits in float32 is not rounded again."""
    like = cached(dtype=torch.bfloat16)
    like.model.lm_head.register_forward_hook(lambda *seen: seen[-1].float() / 3)
    model = fixed(like, RecordedGraphs())
    model.prepare((2,), first=3, last=8)
    for one in (like, model):
        one.reset(rolls_back=True)
        one.prefill([1])
    expected, found = (one.forward(tensor([4, 5])) for one in (like, model))

    assert torch.float32 == found.dtype
    assert not torch.equal(found.bfloat16().float(), found)
    assert torch.allclose(expected, found, atol=0.1)


@torch.inference_mode()
def test_vocabulary_padding_is_dropped():
    """Logits beyond the tokenizer's ids do not exist for the loop."""
    model = fixed(CachedCausalLM(tiny_models.llama(), vocab_size=50), RecordedGraphs())
    model.prepare((2,), first=4, last=8)
    model.reset(rolls_back=False)

    assert (1, 50) == model.prefill([1, 2, 3]).shape
    assert (2, 50) == model.forward(tensor([4, 5])).shape
