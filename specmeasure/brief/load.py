"""What a brief says of servers under load: the curve, where it crosses 1, what else was seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specmeasure.brief.beside import beside_table
from specmeasure.brief.joined import published_speedup
from specmeasure.brief.load_table import (
    arms_at,
    console_load_table,
    load_table,
    point_tables,
    schedule_table,
)
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import NOT_MEASURED, count, quantity, rate, reason, share, speedup
from specmeasure.brief.served import Served
from specmeasure.brief.servers import server_table, write_evidence_levels
from specmeasure.brief.tables import Captioned, Footnotes, Table
from specmeasure.records.decision import Decision
from specmeasure.records.estimates import Estimate, Interval
from specmeasure.records.load_curve import ArmUnderLoad, Crossover, LoadCurve, LoadPoint
from specmeasure.records.trace import Manifest

LEAST_FOREIGN = 0.005  # of the tokens: as much as a few lost requests or other counting explain
_MOST_ARMS = 3
_MOST_ROWS = 10  # of the table on one page


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPage:
    """The section of the one page."""

    table: Table
    arms_left_out: str | None
    sentences: tuple[str, ...]  # crossovers, throughput, what "good" means, what went wrong
    beside: Table  # in process and on the server; without rows where only one was measured


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadDetails:
    """The section of the details."""

    table: Table
    summary: Table  # the same for a terminal
    crossovers: tuple[str, ...]
    sentences: tuple[str, ...]  # throughput, goodput, troubles, others on the servers
    points: tuple[Captioned, ...]  # everything of each load
    schedules: Table  # K by requests in flight; without rows where each candidate had one K
    beside: Table
    servers: Table
    evidence: tuple[str, ...]  # what the servers reveal, and what cross-checks came to


def write_load_page(served: Served, decision: Decision, notes: Footnotes) -> LoadPage:
    """The best arms that fit on a page, over all loads; nothing is said where nothing happened."""
    curve, names = served.curve, _ranked(decision)
    shown = names[: min(_MOST_ARMS, max(1, _MOST_ROWS // len(curve.points)))]
    is_foreign = curve.foreign_share is not None and curve.foreign_share > LEAST_FOREIGN
    return LoadPage(
        table=load_table(curve, decision, shown, notes),
        arms_left_out=_arms_left_out(names[len(shown) :]),
        sentences=(
            *_crossovers(curve, shown),
            _throughput(curve),
            *_goodput(curve, decision),
            *_in_one_piece(curve),
            *_troubles(curve),
            *([_foreign(curve)] if is_foreign else []),
        ),
        beside=beside_table(served.beside, curve, shown[:1], notes),
    )


def write_load_details(
    manifest: Manifest, served: Served, decision: Decision, notes: Footnotes
) -> LoadDetails:
    """All arms, all loads, and what the servers reveal."""
    curve, names = served.curve, _ranked(decision)
    troubles = _troubles(curve) or ("No request failed, and none was sent twice.",)
    return LoadDetails(
        table=load_table(curve, decision, names, notes),
        summary=console_load_table(curve, decision, names, notes),
        crossovers=_crossovers(curve, names),
        sentences=(
            _throughput(curve),
            *_goodput(curve, decision),
            *_in_one_piece(curve),
            *troubles,
            _foreign(curve),
        ),
        points=tuple(point_tables(curve, names, notes)),
        schedules=schedule_table(curve.batch_sizes),
        beside=beside_table(served.beside, curve, names, notes),
        servers=server_table(manifest),
        evidence=write_evidence_levels(manifest),
    )


def _arms_left_out(names: Sequence[str]) -> str | None:
    if not names:
        return None
    said = listed([plain(name) for name in names], at_most=3)
    return f"{count(len(names), 'more arm')}: {said}."


def _ranked(decision: Decision) -> list[str]:
    """Names: the arm that the verdict speaks of, then best first."""
    ranked = sorted(decision.arms, key=lambda arm: arm.arm != decision.arm)  # stable
    return [arm.arm for arm in ranked]


def _crossovers(curve: LoadCurve, names: Sequence[str]) -> tuple[str, ...]:
    found = {one.arm: one for one in curve.crossovers}
    return tuple(_crossover(found[name], curve) for name in names if name in found)


def _crossover(found: Crossover, curve: LoadCurve) -> str:
    name = plain(found.arm)
    if found.ends_at is None:
        return f"{name} pays at every concurrency measured, up to {found.pays_up_to}."
    speeds = _speeds(found.arm, curve)
    turn = f"at {found.ends_at} {_turn(speeds.get(found.ends_at))}"
    again = [
        f"{concurrency}, {speedup(measured)}"
        for concurrency, measured in speeds.items()
        if concurrency > found.ends_at and isinstance(measured, Interval) and measured.low > 1
    ]
    yet = f"; yet it is faster at {listed(again)}" if again else ""
    if found.pays_up_to is not None:
        return f"{name} pays up to concurrency {found.pays_up_to}; {turn}{yet}."
    if again:
        return f"{name} has no clear crossover: {turn}{yet}."
    return f"{name} pays at no concurrency measured: {turn}."


def _turn(measured: Estimate | None) -> str:
    """How its speedup stands where it no longer pays."""
    if not isinstance(measured, Interval):
        return f"its speedup was {NOT_MEASURED} ({reason(measured) or 'it has no pair'})"
    how = "it is slower" if measured.high < 1 else "its interval includes 1"
    return f"{how}, {speedup(measured)}"


def _speeds(arm: str, curve: LoadCurve) -> dict[int, Estimate | None]:
    """An arm's decode speedups by concurrency."""
    return {
        point.load.concurrency: published_speedup(arms_at(point)[arm].estimates)
        for point in curve.points
        if point.load.concurrency is not None and arm in arms_at(point)
    }


