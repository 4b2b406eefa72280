import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.records.plan import Sampling
from specmeasure.speculate.sampling import draw, greedy_tokens, sampling_probs


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0.2, 3.0),
    st.none() | st.integers(1, 12),
    st.none() | st.floats(0.05, 1.0),
)
def test_agrees_with_transformers_warpers(seed, temperature, top_k, top_p):
    """Temperature, top-k and top-p mean what transformers makes of them."""
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(seed))
    expected = transformers.TemperatureLogitsWarper(temperature)(None, logits.clone())
    if top_k is not None:
        expected = transformers.TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None and top_p < 1:
        expected = transformers.TopPLogitsWarper(top_p)(None, expected)
    found = sampling_probs(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))

    assert torch.allclose(expected.softmax(-1), found, atol=1e-6)


def test_tiny_top_p_keeps_the_likeliest_token():
    """The kept set is never empty."""
    probs = sampling_probs(torch.tensor([[1.0, 3.0, 2.0]]), Sampling(temperature=1, top_p=1e-6))

    assert [0.0, 1.0, 0.0] == probs[0].tolist()


def test_draw_follows_the_weights():
    """20,000 draws; frequencies within four standard errors (0.014) of the normalised weights."""
    weights = torch.tensor([[1.0, 0.0, 3.0, 4.0]]).expand(20_000, -1)
    drawn = draw(weights, generator=torch.Generator().manual_seed(1))
    found = torch.bincount(drawn, minlength=4) / 20_000

    assert 0.0 == found[1]
    assert torch.allclose(torch.tensor([0.125, 0.0, 0.375, 0.5]), found, atol=0.014)


def test_greedy_tokens_mark_broken_rows():
    """A row with NaN yields no token."""
    logits = torch.tensor([[0.0, 2.0], [float("nan"), 5.0]])

    assert [1, -1] == greedy_tokens(logits).tolist()


def test_sampling_settings_out_of_range_are_refused():
    """A record cannot hold settings that mean nothing."""
    for wrong in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Sampling(**wrong)
