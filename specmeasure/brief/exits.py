"""Early exits: which of them a page shows in full, all of them by layer, and where they fail."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import count, quantity, rate
from specmeasure.brief.replay_tables import predicted_speedup, speed_alone
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import Estimate, Interval
from specmeasure.records.plan import Arm, DraftSampling
from specmeasure.records.prediction import CandidatePrediction, Predictions
from specmeasure.records.replay import ReplayTrace

_POOR_ACCEPTANCE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """One early exit that was replayed."""

    layer: int
    draft_sampling: DraftSampling
    found: CandidatePrediction


def exits_of(trace: ReplayTrace, predictions: Predictions) -> tuple[Exit, ...]:
    """All early exits, from the first layer."""
    arms = arms_by_name(trace)
    exits = [
        Exit(layer=layer, draft_sampling=arms[one.name].draft_sampling, found=one)
        for one in predictions.candidates
        if (layer := arms[one.name].exit_layer) is not None
    ]
    return tuple(sorted(exits, key=lambda one: (one.layer, one.draft_sampling)))


def with_the_best_exit(trace: ReplayTrace, predictions: Predictions) -> Predictions:
    """Of several exits the fastest alone, so that tables and figures stay readable."""
    arms = arms_by_name(trace)
    exits = [one for one in predictions.candidates if arms[one.name].exit_layer is not None]
    others = exits[1:]  # candidates stand fastest first
    return replace(
        predictions,
        candidates=tuple(one for one in predictions.candidates if one not in others),
    )


def arms_by_name(trace: ReplayTrace) -> Mapping[str, Arm]:
    """The candidates as they were planned."""
    return {arm.name: arm for arm in trace.manifest.request.request.plan.speculative_arms}


def exit_table(trace: ReplayTrace, predictions: Predictions, notes: Footnotes) -> Table:
    """A line for every exit, from the first layer, the fastest marked; no lines for fewer than two.

    Its costs are at the middle of the contexts that were timed.
    """
    columns = ("Candidate", "K", "Predicted speedup", "τ", "Drafts accepted", "c", "v(K)")
    exits = exits_of(trace, predictions)
    best = best_exit(exits) if len(exits) > 1 else None
    rows = tuple(
        (
            f"{plain(one.found.name)} (best)" if one is best else plain(one.found.name),
            str(one.found.choice.best),
            predicted_speedup(one.found.best, notes),
            notes.cell(quantity, one.found.best.mean_acceptance_length),
            notes.cell(rate, one.found.best.draft_acceptance_rate),
            f"{predictions.draft_ratios[one.found.name]:.3f}",
            _verifying(one.found, predictions),
        )
        for one in exits
    )
    return Table(columns=columns, rows=rows if best is not None else ())


def write_exits(trace: ReplayTrace, predictions: Predictions) -> str:
    """Which of several exits is fastest; the page's other tables speak of it alone."""
    exits = exits_of(trace, predictions)
    if len(exits) < 2:
        return ""
    best = best_exit(exits).found
    return (
        f"Of {count(len(exits), 'early exit')} {plain(best.name)} is predicted fastest, with "
        f"{speed_alone(best.best)} at K = {best.choice.best}; other tables show it alone."
    )


def best_exit(exits: Sequence[Exit]) -> Exit:
    """The one that is predicted fastest."""
    return max(exits, key=lambda one: one.found.best.speedup)


def write_own_verification(predictions: Predictions) -> str:
    """What verifying costs after exits, whose rows the first layers have read; else nothing."""
    said = [
        f"{ratio:.2f} for {plain(one.name)} at K = {one.choice.best}"
        for one in predictions.candidates
        if (ratio := predictions.verify_ratios.get(one.name)) is not None
    ]
    if not said:
        return ""
    return (
        "Drafts of an early exit have been through its layers when they are verified: there v(K) "
        f"is {', '.join(said)}."
    )


def write_poor_exits(arms: Iterable[tuple[Arm, Estimate | None]]) -> list[str]:
    """Which exits draft poorly, and what would be needed; nothing where none does.

    Args:
        arms: each with the share of its drafts that was kept.
    """
    poor = [
        f"{rate(kept)} of what {plain(arm.name)} drafts"
        for arm, kept in arms
        if arm.exit_layer is not None
        and isinstance(kept, Interval)
        and kept.value < _POOR_ACCEPTANCE
    ]
    if not poor:
        return []
    return [
        (
            f"The target keeps {listed(poor)}: models not trained for early exits draft poorly "
            "from their first layers, and a checkpoint trained with LayerSkip would be needed, "
            "such as facebook/layerskip-llama3.2-1B."
        )
    ]


def _verifying(one: CandidatePrediction, predictions: Predictions) -> str:
    """Of the best K: its own, or else the target's for any drafts."""
    own = predictions.verify_ratios.get(one.name)
    middle = predictions.costs[len(predictions.costs) // 2]
    return f"{middle.verify_ratios[one.choice.best] if own is None else own:.2f}"