def _throughput(curve: LoadCurve) -> str:
    rates = [f"{_value(point.baseline.tokens_per_s)} at {point.load}" for point in curve.points]
    return f"The baseline's throughput, in tokens/s: {listed(rates, at_most=len(rates))}."


def _goodput(curve: LoadCurve, decision: Decision) -> tuple[str, ...]:
    """What an SLO asks, and how many requests kept to it at the load decided on."""
    if curve.slo is None:
        return ()
    said = f"Goodput counts the requests that keep to the SLO: {curve.slo}"
    point = next((point for point in curve.points if point.load == decision.load), None)
    if point is None:
        return (f"{said}.",)
    shares = [
        f"{_value(one.slo_share, rate)} of the requests of {plain(one.name)}"
        for one in (point.baseline, *(arm for arm in point.arms if arm.name == decision.arm))
    ]
    return (f"{said}. At {point.load}: {listed(shares)}.",)


def _in_one_piece(curve: LoadCurve) -> tuple[str, ...]:
    """Answers whose decode time is unknown, with the likely cause."""
    found = [
        f"{count(under.num_in_one_piece)} of {count(arm.num_trials - arm.num_failed_trials)} "
        f"answers of {plain(arm.name)} at {point.load}"
        for point in curve.points
        for arm, under in (
            (point.estimates.baseline, point.baseline),
            *((one.estimates, one.under_load) for one in arms_at(point).values()),
        )
        if under.num_in_one_piece
    ]
    if not found:
        return ()
    said = (
        f"Arrived in one piece: {listed(found)}. The server's or this machine's CPU was too busy "
        "to stream them, or something on the way buffers; their decode time and TTFT are unknown "
        "and left out. Give the server more cores, or run this tool on another machine."
    )
    return (said,)


def _troubles(curve: LoadCurve) -> tuple[str, ...]:
    """Requests that failed, and that had to be sent again."""
    failed = [
        f"{count(arm.num_failed_trials)} of {plain(arm.name)} at {point.load}"
        for point in curve.points
        for arm in (point.estimates.baseline, *point.estimates.arms)
        if arm.num_failed_trials
    ]
    again = [
        f"{count(arm.num_retries)} of {plain(arm.name)} at {point.load}"
        for point in curve.points
        for arm in _under_load(point)
        if arm.num_retries
    ]
    said = []
    if failed:
        said.append(f"Failed requests: {listed(failed)}.")
    if again:
        said.append(f"Sent again after 429, 503 or a refused connection: {listed(again)}.")
    return tuple(said)


def _under_load(point: LoadPoint) -> tuple[ArmUnderLoad, ...]:
    return (point.baseline, *point.arms)


def _foreign(curve: LoadCurve) -> str:
    found = curve.foreign_share
    if found is None:
        return (
            "Whether others used the servers meanwhile is not known: they do not count the tokens "
            "that they emit."
        )
    if found <= LEAST_FOREIGN:
        counted = "they counted no token beyond this run's"
        if found > 0:
            counted = (
                f"{share(found)} of the tokens that they counted are beyond this run's, as few as "
                "lost requests and ends counted otherwise explain"
            )
        return f"Nobody else used the servers, as far as counts tell: {counted}."
    return (
        f"{share(found)} of the tokens that the servers counted were not asked for by this run: "
        "others used them meanwhile, or requests failed midway."
    )


def _value(estimate: Estimate | None, speak: Callable[[Estimate | None], str] = quantity) -> str:
    why = reason(estimate)
    return speak(estimate) if why is None else f"{NOT_MEASURED} ({plain(why)})"
