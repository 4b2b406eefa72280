"""How well tokens fit the law that they should have been drawn from.

Every number has a mean that is known if they do: a transform is uniform, a score is 0 on average.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from specmeasure.records.trace import Score

MAX_RATIO = 10.0  # of draft to target in the pull: rarer tokens would make its tail unwieldy


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """One score of every token less its mean under the target, and its moments there: [N] each."""

    excess: Tensor
    variance: Tensor
    third_moment: Tensor

    def total(self) -> Score:
        """The sums."""
        return Score(
            excess=float(self.excess.double().sum()),
            variance=float(self.variance.double().sum()),
            third_moment=float(self.third_moment.double().sum()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PullScores:
    """How far each token leans towards the draft: [N] each."""

    scores: TokenScores
    shift: Tensor  # mean of the score under the draft − under the target
    total_variation: Tensor  # between the two laws


def likelihood_ratio(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    """draft_probs / target_probs of [N, V]; infinite where the draft alone has the token."""
    return (draft_probs / target_probs).nan_to_num(nan=0.0, posinf=torch.inf)


def randomised_pit(
    tokens: Tensor,  # [N]
    target_probs: Tensor,  # [N, V]
    ranking: Tensor,  # [N, V] what the tokens are put in order by; of equals the likelier is first
    uniform: Tensor,  # [N] drawn from [0, 1)
) -> Tensor:
    """Chance of a token before this one, and a random part of its own: uniform under the target.

    Any order that is fixed before the token is drawn will do; it decides against what the test is
    strong (Brockwell 2007, doi:10.1016/j.spl.2007.02.008).

    Formula: u = P(before x) + uniform · P(level with x)

    Returns:
        [N] in [0, 1].
    """
    own = tokens[:, None]
    rank, prob = ranking.gather(1, own), target_probs.gather(1, own)
    is_level = ranking == rank
    before = (ranking < rank) | (is_level & (target_probs > prob))
    level = is_level & (target_probs == prob)
    below = (target_probs * before).sum(-1)
    return (below + uniform * (target_probs * level).sum(-1)).clamp(0, 1)


def surprise(
    tokens: Tensor,  # [N]
    target_probs: Tensor,  # [N, V]
) -> TokenScores:
    """−log target_probs of the tokens, in nats, less the entropy.

    A token without a chance counts nothing.
    """
    nats = -target_probs.log().masked_fill(target_probs == 0, 0.0)
    scores = _centred(nats, tokens, target_probs)
    possible = target_probs.gather(1, tokens[:, None])[:, 0] > 0
    return TokenScores(
        excess=scores.excess * possible,
        variance=scores.variance * possible,
        third_moment=scores.third_moment * possible,
    )


def pull(
    tokens: Tensor,  # [N]
    target_probs: Tensor,  # [N, V]
    draft_probs: Tensor,  # [N, V] of the draft that was judged there
) -> PullScores:
    """min(draft_probs / target_probs, ``MAX_RATIO``) of the tokens, less its mean.

    A verifier that lets a share ε of its rejections through emits (1 − ε) · target_probs +
    ε · draft_probs, so that the mean rises by ε · shift.
    """
    ratio = likelihood_ratio(target_probs, draft_probs).clamp_max(MAX_RATIO)
    return PullScores(
        scores=_centred(ratio, tokens, target_probs),
        shift=((draft_probs - target_probs) * ratio).sum(-1),
        total_variation=(draft_probs - target_probs).clamp_min(0).sum(-1),
    )


def _centred(scores: Tensor, tokens: Tensor, target_probs: Tensor) -> TokenScores:
    """[N, V] scores of all tokens → what the emitted ones exceed the mean by, with moments."""
    deviation = scores - (target_probs * scores).sum(-1, keepdim=True)
    weighted = target_probs * deviation.square()
    return TokenScores(
        excess=deviation.gather(1, tokens[:, None])[:, 0],
        variance=weighted.sum(-1),
        third_moment=(weighted * deviation).sum(-1),
    )
