"""The recurrence against walks, enumeration, simulation, and the real loop and sampler."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.estimate import replay
from specmeasure.estimate.acceptance import AcceptanceCounts, acceptance_survival, count_acceptance
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.replay import count_replay, find_blocks
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.medusa import MedusaHeads, MedusaProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.speculate.sampling import sampling_probs
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table
from tests.estimate.replays import draft_scores, head_scores, lookup_scores, make_answer
from tests.fakes import make_block, make_trial

MOST = 6
CPU = torch.device("cpu")
PROMPT = [0, 1, 2, 0, 1]


def walk(num_tokens, num_drafts_at, num_right_at):
    """What the loop records of an answer: blocks of drafts, the first wrong one, the end."""
    place, blocks = 1, []
    while place < num_tokens:
        num_drafts = num_drafts_at(place)
        num_right = min(num_drafts, num_right_at(place))
        num_emitted = min(num_right + 1, num_tokens - place)  # up to EOS
        num_kept = min(num_right, num_emitted)
        blocks.append(make_block(num_drafts, num_kept, truncated=num_kept == num_emitted))
        place += num_emitted
    return make_trial("p0", *blocks)


def walk_hits(hits, answer, k):
    """A chain of drafts that are right where ``hits`` says so, and always behind the end."""
    budget = answer.max_new_tokens or 10**6

    def num_right_at(place):
        ahead = [*hits[place : place + k], *[True] * k]
        return next(i for i in range(k + 1) if i == k or not ahead[i])

    return walk(answer.num_tokens, lambda place: min(k, budget - place - 1), num_right_at)


def walk_heads(hits, answer, k):
    """Heads [T, H] that are right where ``hits`` says so of the block's start; behind the end too.

    ``k`` may be more than there are heads.
    """
    budget, length, most = answer.max_new_tokens or 10**6, answer.num_tokens, min(k, hits.shape[1])

    def num_right_at(place):
        right = [place + i >= length or hits[place, i] for i in range(most)]
        return next(i for i in range(most + 1) if i == most or not right[i])

    return walk(length, lambda place: min(most, budget - place - 1), num_right_at)


def fields(counts: AcceptanceCounts):
    """All counts of the first prompt in a row."""
    return np.concatenate([np.ravel(getattr(counts, name)[0]) for name in counts.__slots__])


answers = st.integers(1, 24).flatmap(
    lambda num_tokens: st.builds(
        lambda spare: make_answer(
            num_tokens=num_tokens, budget=None if spare is None else num_tokens + spare
        ),
        st.one_of(st.none(), st.integers(0, 9)),
    )
)


@given(answers, st.integers(1, MOST), st.integers(0, 2**30))
def test_a_greedy_chain_is_the_loops_own_walk(answer, k, seed):
    """Drafts that are right or wrong: every count equals the walk's, whatever ends the answer."""
    hits = np.random.default_rng(seed).random(answer.num_tokens) < 0.6

    counts = count_replay([answer], [draft_scores(hits)], MOST)

    expected = count_acceptance([[walk_hits(hits.tolist(), answer, k)]], k)
    assert fields(expected) == pytest.approx(fields(counts.at(k)), abs=1e-12)


@given(answers, st.integers(1, MOST), st.integers(0, 2**30))
def test_a_lookup_is_the_loops_own_walk(answer, k, seed):
    """The same of lookups, whose later drafts depend on where the block started."""
    rng = np.random.default_rng(seed)
    n, budget = answer.num_tokens, answer.max_new_tokens or 10**6
    found = rng.integers(0, MOST + 1, size=n)
    right = np.minimum(rng.geometric(0.3, size=n) - 1, found)

    counts = count_replay([answer], [lookup_scores(found.tolist(), right.tolist())], MOST)

    trial = walk(n, lambda t: min(k, int(found[t]), budget - t - 1), lambda t: int(right[t]))
    expected = count_acceptance([[trial]], k)
    assert fields(expected) == pytest.approx(fields(counts.at(k)), abs=1e-12)


