"""The tables of a replay as rows of finished strings, and how its lengths and errors are spoken."""

from collections.abc import Sequence

from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import (
    NOT_APPLICABLE,
    TIMES,
    byte_size,
    count,
    duration,
    quantity,
    rate,
    speedup,
)
from specmeasure.brief.slices import SliceTable
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.agreement import Agreement
from specmeasure.records.estimates import Interval
from specmeasure.records.prediction import (
    CandidatePrediction,
    CostLine,
    FailurePart,
    LengthPrediction,
    SlicePrediction,
)

SHOWN_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_SHOWN_COSTS = (0, 1, 2, 4, 8, 16, 32)
_MOST_SLICES = 20


def candidate_table(candidates: Sequence[CandidatePrediction], notes: Footnotes) -> Table:
    """Every candidate at its best K, fastest first."""
    columns = (
        "Candidate",
        "K",
        "As good",
        "Predicted speedup",
        "Cross-fitted",
        "τ: you have",
        "you need",
        "Drafts accepted: you have",
        "you need",
        "Extra memory",
        "FLOPs per token",
    )
    rows = tuple(
        (
            plain(one.name),
            str(one.choice.best),
            _as_good(one),
            predicted_speedup(one.best, notes),
            notes.cell(speedup, one.choice.cross_fitted_speedup),
            notes.cell(quantity, one.best.mean_acceptance_length),
            _length_needed(one.best),
            notes.cell(rate, one.best.draft_acceptance_rate),
            acceptance_needed(one.best),
            f"+{byte_size(round(one.extra_memory_bytes))}",
            f"{one.best.flops_ratio:.2f}{TIMES}",
        )
        for one in candidates
    )
    return Table(columns=columns, rows=rows)


def agreement_table(
    agreements: Sequence[Agreement], notes: Footnotes, *, is_elsewhere: bool
) -> Table:
    """Predicted beside measured, a row each configuration that was run for real."""
    columns = (
        "Candidate",
        "τ predicted",
        "τ measured",
        "Difference",
        "Speedup predicted",
        "Speedup measured",
        "Error",
        "Exactly equal",
    )
    rows = tuple(
        (
            configuration(one.candidate, one.num_speculative_tokens),
            notes.cell(quantity, one.predicted_length),
            notes.cell(quantity, one.measured_length),
            notes.cell(quantity, one.length_difference),
            notes.cell(speedup, one.predicted_speedup),
            notes.cell(speedup, one.measured_speedup),
            NOT_APPLICABLE if is_elsewhere else error_in_percent(one.speedup_error),
            _equal(one),
        )
        for one in agreements
    )
    return Table(columns=columns, rows=rows)


def length_table(candidates: Sequence[CandidatePrediction], notes: Footnotes) -> Table:
    """Predicted speedup and τ over K, a column each candidate."""
    most = max((len(one.lengths) for one in candidates), default=0)
    rows = tuple(
        (str(k), *(_at_length(one, k, notes) for one in candidates))
        for k in SHOWN_LENGTHS
        if k <= most
    )
    return Table(columns=("K", *(plain(one.name) for one in candidates)), rows=rows)


def failure_table(parts: Sequence[FailurePart], notes: Footnotes) -> Table:
    """Where one candidate's drafts are rejected."""
    columns = ("By", "Tokens", "Share of tokens", "Accepted", "Share of rejections")
    rows = tuple(
        (
            part.axis,
            part.name,
            percent(part.share_of_tokens),
            notes.cell(rate, part.acceptance),
            NOT_APPLICABLE
            if part.share_of_rejections is None
            else percent(part.share_of_rejections),
        )
        for part in parts
    )
    return Table(columns=columns, rows=rows)


def prediction_slice_tables(
    slices: Sequence[SlicePrediction], notes: Footnotes
) -> tuple[SliceTable, ...]:
    """One candidate at its best K, a table each axis; the largest slices are kept."""
    tables = []
    for axis in dict.fromkeys(part.axis for part in slices):
        parts = [part for part in slices if part.axis == axis]
        largest = sorted(parts, key=lambda part: -part.num_prompts)[:_MOST_SLICES]
        lost = len(parts) - len(largest)
        tables.append(
            SliceTable(
                axis=plain(axis),
                table=_slice_table(axis, [part for part in parts if part in largest], notes),
                left_out=f"And {count(lost, 'smaller slice')} by {plain(axis)}." if lost else None,
            )
        )
    return tuple(tables)


