"""The law that matters: sampled output has the target's distribution, and a broken verifier fails.

All sequences of four tokens over a three-token vocabulary (81 cells), 50,000 samples per case, by
chi-square; and, since a fault that keeps too many drafts moves every cell only a little, by how far
the first judged token leans towards the draft's law.
Power: a verifier that keeps 2 % of rejected first drafts moves that lean by 4.7 standard errors, so
at alpha = 1e-3 it is caught 95 times in 100; one that redraws from the target instead of the
residual moves the cells far more (both asserted below, same tests, same size).
"""

from collections import Counter
from dataclasses import replace
from itertools import product

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
from specmeasure.speculate.verdict import Verdict
from specmeasure.speculate.verify import verify_rejection, verify_strictly
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table

VOCAB, LENGTH, NUM_SAMPLES, ALPHA = 3, 4, 50_000, 1e-3
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
    """Count what the real loop emits."""
    source = torch.Generator().manual_seed(11)
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
    return Counter(decoder.decode(proposer, PROMPT, stopping).token_ids for _ in range(NUM_SAMPLES))


def p_value(counts: Counter[Sequence], sampling: Sampling) -> float:
    """The smaller of both tests', corrected for their number."""
    return 2 * min(p_of_cells(counts, exact_law(sampling)), p_of_lean(counts, sampling))


def p_of_cells(counts: Counter[Sequence], law: dict[Sequence, float]) -> float:
    """Chi-square over the cells that can occur; a sample outside them has p = 0."""
    possible = {cell: chance for cell, chance in law.items() if chance > 0}
    if set(counts) - set(possible):
        return 0.0
    observed = [counts[cell] for cell in possible]
    expected = [chance * NUM_SAMPLES for chance in possible.values()]
    scale = sum(observed) / sum(expected)
    return float(stats.chisquare(observed, [one * scale for one in expected]).pvalue)


def p_of_lean(counts: Counter[Sequence], sampling: Sampling) -> float:
    """The second token's draft_probs / target_probs, given the first, against its mean of 1."""
    target, draft = (sampling_probs(one, sampling).double() for one in (TARGET, DRAFT))
    ratio = draft / target.where(target > 0, 1.0)  # of what can be emitted
    mean = (target * ratio).sum(-1)
    variance = (target * ratio.square()).sum(-1) - mean.square()
    excess = sum(n * float(ratio[a, b] - mean[a]) for (a, b, *_), n in counts.items())
    spread = sum(n * float(variance[a]) for (a, *_), n in counts.items()) ** 0.5
    return float(2 * stats.norm.sf(abs(excess) / spread))


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
    assert ALPHA < p_value(sampled(sampling, method, verify_strictly), sampling)


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
    """The same tests at the same size see both planted faults."""
    assert ALPHA > p_value(sampled(PLAIN, "draft", broken), PLAIN)