@given(answers, st.integers(1, MOST), st.integers(1, MOST), st.integers(0, 2**30))
def test_greedy_heads_are_the_loops_own_walk(answer, k, num_heads, seed):
    """Heads that are right or wrong by where the block starts; K beyond them drafts no more."""
    hits = np.random.default_rng(seed).random((answer.num_tokens, num_heads)) < 0.6

    counts = count_replay([answer], [head_scores(hits)], MOST)

    expected = count_acceptance([[walk_heads(hits, answer, k)]], k)
    assert fields(expected) == pytest.approx(fields(counts.at(k)), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(2, 6),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(0, 3)),
    st.integers(1, 3),
    st.integers(0, 2**30),
)
def test_heads_chances_are_all_walks_weighted(length, num_heads, spare, k, seed):
    """Every count is its expectation over the outcomes of a coin for each start and head."""
    answer = make_answer(num_tokens=length, budget=None if spare is None else length + spare)
    chances = np.random.default_rng(seed).random((length, num_heads)).astype(np.float32)
    coins = [(t, h) for t in range(1, length) for h in range(num_heads) if t + h < length]
    expected = 0.0
    for outcome in product([False, True], repeat=len(coins)):
        hits = np.zeros((length, num_heads), dtype=bool)
        hits[tuple(np.transpose(coins))] = outcome
        own = [chances[place] if hits[place] else 1 - chances[place] for place in coins]
        expected += math.prod(own) * fields(count_acceptance([[walk_heads(hits, answer, k)]], k))

    counts = count_replay([answer], [head_scores(chances)], 3)

    assert np.asarray(expected) == pytest.approx(fields(counts.at(k)), abs=1e-6)


@given(answers, st.integers(0, 2**30))
def test_heads_that_know_the_answer_as_a_chain_does_count_as_one(answer, seed):
    """Chances that do not depend on the block's start: the recurrence of chains."""
    chances = np.random.default_rng(seed).random(answer.num_tokens)
    places = np.add.outer(np.arange(len(chances)), np.arange(MOST))
    by_start = np.append(chances, np.zeros(MOST))[places]

    of_heads = count_replay([answer], [head_scores(by_start)], MOST)

    of_chain = count_replay([answer], [draft_scores(chances)], MOST)
    for k in range(1, MOST + 1):
        assert fields(of_chain.at(k)) == pytest.approx(fields(of_heads.at(k)), abs=1e-9)


def test_heads_of_answers_of_all_lengths_are_counted_apart():
    """Answers that are padded to one length keep their own starts and counts."""
    rng = np.random.default_rng(4)
    paths = [make_answer(f"p{i}", num_tokens=n, budget=40) for i, n in enumerate([7, 40, 1, 2])]
    scores = [head_scores(rng.random((path.num_tokens, 3))) for path in paths]

    together = count_replay(paths, scores, 3).at(3)

    for name in AcceptanceCounts.__slots__:
        alone = [
            getattr(count_replay([p], [s], 3).at(3), name)[0]
            for p, s in zip(paths, scores, strict=True)
        ]
        assert np.array(alone) == pytest.approx(getattr(together, name))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8),
    st.one_of(st.none(), st.integers(0, 3)),
    st.integers(1, 4),
)
def test_chances_are_all_walks_weighted(chances, spare, k):
    """Fractional chances: every count is its expectation over all outcomes of all coins."""
    n = len(chances)
    answer = make_answer(num_tokens=n, budget=None if spare is None else n + spare)
    expected = 0.0
    for later in product([False, True], repeat=n - 1):
        hits = [False, *later]
        weight = math.prod(a if hit else 1 - a for a, hit in zip(chances[1:], later, strict=True))
        expected += weight * fields(count_acceptance([[walk_hits(hits, answer, k)]], k))

    counts = count_replay([answer], [draft_scores(chances)], 4)

    assert np.asarray(expected) == pytest.approx(fields(counts.at(k)), abs=1e-9)


def test_the_collapsed_recurrence_is_the_designs():
    """s_{t+1} from one product equals the sums over where the last block began."""
    chances = np.random.default_rng(3).random(40).astype(np.float32)
    blocks = next(find_blocks([make_answer(num_tokens=40)], [draft_scores(chances)], MOST))
    for k in range(1, MOST + 1):
        starts = np.zeros(40 + MOST + 2)
        starts[1] = 1
        for t in range(1, 40):
            ahead = np.append(chances[t : t + k], np.zeros(k))[:k]
            kept = np.append(1, np.cumprod(ahead))
            starts[t + 1 : t + 1 + k] += starts[t] * kept[:-1] * (1 - ahead)
            starts[t + 1 + k] += starts[t] * kept[-1]

        assert starts[:40] == pytest.approx(blocks.starts[0, :, k - 1], abs=1e-12)


