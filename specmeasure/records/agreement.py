"""A replay's predictions beside real runs of the same configurations."""

from dataclasses import dataclass

from specmeasure.records.estimates import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One candidate at one K: predicted and measured, over the prompts that both have."""

    candidate: str
    num_speculative_tokens: int
    predicted_length: Estimate  # τ
    measured_length: Estimate
    length_difference: Estimate  # measured − predicted, paired by prompt
    predicted_speedup: Estimate  # over all prompts of the replay
    measured_speedup: Estimate
    speedup_error: float | None  # predicted / measured − 1; None: one of them is not known
    num_same_answers: int  # greedy answers with the replay's very tokens
    num_other_answers: int  # greedy answers with others: near-ties, or recorded responses
    num_equal_counts: int  # of the same answers, those with exactly as many target passes
    unequal: tuple[str, ...]  # "prompt, turn 1: 12 passes, 11 predicted", at most 10
