"""Tables of runs on servers: speed over load, everything of one load, K by requests in flight."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from specmeasure.brief.arm_table import latency_rows, p50, p95
from specmeasure.brief.joined import published_speedup
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import (
    NOT_APPLICABLE,
    count,
    noise,
    quantity,
    rate,
    seconds,
    speedup,
)
from specmeasure.brief.servers import load_unit, short_load
from specmeasure.brief.tables import Captioned, Footnotes, Table, memory
from specmeasure.records.decision import Decision, LoadVerdict, Verdict
from specmeasure.records.estimates import ArmEstimates
from specmeasure.records.load_curve import ArmUnderLoad, BatchSizes, LoadCurve, LoadPoint
from specmeasure.records.serving import Load

_MOST_COLUMNS = 4  # arms side by side in the table of one load


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmAtLoad:
    """Both records of one arm at one load."""

    estimates: ArmEstimates
    under_load: ArmUnderLoad


Row = tuple[str, Callable[[ArmAtLoad], str]]


def arms_at(point: LoadPoint) -> dict[str, ArmAtLoad]:
    """The speculative arms of one load, by name."""
    pairs = zip(point.estimates.arms, point.arms, strict=True)
    return {arm.name: ArmAtLoad(estimates=arm, under_load=under) for arm, under in pairs}


def verdicts_by_load(decision: Decision) -> dict[tuple[Load, str], str]:
    """What the policy says, by load and arm.

    Of loads that were not decided on only the arm that came first is known, unless it is NO_GO:
    then so are all that come after it.
    """
    said = {
        (one.load, arm): one.verdict.value
        for one in decision.by_load
        for arm in _judged(one, decision)
    }
    if decision.load is not None:
        said |= {(decision.load, arm.arm): arm.verdict.value for arm in decision.arms}
    return said


def load_table(
    curve: LoadCurve, decision: Decision, names: Sequence[str], notes: Footnotes
) -> Table:
    """Arm by arm, lightest load first: verdict, speed beside the noise, throughput, goodput."""
    goodput = ("Goodput",) if curve.slo else ()
    columns = ("Arm", "Load", "Verdict", "Decode speedup", "A/A", "Throughput", *goodput)
    verdicts = verdicts_by_load(decision)
    rows = [
        (
            plain(name),
            str(point.load),
            verdicts.get((point.load, name), NOT_APPLICABLE),
            notes.cell(speedup, published_speedup(arm.estimates)),
            notes.cell(noise, point.estimates.noise_floor),
            notes.cell(speedup, arm.under_load.throughput_ratio),
            *([notes.cell(speedup, arm.under_load.goodput_ratio)] if curve.slo else []),
            in_flight(arm.under_load),
        )
        for name in names
        for point in curve.points
        if (arm := arms_at(point).get(name))
    ]
    return Table(columns=(*columns, "In flight"), rows=tuple(rows))


def console_load_table(
    curve: LoadCurve, decision: Decision, names: Sequence[str], notes: Footnotes
) -> Table:
    """The same for a terminal: the baseline against itself first, then each arm, load by load."""
    verdicts, units = verdicts_by_load(decision), {load_unit(point.load) for point in curve.points}
    say = short_load if len(units) == 1 else str
    again = [
        (
            "baseline A/A",
            say(point.load),
            notes.cell(noise, point.estimates.noise_floor),
            NOT_APPLICABLE,
            notes.cell(quantity, point.baseline.tokens_per_s),
            NOT_APPLICABLE,
        )
        for point in curve.points
    ]
    rows = [
        (
            plain(name),
            say(point.load),
            notes.cell(speedup, published_speedup(arm.estimates)),
            notes.cell(quantity, arm.estimates.mean_acceptance_length),
            notes.cell(quantity, arm.under_load.tokens_per_s),
            verdicts.get((point.load, name), NOT_APPLICABLE),
        )
        for name in names
        for point in curve.points
        if (arm := arms_at(point).get(name))
    ]
    unit = units.pop() if len(units) == 1 else "load"
    columns = (f"By {unit}", "", "Decode speedup", "τ", "Tokens/s", "Verdict")
    return Table(columns=columns, rows=(*again, *rows))


def point_tables(curve: LoadCurve, names: Sequence[str], notes: Footnotes) -> Iterator[Captioned]:
    """Everything of each load: figures down, the baseline and the arms across."""
    for point in curve.points:
        for start in range(0, len(names), _MOST_COLUMNS):
            shown = [
                name for name in names[start : start + _MOST_COLUMNS] if name in arms_at(point)
            ]
            more = ", more arms" if start else ""
            yield Captioned(
                caption=f"At {point.load}{more}:",
                table=_point_table(curve, point, shown, notes),
            )


def schedule_table(batch_sizes: Sequence[BatchSizes]) -> Table:
    """K by the number of requests in flight."""
    return Table(
        columns=("Candidate", "Requests in flight", "Best K"),
        rows=tuple(
            (
                plain(one.candidate),
                count(first) if first == last else f"{count(first)} to {count(last)}",
                f"{length}, no speculation" if length == 0 else str(length),
            )
            for one in batch_sizes
            for first, last, length in one.ranges
        ),
    )


def _judged(one: LoadVerdict, decision: Decision) -> list[str]:
    return [arm.arm for arm in decision.arms] if one.verdict is Verdict.NO_GO else [one.arm]


def in_flight(arm: ArmUnderLoad) -> str:
    """Requests at a time, over its windows."""
    return NOT_APPLICABLE if arm.mean_in_flight is None else f"{arm.mean_in_flight:.1f}"


def _point_table(
    curve: LoadCurve, point: LoadPoint, names: Sequence[str], notes: Footnotes
) -> Table:
    baseline = ArmAtLoad(estimates=point.estimates.baseline, under_load=point.baseline)
    arms = arms_at(point)
    every = [baseline, *(arms[name] for name in names)]
    rows = [
        *_speed(point, notes),
        *_rates(curve, notes),
        *_waits(point.estimates.baseline, notes),
        *_drafts(notes),
        *_BOOKKEEPING,
    ]
    return Table(
        columns=("", "baseline", *map(plain, names)),
        rows=tuple((label, *map(speak, every)) for label, speak in rows),
    )


def _speed(point: LoadPoint, notes: Footnotes) -> list[Row]:
    def decode_speedup(arm: ArmAtLoad) -> str:
        if arm.estimates is point.estimates.baseline:
            return f"A/A {notes.cell(noise, point.estimates.noise_floor)}"
        return notes.cell(speedup, published_speedup(arm.estimates))

    return [
        ("Decode speedup", decode_speedup),
        ("End-to-end speedup", lambda arm: notes.cell(speedup, arm.estimates.end_to_end_speedup)),
    ]


def _rates(curve: LoadCurve, notes: Footnotes) -> list[Row]:
    """Tokens and good requests a second, and their ratios to the baseline's."""
    rows: list[Row] = [
        ("Tokens/s", lambda arm: notes.cell(quantity, arm.under_load.tokens_per_s)),
        ("Throughput ratio", lambda arm: notes.cell(speedup, arm.under_load.throughput_ratio)),
    ]
    if curve.slo:
        rows += [
            ("Goodput, requests/s", lambda arm: notes.cell(quantity, arm.under_load.goodput)),
            ("Goodput ratio", lambda arm: notes.cell(speedup, arm.under_load.goodput_ratio)),
            ("Requests within the SLO", lambda arm: notes.cell(rate, arm.under_load.slo_share)),
        ]
    return rows


