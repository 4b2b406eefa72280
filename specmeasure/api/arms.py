"""Arms and candidates from what a user names."""

from collections.abc import Sequence
from dataclasses import replace

from specmeasure.errors import UsageError
from specmeasure.records.plan import (
    BASELINE,
    BASELINE_AGAIN,
    Arm,
    DraftSampling,
    Method,
    Plan,
    TypicalAcceptance,
)

MAX_NGRAM, MIN_NGRAM = 4, 2  # suffixes that n-gram arms look up
PROBABILISTIC = (DraftSampling.PROBABILISTIC,)


def plan_candidates(
    *,
    drafts: Sequence[str] = (),
    draft_samplings: Sequence[DraftSampling] = PROBABILISTIC,
    exit_layers: Sequence[int] = (),
    ngram: bool = False,
    most: int,
) -> tuple[Arm, ...]:
    """Everything that may draft, looked at up to ``most`` drafts a block.

    >>> both = (DraftSampling.PROBABILISTIC, DraftSampling.GREEDY)
    >>> found = plan_candidates(drafts=["a/small"], draft_samplings=both, exit_layers=[4], most=8)
    >>> [arm.name for arm in found]
    ['small', 'small greedy', 'early exit 4']
    """
    drafts = list(dict.fromkeys(drafts))
    candidates = [
        Arm(
            name=label
            if len(draft_samplings) == 1 or sampling in PROBABILISTIC
            else f"{label} {sampling}",
            method=Method.DRAFT_MODEL,
            num_speculative_tokens=most,
            draft=draft,
            draft_sampling=sampling,
        )
        for draft, label in zip(drafts, _labels(drafts), strict=True)
        for sampling in draft_samplings
    ]
    candidates += [
        Arm(
            name=f"early exit {layer}",
            method=Method.EARLY_EXIT,
            num_speculative_tokens=most,
            exit_layer=layer,
            draft_sampling=draft_samplings[0],
        )
        for layer in dict.fromkeys(exit_layers)
    ]
    if ngram:
        candidates.append(
            Arm(
                name="ngram",
                method=Method.NGRAM,
                num_speculative_tokens=most,
                max_ngram=MAX_NGRAM,
                min_ngram=MIN_NGRAM,
            )
        )
    return tuple(candidates)


def between_baselines(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The baseline, these arms, and the baseline again (A/A)."""
    return (BASELINE, *arms, BASELINE_AGAIN)


def arms_at(
    candidates: Sequence[Arm],
    lengths: Sequence[int],
    lossy: Sequence[TypicalAcceptance] = (),
) -> tuple[Arm, ...]:
    """Baseline, every candidate at every K, and the baseline again.

    Each lossy rule adds an arm of its own beside every strict one.

    >>> found = arms_at(plan_candidates(drafts=["a/small"], ngram=True, most=4), [2, 4])
    >>> [arm.name for arm in found]
    ['baseline', 'small k=2', 'small k=4', 'ngram k=2', 'ngram k=4', 'baseline A/A']
    >>> rules = [TypicalAcceptance(), TypicalAcceptance(epsilon=0.2)]
    >>> found = arms_at(plan_candidates(ngram=True, most=4), [4], rules)
    >>> [arm.name for arm in found[1:-1]]
    ['ngram k=4', 'ngram k=4 typical', 'ngram k=4 typical 0.2,0.3']
    """
    if not lengths or min(lengths) < 1:
        raise UsageError("--k takes whole numbers from 1, e.g. --k 2,4,8.")
    strict = [arm.at(length) for arm in candidates for length in dict.fromkeys(lengths)]
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


def plan_arms(*, drafts: Sequence[str], ngram: bool, lengths: Sequence[int]) -> tuple[Arm, ...]:
    """Arms of drafts and n-grams between two baselines; see ``arms_at``."""
    return arms_at(plan_candidates(drafts=drafts, ngram=ngram, most=1), lengths)


def _verified_by(rule: TypicalAcceptance | None, arm: Arm) -> Arm:
    if rule is None:
        return arm
    numbers = "" if rule == TypicalAcceptance() else f" {rule.epsilon:g},{rule.delta:g}"
    return replace(arm, name=f"{arm.name} typical{numbers}", lossy=rule)


def _labels(drafts: Sequence[str]) -> list[str]:
    """Short names while they tell arms apart, else the names as given."""
    short = [draft.rstrip("/").replace("embedded:", "").rpartition("/")[2] for draft in drafts]
    taken = (Method.BASELINE, Method.NGRAM)
    if len(set(short)) == len(short) and not set(short) & set(taken):
        return short
    return [f"draft:{draft}" if draft in taken else draft for draft in drafts]