def cost_line_table(lines: Sequence[CostLine]) -> Table:
    """A plain step at every context length that was timed, and v(K) in units of it."""
    most = max((len(line.verify_ratios) for line in lines), default=0)
    lengths = [k for k in _SHOWN_COSTS if k < most]
    rows = tuple(
        (
            count(line.context_length),
            duration(line.step_s),
            *(f"{line.verify_ratios[k]:.2f}" for k in lengths),
        )
        for line in lines
    )
    return Table(
        columns=("Context, tokens", "Plain step", *(f"v({k})" for k in lengths)), rows=rows
    )


def predicted_speedup(one: LengthPrediction, notes: Footnotes) -> str:
    """With its interval; where prompts are too few for one, the number with a footnote."""
    return notes.cell(lambda _: speed_alone(one), one.decode_speedup)


def speed_alone(one: LengthPrediction) -> str:
    """The same inside a sentence, which has no footnotes."""
    if isinstance(one.decode_speedup, Interval):
        return speedup(one.decode_speedup)
    return f"{one.speedup:.2f}{TIMES} without interval"


def configuration(candidate: str, num_speculative_tokens: int) -> str:
    """A candidate at one K, as an arm of a real run is called.

    >>> configuration("draft", 4)
    'draft k=4'
    """
    return f"{plain(candidate)} k={num_speculative_tokens}"


def said_lengths(lengths: Sequence[int]) -> str:
    """Several K, runs of four or more as one.

    >>> said_lengths([3, 4, 5]), said_lengths([2, 3, 4, 5, 8]), said_lengths([4])
    ('3, 4 and 5', '2–5 and 8', '4')
    """
    runs: list[list[int]] = []
    for k in lengths:
        if runs and k == runs[-1][-1] + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    return listed(
        [
            part
            for run in runs
            for part in ([f"{run[0]}–{run[-1]}"] if len(run) > 3 else map(str, run))
        ],
        at_most=len(lengths),
    )


def percent(share: float) -> str:
    """A share without an interval.

    >>> percent(0.154), percent(0.0021), percent(-0.013)
    ('15 %', '0.2 %', '-1.3 %')
    """
    digits = 0 if abs(share) >= 0.0995 else 1
    return f"{100 * share:.{digits}f} %"


def error_in_percent(error: float | None) -> str:
    """Predicted / measured − 1, signed.

    >>> error_in_percent(0.012), error_in_percent(None)
    ('+1.2 %', '–')
    """
    if error is None:
        return NOT_APPLICABLE
    return f"{100 * error:+.1f} %"


def acceptance_needed(one: LengthPrediction) -> str:
    """Accepted / drafted that breaks even; above 1 no drafter can."""
    needed = one.break_even_acceptance
    if needed is None:
        return NOT_APPLICABLE
    return "out of reach" if needed > 1 else percent(needed)


def _length_needed(one: LengthPrediction) -> str:
    return NOT_APPLICABLE if one.break_even_length is None else f"{one.break_even_length:.2f}"


def _as_good(one: CandidatePrediction) -> str:
    others = [k for k in one.choice.indistinguishable if k != one.choice.best]
    if not others:
        return "no other" if len(one.lengths) > 1 else NOT_APPLICABLE
    return "every other" if len(others) == len(one.lengths) - 1 else said_lengths(others)


def _equal(one: Agreement) -> str:
    if not one.num_same_answers:
        return NOT_APPLICABLE
    return f"{count(one.num_equal_counts)} of {count(one.num_same_answers, 'answer')}"


def _at_length(one: CandidatePrediction, k: int, notes: Footnotes) -> str:
    if k > len(one.lengths):
        return NOT_APPLICABLE
    found = one.lengths[k - 1]
    length = found.mean_acceptance_length
    tau = f", τ {length.value:.2f}" if isinstance(length, Interval) else ""
    return f"{predicted_speedup(found, notes)}{tau}"


def _slice_table(axis: str, parts: Sequence[SlicePrediction], notes: Footnotes) -> Table:
    columns = (plain(axis).capitalize(), "Prompts", "Predicted speedup", "Drafts accepted", "τ")
    rows = tuple(
        (
            plain(part.name),
            count(part.num_prompts),
            notes.cell(speedup, part.decode_speedup),
            notes.cell(rate, part.draft_acceptance_rate),
            notes.cell(quantity, part.mean_acceptance_length),
        )
        for part in parts
    )
    return Table(columns=columns, rows=rows)
