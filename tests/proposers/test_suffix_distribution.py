"""Sampled output with suffix lookup has the target's distribution: 20,000 samples, by chi-square.

All pairs of tokens over a three-token vocabulary. Every context has one proposal, since
lookup knows no chance: it is asked for once, and the real verifier decides each sample.
"""

from collections import Counter
from itertools import product

import pytest
import torch
from scipy import stats

from specmeasure.proposers.past_answers import PastAnswer, PastAnswers
from specmeasure.proposers.suffix import SuffixProposer
from specmeasure.records.plan import Sampling
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import sampling_probs
from specmeasure.speculate.verify import verify_strictly
from tests.decode.table_model import random_table

VOCAB, LENGTH, NUM_SAMPLES, ALPHA = 3, 2, 20_000, 1e-3
SAMPLING = Sampling(temperature=0.8)
PROMPT = (0, 1, 2, 0, 1, 2, 0, 1)
TARGET = random_table(VOCAB, 1)
PAST = PastAnswers(
    [PastAnswer(opening_ids=(2,), token_ids=ids) for ids in [(2, 1, 1, 0, 2), (0, 0, 2, 1)]]
)
Tokens = tuple[int, ...]


def exact_law() -> dict[Tokens, float]:
    """Chance of every pair under the target's own distribution at this temperature."""
    step = sampling_probs(TARGET, SAMPLING).double()
    law = {}
    for tokens in product(range(VOCAB), repeat=LENGTH):
        chance, last = 1.0, PROMPT[-1]
        for token in tokens:
            chance *= float(step[last, token])
            last = token
        law[tokens] = chance
    return law


def proposed(emitted: Tokens) -> Proposal:
    """What the proposer drafts after these tokens."""
    one = SuffixProposer(past=PAST, device=torch.device("cpu"))
    one.begin(PROMPT)
    for token in emitted:
        one.commit(0, token)
    return one.propose(LENGTH - len(emitted))


def sampled() -> tuple[Counter[Tokens], Counter[int]]:
    """Sequences that blocks add up to, and how many drafts their blocks had."""
    generator = torch.Generator().manual_seed(5)
    blocks: dict[Tokens, tuple[Proposal, torch.Tensor]] = {}
    counts, sizes = Counter[Tokens](), Counter[int]()
    with torch.inference_mode():
        for _ in range(NUM_SAMPLES):
            emitted: Tokens = ()
            while len(emitted) < LENGTH:
                if emitted not in blocks:
                    proposal = proposed(emitted)
                    rows = [(*PROMPT, *emitted)[-1], *proposal.tokens.tolist()]
                    blocks[emitted] = proposal, TARGET[rows]
                proposal, logits = blocks[emitted]
                verdict = verify_strictly(proposal, logits, SAMPLING, generator=generator)
                sizes[proposal.num_tokens] += 1
                emitted += verdict.tokens
            counts[emitted[:LENGTH]] += 1
    return counts, sizes


@pytest.mark.slow
def test_emitted_pairs_follow_the_target():
    """Joint law of two tokens; most blocks had drafts, of the context or of the past."""
    counts, sizes = sampled()
    law = exact_law()
    scale = NUM_SAMPLES / sum(law.values())
    found = stats.chisquare(
        [counts[pair] for pair in law], [scale * chance for chance in law.values()]
    )

    assert sizes[0] < sum(sizes.values()) / 2
    assert ALPHA < found.pvalue
