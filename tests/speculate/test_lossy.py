import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from specmeasure.errors import BrokenLogits
from specmeasure.records.plan import GREEDY, Sampling, TypicalAcceptance
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.lossy import typical_thresholds, verify_typically
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import greedy_tokens, sampling_probs
from specmeasure.speculate.tree import path_to
from specmeasure.speculate.verify import verify_greedy

RULE = TypicalAcceptance()
SAMPLED = Sampling(temperature=0.8, top_k=12)
VOCAB_SIZE, NUM_DRAFTS = 24, 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def verify(drafts: Tensor, logits: Tensor, sampling=GREEDY, rule=RULE, seed=0):
    proposal = Proposal(tokens=drafts)
    return verify_typically(proposal, logits, sampling, rule=rule, generator=generator(seed))


def random_block(seed: int) -> tuple[Tensor, Tensor]:
    """Drafts among the likelier tokens of peaked and of flat rows."""
    made = generator(seed)
    logits = torch.randn(NUM_DRAFTS + 1, VOCAB_SIZE, generator=made)
    logits *= torch.rand(NUM_DRAFTS + 1, 1, generator=made) * 6
    drafts = torch.stack(
        [row.topk(3).indices[torch.randint(3, (), generator=made)] for row in logits[:-1]]
    )
    return drafts, logits


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_kept_drafts_are_typical_and_the_first_that_is_not_ends_the_block(sampling):
    """Every kept draft passes min(ε, δ · exp(−H)), computed here in plain arithmetic."""
    kept = 0
    for seed in range(300):
        drafts, logits = random_block(seed)
        at = Sampling(temperature=1.0) if sampling.is_greedy else sampling
        rows = sampling_probs(logits, at).tolist()
        typical = []
        for row, token in zip(rows, drafts.tolist(), strict=False):
            entropy = -sum(p * math.log(p) for p in row if p > 0)
            typical.append(row[token] > min(RULE.epsilon, RULE.delta * math.exp(-entropy)))
        expected = [*typical, False].index(False)

        assert expected == verify(drafts, logits, sampling).num_accepted
        kept += expected
    assert kept > 100


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_a_target_sure_of_itself_keeps_its_own_token_only(sampling):
    """Where one token has all the chance, the threshold is ε and any other draft is rejected."""
    logits = torch.zeros(2, VOCAB_SIZE)
    logits[:, 7] = 50

    assert 1 == verify(torch.tensor([7]), logits, sampling).num_accepted
    assert (7,) == verify(torch.tensor([3]), logits, sampling).tokens


def test_a_greedy_target_adds_its_argmax():
    """After kept drafts, all or some, comes the argmax of the row behind them."""
    for seed in range(100):
        drafts, logits = random_block(seed)
        verdict = verify(drafts, logits)

        assert int(logits[verdict.num_accepted].argmax()) == verdict.next_token


def test_above_one_half_the_answer_is_the_greedy_one():
    """A draft likelier than all others together is the argmax: what is emitted is greedy's."""
    strict = TypicalAcceptance(epsilon=0.5, delta=1e9)
    for seed in range(200):
        drafts, logits = random_block(seed)
        typical = verify(drafts, logits, rule=strict)
        greedy = verify_greedy(drafts, greedy_tokens(logits))

        assert typical.num_accepted <= greedy.num_accepted
        assert typical.tokens == greedy.tokens[: len(typical.tokens)]


def test_a_threshold_near_one_keeps_nothing_uncertain():
    """ε next to 1 with δ out of the way is one target token a block."""
    strict = TypicalAcceptance(epsilon=1 - 1e-7, delta=1e9)
    drafts, logits = random_block(0)

    assert 0 == verify(drafts, logits, rule=strict).num_accepted


def test_a_lower_threshold_keeps_no_less():
    """Acceptance grows as ε falls, whatever the drafts."""
    for seed in range(50):
        drafts, logits = random_block(seed)
        kept = [
            verify(drafts, logits, rule=TypicalAcceptance(epsilon=epsilon)).num_accepted
            for epsilon in (0.5, 0.09, 0.01, 1e-6)
        ]

        assert sorted(kept) == kept


@pytest.mark.parametrize("draft", [3, 7])
def test_the_sampled_token_follows_the_target(draft):
    """After a rejection as after an acceptance it is a plain draw, no residual: χ² at 0.1 %."""
    logits = torch.zeros(2, 8)
    logits[:, 7] = 4.0
    logits[1] = torch.linspace(0, 2, 8)
    num_draws = 4000
    verdicts = [verify(torch.tensor([draft]), logits, SAMPLED, seed=s) for s in range(num_draws)]
    row = int(draft == 7)
    counts = torch.bincount(torch.tensor([v.next_token for v in verdicts]), minlength=8)
    expected = sampling_probs(logits, SAMPLED)[row].double()
    expected *= num_draws / expected.sum()

    assert {row} == {verdict.num_accepted for verdict in verdicts}
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 0.001


def test_what_top_k_leaves_out_is_never_kept():
    """A draft without a chance is below every threshold."""
    logits = torch.linspace(0, 0.1, VOCAB_SIZE).repeat(2, 1)
    tiny = TypicalAcceptance(epsilon=1e-9)

    assert 1 == verify(torch.tensor([0]), logits, Sampling(temperature=1.0), tiny).num_accepted
    assert 0 == verify(torch.tensor([0]), logits, SAMPLED, tiny).num_accepted


