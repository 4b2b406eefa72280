"""One rate for all tokens, how far neighbours are alike, and the parts where drafts fail."""

import numpy as np
import pytest

from specmeasure.estimate.disagreement import find_disagreement, geometric_length, judge
from specmeasure.estimate.intervals import Intervals
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.replay import TOKEN_CLASSES, TokenClass
from tests.estimate.replays import draft_scores, head_scores, lookup_scores, target_scores

INTERVALS = Intervals()
WORDS, DIGITS = (TOKEN_CLASSES.index(one) for one in (TokenClass.WORD, TokenClass.DIGITS))


def judged(rows, *, prompts=None, entropy=0.3, token_class=WORDS):
    """Draft models' chances, answer by answer, after a first token that is nobody's."""
    scores = [draft_scores([0.5, *row]) for row in rows]
    target = [
        target_scores(np.full(len(row) + 1, entropy), [token_class] * (len(row) + 1))
        for row in rows
    ]
    return judge(scores, target, np.arange(len(rows)) if prompts is None else np.array(prompts))


def test_the_first_token_is_nobodys():
    """The prefill emits it; its score is not looked at."""
    one = judged([[1.0, 0.0], [1.0]])

    assert [1, 0, 1] == one.chance.tolist()
    assert [1, 2, 1] == one.place.tolist()
    assert [0, 0, 1] == one.prompt.tolist()


def test_heads_are_judged_by_the_first_of_them():
    """Its draft for every token after the first, whatever the later heads say."""
    scores = [head_scores([[0.9, 0.1], [0.25, 1.0], [0.75, 1.0]]), head_scores([[0.9], [0.5]])]
    target = [target_scores([0.3] * length, [WORDS] * length) for length in (3, 2)]

    one = judge(scores, target, np.array([0, 1]))

    assert [0.25, 0.75, 0.5] == one.chance.tolist()
    assert one.has_draft.all()
    assert 1.5 == geometric_length(one, 1)


@pytest.mark.parametrize(
    ("rate", "k", "expected"), [(0.5, 2, 1.75), (1.0, 3, 4.0), (0.0, 3, 1.0), (0.75, 1, 1.75)]
)
def test_the_geometric_formula(rate, k, expected):
    """(1 − α^(K+1)) / (1 − α), and K + 1 where α is 1."""
    assert expected == geometric_length(judged([[rate] * 4, [rate] * 2]), k)


def test_independent_acceptance_is_not_correlated():
    """400 prompts of 50 coins: 0, and around own means −1 / 49, within 4 errors of 0.7 %."""
    rows = np.random.default_rng(0).random((400, 50)) < 0.7

    found = find_disagreement(judged(rows), INTERVALS)

    assert 0 == pytest.approx(found.autocorrelation.value, abs=0.028)
    assert -1 / 49 == pytest.approx(found.autocorrelation_within.value, abs=0.028)
    assert found.autocorrelation.high - found.autocorrelation.low < 0.028


def test_alternating_acceptance():
    """Each neighbour says the opposite: −1, around either mean."""
    found = find_disagreement(judged([[1, 0] * 10 + [1]] * 6), INTERVALS)

    assert -1 == pytest.approx(found.autocorrelation.value)
    assert -1 == pytest.approx(found.autocorrelation_within.value)


def test_easy_and_hard_prompts_look_like_correlation():
    """Around the pooled mean prompts that differ are all there is; around their own, nothing."""
    rng = np.random.default_rng(0)
    rows = rng.random((200, 60)) < np.where(np.arange(200) % 2, 0.9, 0.3)[:, None]

    found = find_disagreement(judged(rows), INTERVALS)

    assert found.autocorrelation.low > 0.3
    assert found.autocorrelation_within.low < -1 / 59 < found.autocorrelation_within.high