@pytest.mark.parametrize("k", [1, 4])
def test_simulated_walks_average_to_the_expectation(k):
    """3000 walks with drawn coins, within 4 standard errors of passes, drafts and kept drafts."""
    rng = np.random.default_rng(k)
    chances, answer = rng.beta(3, 1, size=60), make_answer(num_tokens=60, budget=70)
    coins = rng.random((3000, 60)) < chances
    seen = np.array(
        [fields(count_acceptance([[walk_hits(row.tolist(), answer, k)]], k)) for row in coins]
    )

    found = fields(count_replay([answer], [draft_scores(chances)], k).at(k))

    errors = seen.std(axis=0) / math.sqrt(len(seen))
    assert (np.abs(seen.mean(axis=0) - found) <= 4 * errors + 1e-9).all()


def test_a_perfect_draft_needs_the_fewest_passes():
    """The prefill, then K + 1 tokens a pass."""
    answer = make_answer(num_tokens=30, budget=30)

    counts = count_replay([answer], [draft_scores(np.ones(30))], MOST)

    fewest = [1 + math.ceil(29 / (k + 1)) for k in range(1, MOST + 1)]
    assert fewest == counts.num_passes[0].tolist()


def test_a_hopeless_draft_saves_no_pass():
    """One token a pass, nothing kept, and all drafts that the budget leaves room for."""
    answer = make_answer(num_tokens=9, budget=9)

    counts = count_replay([answer], [draft_scores(np.zeros(9))], 3).at(3)

    assert (9, 0) == (counts.num_passes[0], counts.num_accepted[0])
    assert 3 * 5 + 2 + 1 == counts.num_drafted[0]
    assert 7 == counts.num_drafted_blocks[0]


def test_a_budget_cuts_no_block():
    """Emitted = accepted + passes where nothing is truncated; τ − 1 is K = 1's one survival."""
    chances = np.random.default_rng(0).random((6, 40))
    paths = [make_answer(f"p{i}", num_tokens=40, budget=40) for i in range(6)]

    counts = count_replay(paths, [draft_scores(row) for row in chances], MOST)

    assert counts.num_emitted == pytest.approx(counts.num_accepted + counts.num_passes)
    (survival,) = acceptance_survival(counts.at(1), Intervals())
    of_blocks = counts.at(1).num_accepted.sum() / counts.at(1).num_drafted_blocks.sum()
    assert of_blocks == pytest.approx(survival.value)


def test_survival_sums_to_tau_less_one():
    """Σ survival = τ − 1 where no block is cut: the last tokens are all the target's own."""
    chances = np.random.default_rng(1).random((6, 40))
    chances[:, -MOST:] = 0
    paths = [make_answer(f"p{i}", num_tokens=40) for i in range(6)]

    counts = count_replay(paths, [draft_scores(row) for row in chances], MOST).at(4)

    survival = sum(one.value for one in acceptance_survival(counts, Intervals()))
    per_block = counts.num_accepted.sum() / counts.num_drafted_blocks.sum()
    assert per_block == pytest.approx(survival)


def test_batches_change_nothing(monkeypatch):
    """Answers of all lengths, counted in small batches, stand at their own places."""
    rng = np.random.default_rng(5)
    paths = [make_answer(f"p{i}", num_tokens=n, budget=50) for i, n in enumerate([7, 50, 1, 30, 2])]
    scores = [draft_scores(rng.random(path.num_tokens)) for path in paths]
    alone = [count_replay([p], [s], 3).at(3) for p, s in zip(paths, scores, strict=True)]
    monkeypatch.setattr(replay, "_MOST_CELLS", 200)

    together = count_replay(paths, scores, 3).at(3)

    for name in AcceptanceCounts.__slots__:
        apart = [getattr(one, name)[0] for one in alone]
        assert np.array(apart) == pytest.approx(getattr(together, name))


