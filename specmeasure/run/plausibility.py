"""Are recorded responses what this target would have said? Ranks, log-probabilities, a refusal.

Of tokens that the target draws itself, log-probability plus entropy is a martingale difference with
the variance of the log-probability: its sum over any texts has a standard normal z-score.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specmeasure.decode.teacher import TargetAlong
from specmeasure.errors import UsageError
from specmeasure.records.plan import Sampling
from specmeasure.records.replay import Plausibility

MOST_OTHER_TOKENS = 0.01  # of a greedy answer: not the target's likeliest, beyond rounding
MOST_OTHER_ANSWERS = 0.05  # of all greedy answers; more is another model's, or sampled
MOST_IMPOSSIBLE = 0.01  # of sampled tokens
MOST_GAP = 0.1  # nats a token between what was said and what the target says itself
FARTHEST = 5.0  # standard errors


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFit:
    """Sums over some responses, from which the check is made."""

    num_answers: int = 0
    num_greedy_answers: int = 0
    num_other_greedy_answers: int = 0
    num_tokens: int = 0
    sum_rank: float = 0.0
    num_sampled_tokens: int = 0
    num_impossible_tokens: int = 0
    sum_log_prob: float = 0.0
    sum_entropy: float = 0.0
    sum_variance: float = 0.0

    def __add__(self, other: "ResponseFit") -> "ResponseFit":
        names = ResponseFit.__dataclass_fields__
        return ResponseFit(**{name: getattr(self, name) + getattr(other, name) for name in names})


def fit_greedy(along: TargetAlong, num_other_tokens: int) -> ResponseFit:
    """One greedy response, of which so many tokens differ by more than rounding."""
    num_tokens = len(along.token_rank)
    return ResponseFit(
        num_answers=1,
        num_greedy_answers=1,
        num_other_greedy_answers=int(num_other_tokens > MOST_OTHER_TOKENS * num_tokens),
        num_tokens=num_tokens,
        sum_rank=float(along.token_rank.sum()),
    )


def fit_sampled(along: TargetAlong) -> ResponseFit:
    """One sampled response."""
    possible = along.log_prob.isfinite()
    return ResponseFit(
        num_answers=1,
        num_tokens=len(possible),
        sum_rank=float(along.token_rank.sum()),
        num_sampled_tokens=len(possible),
        num_impossible_tokens=int((~possible).sum()),
        sum_log_prob=float(along.log_prob[possible].sum()),
        sum_entropy=float(along.entropy[possible].sum()),
        sum_variance=float(along.log_prob_variance[possible].sum()),
    )


def plausibility(fits: Iterable[ResponseFit]) -> Plausibility:
    """How well all responses fit together."""
    whole = sum(fits, ResponseFit())
    num_possible = whole.num_sampled_tokens - whole.num_impossible_tokens
    difference = whole.sum_log_prob + whole.sum_entropy
    return Plausibility(
        num_answers=whole.num_answers,
        num_other_greedy_answers=whole.num_other_greedy_answers,
        num_tokens=whole.num_tokens,
        mean_rank=whole.sum_rank / max(1, whole.num_tokens),
        num_sampled_tokens=whole.num_sampled_tokens,
        num_impossible_tokens=whole.num_impossible_tokens,
        mean_log_prob=whole.sum_log_prob / num_possible if num_possible else None,
        expected_log_prob=-whole.sum_entropy / num_possible if num_possible else None,
        z_score=difference / math.sqrt(whole.sum_variance) if whole.sum_variance else None,
    )


def refuse_implausible(found: Plausibility, samplings: Sequence[Sampling]) -> None:
    """Raise UsageError where the responses are not this target's at these settings."""
    settings = ", ".join(sorted({str(one) for one in samplings}))
    remedy = (
        "Name the target and the settings (--temperature, --top-p, …) that wrote them, or leave "
        "--responses out: the target then answers itself."
    )
    fit = f"mean rank {found.mean_rank:.2f} of {found.num_tokens} tokens"
    if found.num_other_greedy_answers > MOST_OTHER_ANSWERS * found.num_answers:
        raise UsageError(
            f"--responses: {found.num_other_greedy_answers} of {found.num_answers} responses are "
            f"not this target's greedy output ({fit}; 0 where all are). A greedy replay of them "
            f"would be wrong. {remedy}"
        )
    if found.num_impossible_tokens > MOST_IMPOSSIBLE * max(1, found.num_sampled_tokens):
        raise UsageError(
            f"--responses: {found.num_impossible_tokens} of {found.num_sampled_tokens} tokens "
            f"cannot be drawn from this target at {settings} ({fit}). {remedy}"
        )
    if found.mean_log_prob is None or found.expected_log_prob is None or found.z_score is None:
        return
    gap = abs(found.mean_log_prob - found.expected_log_prob)
    if gap > MOST_GAP and abs(found.z_score) > FARTHEST:
        raise UsageError(
            f"--responses: a token's log-probability is {found.mean_log_prob:.2f} on average, of "
            f"this target's own texts at {settings} it would be {found.expected_log_prob:.2f} "
            f"({abs(found.z_score):.0f} standard errors away; {fit}). {remedy}"
        )


def doubt(found: Plausibility) -> str | None:
    """What to warn of where the responses pass, but not without a mark."""
    if found.num_other_greedy_answers:
        return (
            f"{found.num_other_greedy_answers} of {found.num_answers} recorded responses are not "
            "the target's greedy output; they are replayed as they are."
        )
    if found.z_score is not None and abs(found.z_score) > FARTHEST:
        return (
            f"Recorded responses fit the target at these settings imperfectly: their "
            f"log-probability is {abs(found.z_score):.0f} standard errors from what it would be."
        )
    return None