def test_one_prompt_alone_that_varies():
    """Leaving it out leaves nothing to correlate; that is a 0, not a warning."""
    found = find_disagreement(judged([[1, 1, 1]] * 5 + [[1, 0, 1, 1, 0]]), INTERVALS)

    assert -1 <= found.autocorrelation_within.low < found.autocorrelation_within.high <= 1


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[1, 1, 1]] * 6, "acceptance is the same at every token"),
        ([[0.7] * 30] * 6, "acceptance is the same at every token"),
        ([[1]] * 6, "no two neighbouring tokens have drafts"),
        ([[1, 0, 1]] * 3, "not enough prompts: an interval needs 6, this has 3"),
    ],
)
def test_no_correlation_is_unmeasured(rows, reason):
    """It is not 0."""
    assert Unmeasured(reason=reason) == find_disagreement(judged(rows), INTERVALS).autocorrelation


def test_parts_share_tokens_and_rejections():
    """Every axis divides all; words never fail here, digits always do."""
    words = judged([[1.0] * 20] * 6, token_class=WORDS, entropy=0.05)
    scores = [draft_scores([0, *[1.0] * 20, *[0.0] * 10])] * 6
    targets = [target_scores([0.05] * 21 + [3.0] * 10, [WORDS] * 21 + [DIGITS] * 10)] * 6

    found = find_disagreement(judge(scores, targets, np.arange(6)), INTERVALS)

    parts = {(one.axis, one.name): one for one in found.parts}
    for axis in ("token class", "place in the answer", "target entropy"):
        own = [part for (of, _), part in parts.items() if of == axis]
        assert 1 == pytest.approx(sum(part.share_of_tokens for part in own))
        assert 1 == pytest.approx(sum(part.share_of_rejections for part in own))
    digits = parts["token class", "digits"]
    assert (1 / 3, 1.0, 0.0) == pytest.approx(
        (digits.share_of_tokens, digits.share_of_rejections, digits.acceptance.value)
    )
    assert parts["target entropy", "2 nats and more"].share_of_rejections == 1
    assert [part.share_of_rejections for part in find_disagreement(words, INTERVALS).parts] == [
        None
    ] * 4


@pytest.mark.parametrize(
    ("length", "names"),
    [
        (16, ["tokens 2–16"]),
        (17, ["tokens 2–16", "tokens 17–64"]),
        (257, ["tokens 2–16", "tokens 17–64", "tokens 65–256", "tokens 257 and later"]),
    ],
)
def test_places_begin_at_the_second_token(length, names):
    """Parts without tokens are left out; the bounds are token numbers from 1."""
    parts = find_disagreement(judged([[0.5] * (length - 1)] * 4), INTERVALS).parts

    assert names == [part.name for part in parts if part.axis == "place in the answer"]


def test_a_lookup_is_judged_by_its_first_drafts():
    """Where it has any: half of the tokens here, and two in three of those are right."""
    scores = [lookup_scores([4, 4, 0, 2, 0, 1, 0], [4, 4, 0, 1, 0, 0, 0])] * 6
    targets = [target_scores([0.3] * 7, [WORDS] * 7)] * 6

    one = judge(scores, targets, np.arange(6))
    found = find_disagreement(one, INTERVALS)

    assert (2 / 3, 0.5) == pytest.approx((found.acceptance.value, found.coverage.value))
    assert 1 + 2 / 3 == pytest.approx(geometric_length(one, 1))
    assert Unmeasured(reason="no two neighbouring tokens have drafts") == found.autocorrelation


def test_a_lookup_that_finds_nothing():
    """No rate, no length, no parts; the coverage is 0."""
    scores = [lookup_scores([0] * 5, [0] * 5)] * 6
    one = judge(scores, [target_scores([0.3] * 5, [WORDS] * 5)] * 6, np.arange(6))

    found = find_disagreement(one, INTERVALS)

    assert Unmeasured(reason="nothing was counted") == found.acceptance
    assert (0, ()) == (found.coverage.value, found.parts)
    assert geometric_length(one, 3) is None


def test_a_draft_model_always_drafts():
    """That is how it works, and no estimate of a share."""
    coverage = find_disagreement(judged([[0.5] * 3] * 6), INTERVALS).coverage

    assert (1, 1, 1) == (coverage.low, coverage.value, coverage.high)
