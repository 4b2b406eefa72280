"""Which models are captured: those that prove that they read as before."""

from typing import Any

import pytest
import torch
import transformers as hf

from specmeasure.decode import grouped_attention, static_model
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.static_check import static_twin
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.errors import UnsupportedModel
from tests.decode import tiny_models
from tests.decode.recorded_graphs import RecordedGraphs


def cached(model: Any) -> CachedCausalLM:
    return CachedCausalLM(model, vocab_size=tiny_models.VOCAB)


def twin(model: Any) -> StaticCausalLM:
    return static_twin(cached(model), RecordedGraphs(), shortest=16)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("build", [tiny_models.llama, tiny_models.gpt2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_full_attention_is_captured(build: Any, attention: str, dtype: torch.dtype):
    """Two architectures, two attentions, two dtypes; nothing of the trial is kept."""
    model = build().to(dtype)
    model.set_attn_implementation(attention)
    found = twin(model)

    assert (0, 0) == (found.room_bytes, found.cache_bytes)
    assert attention == model.config._attn_implementation


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("sliding", "forgets by record and crop"),
        ("sliding and full", "forgets by record and crop"),
        ("convolution", "forgets by record and crop"),
        ("recurrent", "forgets by snapshot and replay"),
    ],
)
def test_other_caches_are_not(kind: str, reason: str):
    """Windows, convolutions and recurrent states, with the reason."""
    with pytest.raises(UnsupportedModel, match=reason):
        twin(tiny_models.ALL[kind]())


def test_attention_without_free_masks_is_not():
    """Flash attention takes no such mask."""
    model = tiny_models.llama()
    model.config._attn_implementation = "flash_attention_2"

    with pytest.raises(UnsupportedModel, match=r"'flash_attention_2' attention takes no mask"):
        twin(model)


def test_a_model_that_knows_places_by_itself_is_not():
    """Bloom has no position ids."""
    config = hf.BloomConfig(vocab_size=tiny_models.VOCAB, hidden_size=32, n_layer=1, n_head=4)

    with pytest.raises(UnsupportedModel, match="'bloom' is not told position_ids"):
        twin(tiny_models.build(config))


def test_a_model_on_several_devices_is_not():
    """A part of it elsewhere, as device_map makes it."""
    model = tiny_models.llama()
    model.lm_head.to("meta")

    with pytest.raises(UnsupportedModel, match="spread over devices"):
        twin(model)


def test_a_model_that_looks_at_its_positions_is_not():
    """Frequencies that change with the length are decided on the host in every pass."""
    config = hf.LlamaConfig(
        **tiny_models.COMMON,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    )

    with pytest.raises(UnsupportedModel, match=r"cannot be captured \(aten::.*asks the host"):
        twin(tiny_models.build(config))


def test_a_model_that_chooses_experts_is_not():
    """Which experts have work is asked of the device in every pass."""
    config = hf.MixtralConfig(
        **tiny_models.COMMON,
        sliding_window=None,
        num_local_experts=4,
        experts_implementation="eager",
    )

    with pytest.raises(UnsupportedModel, match="cannot be captured"):
        twin(tiny_models.build(config))


def test_a_start_that_is_baked_in_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A pass that writes and sees where it was captured, not where it is launched."""

    class Stale(StaticCausalLM):
        def _read(self, ids, parents):
            start, self._start = self._start, torch.zeros(1, dtype=torch.int64)
            try:
                return super()._read(ids, parents)
            finally:
                self._start = start

    refuse(monkeypatch, Stale)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_that_is_off_by_one_is_refused(monkeypatch: pytest.MonkeyPatch, shift: int):
    """Rows that see one place more, or one less, than was read."""

    class Shifted(StaticCausalLM):
        def _step(self, rows, length):
            rows.sees.copy_(rows.sees.roll(shift, dims=1))
            super()._step(rows, length)
            rows.sees.copy_(rows.sees.roll(-shift, dims=1))

    refuse(monkeypatch, Shifted)


def test_a_path_that_is_not_moved_is_refused(monkeypatch: pytest.MonkeyPatch):
    """The tree's first rows stay where the kept ones belong."""

    class KeepsFirstRows(StaticCausalLM):
        def keep_path(self, rows):
            super().keep_path(range(len(rows)))

    refuse(monkeypatch, KeepsFirstRows)


def test_a_rollback_that_forgets_too_little_is_refused(monkeypatch: pytest.MonkeyPatch):
    """One token more is remembered than was kept."""

    class Forgetful(StaticCausalLM):
        def rollback(self, num_tokens):
            super().rollback(max(0, num_tokens - 1))

    refuse(monkeypatch, Forgetful)


def refuse(monkeypatch: pytest.MonkeyPatch, broken: type[StaticCausalLM]) -> None:
    """The trial of a model that is broken so ends with its distance."""
    monkeypatch.setattr("specmeasure.decode.static_check.StaticCausalLM", broken)

    with pytest.raises(UnsupportedModel, match=r"differ from its own by \d"):
        twin(tiny_models.llama())


def test_attention_over_long_lengths_is_tried_as_well(monkeypatch: pytest.MonkeyPatch):
    """The trial is short, and what attends from 1024 tokens on is proved all the same."""
    products = grouped_attention._products
    monkeypatch.setattr(
        grouped_attention, "_products", lambda rows, keys: products(rows, keys).square()
    )

    with pytest.raises(UnsupportedModel, match=r"differ from its own by \d"):
        twin(tiny_models.llama())
    eager = tiny_models.llama()
    eager.set_attn_implementation("eager")
    assert 0 == twin(eager).room_bytes  # which never attends so


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
    ids=["torch", "CUDA", "broken", "cuBLAS"],
)
def test_a_device_that_fails_says_nothing_of_a_model(error: RuntimeError):
    """It passes, so that nobody is told that the model cannot be captured."""
    with pytest.raises(type(error)) as caught:
        static_twin(cached(tiny_models.llama()), FailingGraphs(error), shortest=16)

    assert error is caught.value


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: operation not permitted when stream is capturing",
        "CUDA error: operation failed due to a previous error during capture",
    ],
)
def test_what_a_capture_refuses_does(said: str):
    """The device goes on; the pass cannot be captured."""
    graphs = FailingGraphs(torch.AcceleratorError(said))

    with pytest.raises(UnsupportedModel, match="cannot be captured"):
        static_twin(cached(tiny_models.llama()), graphs, shortest=16)


class FailingGraphs(RecordedGraphs):
    """Captures fail."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__()
        self._error = error

    def capture(self, run):  # noqa: ARG002 - the protocol's argument
        raise self._error


def test_the_trial_is_made_with_captured_passes():
    """All of its seven passes after the prompt are replays: a graph is what is proved, twice.

    The graphs of a trial are dropped, and so is the memory that they shared.
    """
    graphs = RecordedGraphs()
    static_twin(cached(tiny_models.llama()), graphs)

    assert (8, 14, 2) == (graphs.num_captures, graphs.num_replays, graphs.num_renewals)
    assert static_model.StaticCausalLM is StaticCausalLM