def test_turns_of_a_prompt_are_summed():
    """The unit of statistics is the prompt."""
    paths = [make_answer("p0", num_tokens=9, turn=turn) for turn in (0, 1)]
    paths.append(make_answer("p1", num_tokens=5))
    scores = [draft_scores(np.full(path.num_tokens, 0.5)) for path in paths]

    counts = count_replay(paths, scores, 2).by_prompt(np.array([0, 0, 1]))

    assert [18, 5] == counts.num_emitted[:, 0].tolist()
    assert (2, 2, 2) == counts.num_reached.shape


class StatedTable(TableModel):
    """A table whose state for a token is the token itself, one place of V."""

    @property
    def last_state(self):
        return torch.eye(len(self.logits))[self.read[-1]]


def table_heads(tables):
    """Heads whose logits are these tables' [H, V, V], by the token before the block's last one."""
    num_heads, size, _ = tables.shape
    heads = MedusaHeads(hidden_size=size, vocab_size=size, num_heads=num_heads, num_layers=0)
    for matrix, table in zip(heads.lm_heads, tables, strict=True):
        matrix.weight.data = table.T.clone()
    return heads


def seen_by_heads(chances, ids, target_probs=None):
    """Scores of an answer: chances [H, V, V] of a token by the one that the state stands for."""
    whole, size = [PROMPT[-1], *ids], len(chances)
    found = np.zeros((len(ids), size))
    for start in range(1, len(ids)):
        for head in range(min(size, len(ids) - start)):
            token, before = ids[start + head], whole[start + head]
            found[start, head] = chances[head][whole[start - 1], token]
            if target_probs is not None:
                found[start, head] = min(1, found[start, head] / target_probs[before, token])
    return head_scores(found)


def decode(target, proposer, *, sampling, seed, stopping):
    source = torch.Generator().manual_seed(seed)
    table = StatedTable(target)
    decoder = Decoder(
        target=table,
        sampling=sampling,
        generator=source,
        clock=FakeClock(),
        device=CPU,
    )
    made = proposer(source, table) if proposer else None
    return decoder.decode(made, PROMPT, stopping)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 5), st.integers(2, 30), st.sets(st.integers(0, 29)))
def test_the_real_loop_at_temperature_0(seed, k, budget, eos_ids):
    """Draft model and n-gram lookup through the real loop: every count, from one greedy answer."""
    target = random_table(30, seed)
    draft = target + random_table(30, seed + 1, spread=0.7)
    stopping = Stopping(
        max_new_tokens=budget, eos_ids=frozenset(list(eos_ids)[:2]), num_speculative_tokens=k
    )
    ids = decode(target, None, sampling=GREEDY, seed=0, stopping=stopping).token_ids
    answer = make_answer(num_tokens=len(ids), budget=budget)
    hits = draft.argmax(dim=1)[[PROMPT[-1], *ids[:-1]]] == torch.tensor(ids)
    lookup = NgramProposer(max_ngram=3, min_ngram=1, device=CPU)

    def drafting(source, _):
        return DraftModelProposer(TableModel(draft), GREEDY, generator=source, device=CPU)

    for proposer, scores in (
        (drafting, draft_scores(hits)),
        (lambda *_: lookup, looked_up(lookup, ids)),
    ):
        seen = decode(target, proposer, sampling=GREEDY, seed=0, stopping=stopping)
        trial = make_trial("p0", blocks=seen.blocks, num_emitted_tokens=len(ids))

        assert seen.token_ids == ids
        assert fields(count_acceptance([[trial]], k)) == pytest.approx(
            fields(count_replay([answer], [scores], 5).at(k)), abs=1e-12
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 3), st.integers(2, 30), st.sets(st.integers(0, 11)))
def test_heads_in_the_real_loop_at_temperature_0(seed, k, budget, eos_ids):
    """Medusa heads through the real loop: every count, from one greedy answer."""
    target = random_table(12, seed)
    stopping = Stopping(
        max_new_tokens=budget, eos_ids=frozenset(list(eos_ids)[:1]), num_speculative_tokens=k
    )
    ids = decode(target, None, sampling=GREEDY, seed=0, stopping=stopping).token_ids
    place, following = torch.arange(12), []
    for _ in range(3):  # heads that follow the target's own argmax, now and then another token
        place = target.argmax(dim=1)[place]
        following.append(target[place])
    noise = torch.stack([random_table(12, seed + 1 + head) for head in range(3)])
    tables = torch.stack(following) + 0.7 * noise
    hits = torch.nn.functional.one_hot(tables.argmax(dim=2), 12).numpy()
    answer = make_answer(num_tokens=len(ids), budget=budget)

    def proposer(source, table):
        return MedusaProposer(table_heads(tables), table, GREEDY, generator=source)

    seen = decode(target, proposer, sampling=GREEDY, seed=0, stopping=stopping)
    trial = make_trial("p0", blocks=seen.blocks, num_emitted_tokens=len(ids))
    counts = count_replay([answer], [seen_by_heads(hits, ids)], 3)

    assert seen.token_ids == ids
    assert fields(count_acceptance([[trial]], k)) == pytest.approx(fields(counts.at(k)), abs=1e-12)


