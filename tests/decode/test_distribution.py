"""The law that matters: sampled output has the target's distribution, and a broken verifier fails.

All sequences of four tokens over a three-token vocabulary (81 cells), 200,000 samples per case.
Power: at alpha = 1e-3 a verifier that accepts 2 % too often, or redraws from the target instead of
the residual, moves the cells far enough to be caught (asserted below, same test, same size).
"""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context

import pytest
import torch
from scipy import stats
from torch import Tensor

from specmeasure.decode.loop import Decoder, Verify
from specmeasure.decode.stopping import Stopping
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.plan import DraftSampling, Sampling
from specmeasure.speculate.proposal import Proposal, Proposer
from specmeasure.speculate.sampling import draw, sampling_probs
from specmeasure.speculate.verify import Verdict, verify_rejection, verify_strictly
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table

VOCAB, LENGTH, NUM_SAMPLES, ALPHA = 3, 4, 200_000, 1e-3
CPU = torch.device("cpu")
PROMPT = [0, 1, 2, 0, 1, 0]  # repeats itself, so that n-gram lookup has something to say
TARGET, DRAFT = random_table(VOCAB, 1), random_table(VOCAB, 2, spread=1.0)
Sequence = tuple[int, ...]
PLAIN, NUCLEUS = Sampling(temperature=1.0), Sampling(temperature=0.8, top_p=0.85)


def exact_law(sampling: Sampling) -> dict[Sequence, float]:
    """Probability of every sequence under the target's own warped distribution."""
    step = sampling_probs(TARGET, sampling).double()
    law = {}
    for sequence in product(range(VOCAB), repeat=LENGTH):
        chance, last = 1.0, PROMPT[-1]
        for token in sequence:
            chance *= float(step[last, token])
            last = token
        law[sequence] = chance
    return law


def sampled(sampling: Sampling, method: str, verify: Verify) -> Counter[Sequence]:
    """Count what the real loop emits; two processes share the work, each with its own seed."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        halves = [pool.submit(sampled_half, sampling, method, verify, seed) for seed in (11, 12)]
        return sum((half.result() for half in halves), Counter())


def sampled_half(sampling: Sampling, method: str, verify: Verify, seed: int) -> Counter[Sequence]:
    torch.set_num_threads(1)
    source = torch.Generator().manual_seed(seed)
    decoder = Decoder(
        target=TableModel(TARGET),
        sampling=sampling,
        generator=source,
        clock=FakeClock(),
        device=CPU,
        verify=verify,
    )
    proposer: Proposer = (
        NgramProposer(max_ngram=2, min_ngram=1, device=CPU)
        if method == "ngram"
        else DraftModelProposer(
            TableModel(DRAFT),
            sampling,
            draft_sampling=(
                DraftSampling.GREEDY if method == "greedy draft" else DraftSampling.PROBABILISTIC
            ),
            generator=source,
            device=CPU,
        )
    )
    stopping = Stopping(max_new_tokens=LENGTH, eos_ids=frozenset(), num_speculative_tokens=3)
    return Counter(
        decoder.decode(proposer, PROMPT, stopping).token_ids for _ in range(NUM_SAMPLES // 2)
    )


def p_value(counts: Counter[Sequence], law: dict[Sequence, float]) -> float:
    """Chi-square over the cells that can occur; a sample outside them has p = 0."""
    possible = {cell: chance for cell, chance in law.items() if chance > 0}
    if set(counts) - set(possible):
        return 0.0
    observed = [counts[cell] for cell in possible]
    expected = [chance * NUM_SAMPLES for chance in possible.values()]
    scale = sum(observed) / sum(expected)
    return float(stats.chisquare(observed, [one * scale for one in expected]).pvalue)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sampling"),
    [
        ("draft", PLAIN),
        ("draft", NUCLEUS),
        ("greedy draft", NUCLEUS),
        ("ngram", PLAIN),
        ("ngram", NUCLEUS),
    ],
    ids=str,
)
def test_emitted_sequences_follow_the_target(method: str, sampling: Sampling):
    """Joint law of four tokens, through the real loop, proposer and verifier."""
    assert ALPHA < p_value(sampled(sampling, method, verify_strictly), exact_law(sampling))


def accepts_too_much(
    proposal: Proposal, logits: Tensor, sampling: Sampling, *, generator: torch.Generator
) -> Verdict:
    """Keeps a rejected first draft in 2 % of the cases."""
    verdict = verify_strictly(proposal, logits, sampling, generator=generator)
    rejected_at_once = proposal.num_tokens > 0 and verdict.num_accepted == 0
    if rejected_at_once and float(torch.rand(1, generator=generator)) < 0.02:
        next_probs = sampling_probs(logits[1:2], sampling)
        token = int(draw(next_probs, generator=generator))
        return replace(verdict, num_accepted=1, next_token=token)
    return verdict


def redraws_from_the_target(
    proposal: Proposal, logits: Tensor, sampling: Sampling, *, generator: torch.Generator
) -> Verdict:
    """Forgets to subtract the draft's law after a rejection."""
    target_probs = sampling_probs(logits, sampling)
    verdict = verify_rejection(proposal.tokens, proposal.probs, target_probs, generator=generator)
    if verdict.num_accepted == proposal.num_tokens:
        return verdict
    row = target_probs[verdict.num_accepted][None]
    return replace(verdict, next_token=int(draw(row, generator=generator)))


@pytest.mark.slow
@pytest.mark.parametrize("broken", [accepts_too_much, redraws_from_the_target])
def test_a_broken_verifier_is_caught(broken: Verify):
    """The same test at the same size sees both planted faults."""
    assert ALPHA > p_value(sampled(PLAIN, "draft", broken), exact_law(PLAIN))
