import pytest
import torch

from specmeasure.decode.device_failures import is_shortage
from specmeasure.engines.room import (
    explained_shortage,
    refuse_or_warn,
    refuse_weights,
    what_to_lower,
)
from specmeasure.errors import OutOfMemory
from specmeasure.records.memory import MemoryNeed, MemoryPrediction
from specmeasure.records.plan import ModelOptions

GIB = 2**30
CPU = torch.device("cpu")
LONGEST = [("prompts.jsonl:17", 2048), ("prompts.jsonl:3", 1900)]
WIDE, NARROW = ModelOptions(dtype="float32"), ModelOptions(dtype="bfloat16")


def prediction(free: float | None, **parts: int) -> MemoryPrediction:
    sizes = {"model_bytes": 6 * GIB, "cache_bytes": 3 * GIB, "working_bytes": GIB}
    return MemoryPrediction(
        device="cpu",
        num_prompt_tokens=2048,
        num_context_tokens=2560,
        needs=(
            MemoryNeed(arm="baseline", model_bytes=1, cache_bytes=1, working_bytes=1),
            MemoryNeed(arm="draft k=4", **(sizes | parts)),
        ),
        free_bytes=None if free is None else int(free * GIB),
    )


def test_what_is_clearly_too_large_is_refused_with_its_parts():
    """Sizes by part, what is free, and what to lower, the longest prompts by their places."""
    with pytest.raises(OutOfMemory) as caught:
        refuse_or_warn(prediction(9.0), WIDE, LONGEST)

    assert (
        "arm 'draft k=4' needs about 10.0 GiB at its longest, 2,048 prompt tokens and 512 new "
        "ones: 6.00 GiB weights, 3.00 GiB keys and values, 1.00 GiB working memory; 9.00 GiB are "
        "free on cpu. To make it fit: --dtype bfloat16 halves it; measure fewer drafts at a time; "
        "lower --max-new-tokens; leave out the longest prompts (prompts.jsonl:17 with 2048, "
        "prompts.jsonl:3 with 1900 tokens)." == str(caught.value)
    )


@pytest.mark.parametrize("free", [9.2, 11.0])
def test_what_may_not_fit_is_warned_of(free: float):
    """Between nine tenths and eleven tenths of what is free nobody can tell."""
    warning = refuse_or_warn(prediction(free), WIDE, LONGEST)

    assert warning is not None
    assert warning.startswith("Memory may run out: arm 'draft k=4' needs about 10.0 GiB")


@pytest.mark.parametrize("free", [12.0, None])
def test_what_fits_is_not_spoken_of(free: float | None):
    """Nor where it is not known what is free."""
    assert refuse_or_warn(prediction(free), WIDE, LONGEST) is None


def test_long_contexts_come_first_where_they_are_the_most():
    """What saves most is named first; a narrow dtype is not to be lowered."""
    need = prediction(9.0, model_bytes=GIB).largest

    assert (
        "lower --max-new-tokens; leave out the longest prompts; measure fewer drafts at a time"
        == what_to_lower(need, NARROW, CPU)
    )


def test_on_a_gpu_the_target_can_be_spread():
    """A way that a CPU does not have."""
    said = what_to_lower(prediction(9.0).largest, NARROW, torch.device("cuda"))

    assert "--device-map auto spreads the target" in said


def test_one_models_weights_are_refused_alone():
    """Where nothing else is known of the run."""
    with pytest.raises(OutOfMemory, match=r"draft d: its weights take 1048576 GiB; .* free on cpu"):
        refuse_weights("draft d", 2**50, WIDE, CPU)
    refuse_weights("draft d", 1, WIDE, CPU)


def test_the_allocators_of_both_kinds_are_understood():
    """torch's own error on a GPU, a RuntimeError's words on the host; nothing else."""
    host = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    assert is_shortage(host)
    assert is_shortage(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_shortage(torch.AcceleratorError("CUDA error: out of memory"))
    assert is_shortage(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    assert is_shortage(MemoryError())
    assert not is_shortage(RuntimeError("shapes do not match"))


def test_a_real_allocation_that_fails_says_what_there_is():
    """The host's memory, free and in all."""
    with (
        pytest.raises(OutOfMemory, match=r"too much; [\d.]+ [GM]iB of [\d.]+ GiB free"),
        explained_shortage(lambda there_is: f"too much; {there_is}", CPU),
    ):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_pass():
    """They are not about memory."""
    with pytest.raises(RuntimeError, match="shapes"), explained_shortage(str, CPU):
        raise RuntimeError("shapes do not match")