def _waits(baseline: ArmEstimates, notes: Footnotes) -> list[Row]:
    latency: list[Row] = [
        (label, _of_estimates(speak)) for label, speak in latency_rows(baseline, notes)
    ]
    return [
        *latency,
        ("Request p50", lambda arm: notes.cell(seconds, p50(arm.estimates.end_to_end_quantiles))),
        ("Request p95", lambda arm: notes.cell(seconds, p95(arm.estimates.end_to_end_quantiles))),
    ]


def _of_estimates(speak: Callable[[ArmEstimates], str]) -> Callable[[ArmAtLoad], str]:
    return lambda arm: speak(arm.estimates)


def _drafts(notes: Footnotes) -> list[Row]:
    return [
        (
            "Acceptance length τ",
            lambda arm: notes.cell(quantity, arm.estimates.mean_acceptance_length),
        ),
        ("Drafts accepted", lambda arm: notes.cell(rate, arm.estimates.draft_acceptance_rate)),
    ]


_BOOKKEEPING: tuple[Row, ...] = (
    ("In flight", lambda arm: in_flight(arm.under_load)),
    ("Requests", lambda arm: count(arm.estimates.num_trials)),
    ("Failed", lambda arm: count(arm.estimates.num_failed_trials)),
    ("In one piece", lambda arm: count(arm.under_load.num_in_one_piece)),
    ("Retries", lambda arm: count(arm.under_load.num_retries)),
    ("Memory", lambda arm: memory(arm.estimates)),
)