def test_the_drafts_own_law_plays_no_part():
    """Verdicts are the same for a point mass and for any law."""
    drafts, logits = random_block(1)
    drawn = Proposal(tokens=drafts, probs=torch.full((NUM_DRAFTS, VOCAB_SIZE), 1 / VOCAB_SIZE))
    verdict = verify_typically(drawn, logits, SAMPLED, rule=RULE, generator=generator())

    assert verify(drafts, logits, SAMPLED) == verdict


def test_no_drafts_is_plain_decoding():
    """Without drafts a block emits the target's own token."""
    nothing = torch.empty(0, dtype=torch.int64)
    _, logits = random_block(2)

    assert (int(logits[0].argmax()),) == verify(nothing, logits[:1]).tokens
    assert 1 == len(verify(nothing, logits[:1], SAMPLED).tokens)


def test_thresholds_by_hand():
    """Flat over V the threshold is δ / V, sure of one token it is ε."""
    rows = torch.stack([torch.full((100,), 0.01), torch.eye(100)[3]])

    assert pytest.approx([0.003, 0.09]) == typical_thresholds(rows, RULE).tolist()


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
@pytest.mark.parametrize("broken_row", [0, NUM_DRAFTS])
def test_nan_is_refused_where_it_would_speak(sampling, broken_row):
    """NaN in a row that decides stops the run; drafts of a broken draft model do, too."""
    logits = torch.zeros(NUM_DRAFTS + 1, VOCAB_SIZE)
    logits[:, 7] = 50
    logits[broken_row] = torch.nan
    drafts = torch.full((NUM_DRAFTS,), 7)

    with pytest.raises(BrokenLogits, match="target's"):
        verify(drafts, logits, sampling)
    with pytest.raises(BrokenLogits, match="draft's"):
        verify(drafts - 8, logits.nan_to_num(), sampling)


TREE = TokenTree.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (1, 0, 0), (2, 0), (2, 0, 0)])


def random_tree(seed: int) -> tuple[Proposal, Tensor]:
    """The likelier tokens of peaked and of flat rows, by their rank."""
    made = generator(seed)
    logits = torch.randn(TREE.num_nodes + 1, VOCAB_SIZE, generator=made)
    logits *= torch.rand(TREE.num_nodes + 1, 1, generator=made) * 6
    tokens = [
        logits[1 + parent].topk(4).indices[path[-1] + int(torch.randint(2, (), generator=made))]
        for path, parent in zip(TREE.paths, TREE.parents, strict=True)
    ]
    return Proposal(tokens=torch.stack(tokens), parents=TREE.parents), logits


def typical_nodes(proposal: Proposal, logits: Tensor, sampling: Sampling) -> list[bool]:
    """Whether the target finds each node typical after its parent, in plain arithmetic."""
    at = Sampling(temperature=1.0) if sampling.is_greedy else sampling
    rows = sampling_probs(logits, at).tolist()
    found = []
    for token, parent in zip(proposal.tokens.tolist(), TREE.parents, strict=True):
        row = rows[1 + parent]
        entropy = -sum(p * math.log(p) for p in row if p > 0)
        found.append(row[token] > min(RULE.epsilon, RULE.delta * math.exp(-entropy)))
    return found


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=str)
def test_the_longest_typical_path_of_a_tree_is_kept(sampling):
    """Of equally long ones the one that is tried first; then the target's own token."""
    lengths = set()
    for seed in range(200):
        proposal, logits = random_tree(seed)
        typical = typical_nodes(proposal, logits, sampling)
        whole = [
            path_to(node, TREE.parents)
            for node in range(TREE.num_nodes)
            if all(typical[one] for one in path_to(node, TREE.parents))
        ]
        longest = max(map(len, whole), default=0)
        expected = next((path for path in whole if len(path) == longest), ())

        verdict = verify_typically(proposal, logits, sampling, rule=RULE, generator=generator(seed))

        assert expected == verdict.path
        assert longest == verdict.num_accepted
        if sampling.is_greedy:
            assert int(logits[1 + (-1, *expected)[-1]].argmax()) == verdict.next_token
        lengths.add(longest)
    assert {0, 1, 2, 3} == lengths


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=str)
def test_a_tree_of_chain_shape_is_the_chain(sampling):
    """The same drafts are kept, and the same token is drawn behind them."""
    for seed in range(50):
        drafts, logits = random_block(seed)
        tree = Proposal(tokens=drafts, parents=tuple(range(-1, NUM_DRAFTS - 1)))
        verdict = verify_typically(tree, logits, sampling, rule=RULE, generator=generator(seed))

        assert verify(drafts, logits, sampling, seed=seed).tokens == verdict.tokens


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=str)
def test_nan_in_a_tree_is_refused(sampling):
    """In the row that speaks, and as the mark of a broken draft."""
    logits = torch.zeros(3, VOCAB_SIZE)
    logits[:, 7] = 50
    for row in (0, 2):
        tree = Proposal(tokens=torch.tensor([3, 7]), parents=(-1, -1))
        broken = logits.index_fill(0, torch.tensor([row]), torch.nan)
        with pytest.raises(BrokenLogits, match="target's"):
            verify_typically(tree, broken, sampling, rule=RULE, generator=generator())
    tree = Proposal(tokens=torch.tensor([-1, 7]), parents=(-1, -1))
    with pytest.raises(BrokenLogits, match="draft's"):
        verify_typically(tree, logits, sampling, rule=RULE, generator=generator())
