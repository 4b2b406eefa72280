import pytest

from specmeasure.records.memory import MemoryNeed, MemoryPrediction


def need(arm: str, working_bytes: int = 1, checking_bytes: int = 0) -> MemoryNeed:
    return MemoryNeed(
        arm=arm,
        model_bytes=10,
        cache_bytes=5,
        working_bytes=working_bytes,
        checking_bytes=checking_bytes,
    )


def prediction(*needs: MemoryNeed, free_bytes: int | None = 40) -> MemoryPrediction:
    return MemoryPrediction(
        device="cpu",
        num_prompt_tokens=4,
        num_context_tokens=6,
        needs=needs,
        free_bytes=free_bytes,
    )


def test_a_need_is_the_sum_of_its_parts():
    """Checking an answer comes on top of decoding it."""
    assert 16 == need("a").decoding_bytes
    assert 20 == need("a", checking_bytes=4).total_bytes


def test_the_largest_arm_counts():
    """Of equal ones the first."""
    assert "b" == prediction(need("a"), need("b", 2), need("c", 2)).largest.arm


def test_the_share_of_what_is_free():
    """Of the largest arm; unknown where nobody told what is free."""
    assert pytest.approx(0.5) == prediction(need("a", 1, 4)).share_of_free
    assert prediction(need("a"), free_bytes=None).share_of_free is None


def test_arms_are_found_by_name():
    """An arm that is not there has no need."""
    made = prediction(need("a"))

    assert need("a") == made.of("a")
    assert made.of("b") is None
