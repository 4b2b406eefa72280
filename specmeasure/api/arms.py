"""Arms of a plan: candidates at the Ks that are asked for, between two baselines."""

from collections.abc import Sequence
from dataclasses import replace

from specmeasure.api.candidates import Drafters, plan_candidates
from specmeasure.errors import UsageError
from specmeasure.records.plan import (
    BASELINE,
    BASELINE_AGAIN,
    Arm,
    Method,
    Plan,
    TypicalAcceptance,
)


def between_baselines(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The baseline, these arms, and the baseline again (A/A)."""
    return (BASELINE, *arms, BASELINE_AGAIN)


def arms_at(
    candidates: Sequence[Arm],
    lengths: Sequence[int],
    lossy: Sequence[TypicalAcceptance] = (),
) -> tuple[Arm, ...]:
    """Baseline, every candidate at every K, and the baseline again.

    Heads draft no more than there are of them, and a tree has its own number of nodes. Each lossy
    rule adds an arm of its own beside every strict one.

    >>> ngram = Arm(name="ngram", method=Method.NGRAM, num_speculative_tokens=4, max_ngram=4,
    ...     min_ngram=2)
    >>> heads = Arm(name="medusa", method=Method.MEDUSA, num_speculative_tokens=3, heads="h")
    >>> [arm.name for arm in arms_at([ngram, heads], [2, 4])]
    ['baseline', 'ngram k=2', 'ngram k=4', 'medusa k=2', 'medusa k=3', 'baseline A/A']
    >>> rules = [TypicalAcceptance(), TypicalAcceptance(epsilon=0.2)]
    >>> [arm.name for arm in arms_at([ngram], [4], rules)[1:-1]]
    ['ngram k=4', 'ngram k=4 typical', 'ngram k=4 typical 0.2,0.3']
    """
    if not lengths or min(lengths) < 1:
        raise UsageError("--k takes whole numbers from 1, e.g. --k 2,4,8.")
    strict = [one for arm in candidates for one in _lengthened(arm, lengths)]
    rules = (None, *dict.fromkeys(lossy))
    return between_baselines([_verified_by(rule, arm) for arm in strict for rule in rules])


def lossy_notes(plan: Plan) -> list[str]:
    """What a reader must know of arms that change the output."""
    lossy = [arm.name for arm in plan.arms if arm.lossy is not None]
    if not lossy:
        return []
    note = (
        f"lossy arms ({', '.join(lossy)}): they keep drafts that the target would not have "
        "emitted, so their answers are not the target's own. How far they are off is measured "
        "as drift."
    )
    return [note]


def plan_arms(drafters: Drafters, *, lengths: Sequence[int]) -> tuple[Arm, ...]:
    """Arms of what a user names between two baselines; see ``arms_at``."""
    return arms_at(plan_candidates(drafters, most=1), lengths)


def _lengthened(arm: Arm, lengths: Sequence[int]) -> list[Arm]:
    if arm.tree is not None:
        return [arm]
    if arm.method is Method.MEDUSA:
        lengths = [min(length, arm.num_speculative_tokens) for length in lengths]
    return [arm.at(length) for length in dict.fromkeys(lengths)]


def _verified_by(rule: TypicalAcceptance | None, arm: Arm) -> Arm:
    if rule is None:
        return arm
    numbers = "" if rule == TypicalAcceptance() else f" {rule.epsilon:g},{rule.delta:g}"
    return replace(arm, name=f"{arm.name} typical{numbers}", lossy=rule)