def looked_up(lookup, ids):
    """What the lookup would draft at every token of an answer, up to 5."""
    num_drafts, num_matching = [0], [0]
    for place in range(1, len(ids)):
        lookup.begin([*PROMPT, *ids[:place]])
        drafts, coming = lookup.propose(5).tokens.tolist(), ids[place:]
        same = [a == b for a, b in zip(drafts, coming, strict=False)]
        num_drafts.append(len(drafts))
        num_matching.append(next((i for i, one in enumerate(same) if not one), len(same)))
    return lookup_scores(num_drafts, num_matching)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_real_sampler_at_temperature_1(k):
    """All counts of 500 sampled answers, and those expected of 500 others by the target alone.

    Within 4 standard errors of the difference of both means.
    """
    sampling = Sampling(temperature=1.0)
    stopping = Stopping(max_new_tokens=24, eos_ids=frozenset([5]), num_speculative_tokens=k)
    table, draft = random_table(6, 1), random_table(6, 1) + random_table(6, 2, spread=1.0)
    probs = [sampling_probs(one, sampling).numpy() for one in (table, draft)]
    chance = np.minimum(1, probs[1] / probs[0])

    def proposer(source, _):
        return DraftModelProposer(TableModel(draft), sampling, generator=source, device=CPU)

    def score(path):
        return draft_scores(chance[[PROMPT[-1], *path[:-1]], path])

    assert_expected(table, proposer, score, sampling=sampling, stopping=stopping)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_the_real_sampler_with_heads(k):
    """The same of heads, whose drafts know nothing of the tokens between the state and theirs."""
    sampling = Sampling(temperature=1.0)
    stopping = Stopping(max_new_tokens=24, eos_ids=frozenset([5]), num_speculative_tokens=k)
    table = random_table(6, 1)
    tables = torch.stack([0.5 * random_table(6, 7 + head) for head in range(3)])
    laws = [sampling_probs(one, sampling).numpy() for one in (table, *tables)]

    def proposer(source, target):
        return MedusaProposer(table_heads(tables), target, sampling, generator=source)

    def score(path):
        return seen_by_heads(laws[1:], path, laws[0])

    assert_expected(table, proposer, score, sampling=sampling, stopping=stopping)


def assert_expected(table, proposer, score, *, sampling, stopping):
    """Counts of sampled answers, and those expected of others, within 4 standard errors."""
    real, expected, num_answers = [], [], 500
    k, budget = stopping.num_speculative_tokens, stopping.max_new_tokens
    for seed in range(num_answers):
        seen = decode(table, proposer, sampling=sampling, seed=seed, stopping=stopping)
        trial = make_trial("p0", blocks=seen.blocks, num_emitted_tokens=len(seen.token_ids))
        real.append(fields(count_acceptance([[trial]], k)))
        path = decode(
            table, None, sampling=sampling, seed=10**6 + seed, stopping=stopping
        ).token_ids
        answer = make_answer(num_tokens=len(path), budget=budget)
        expected.append(fields(count_replay([answer], [score(path)], k).at(k)))

    variances = np.var(real, axis=0) + np.var(expected, axis=0)
    apart = np.mean(real, axis=0) - np.mean(expected, axis=0)
    assert (np.abs(apart) <= 4 * np.sqrt(variances / num_answers)).all()
