"""What a replay predicts, as finished strings that markdown and terminals both lay out.

Nothing here is escaped and nothing is computed: every number was predicted or measured before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specmeasure.brief.exits import (
    exit_table,
    with_the_best_exit,
    write_exits,
    write_own_verification,
)
from specmeasure.brief.headline import Headline, write_headline
from specmeasure.brief.joined import JoinedArm, join_arms
from specmeasure.brief.markdown import render_template
from specmeasure.brief.names import command_line, plain
from specmeasure.brief.numbers import rate, speedup
from specmeasure.brief.provenance import Fact
from specmeasure.brief.replay_evidence import (
    write_costs_note,
    write_draft_costs,
    write_evidence,
    write_facts,
)
from specmeasure.brief.replay_notes import (
    write_agreement_notes,
    write_failure_notes,
    write_notes,
)
from specmeasure.brief.replay_tables import (
    acceptance_needed,
    agreement_table,
    candidate_table,
    configuration,
    cost_line_table,
    failure_table,
    length_table,
    prediction_slice_tables,
    speed_alone,
)
from specmeasure.brief.settings import EngineSettings, write_caveats, write_settings
from specmeasure.brief.slices import SliceTable, write_gains
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.agreement import Agreement
from specmeasure.records.decision import Decision, Screening, Verdict
from specmeasure.records.estimates import Estimates, Interval, SliceEstimates
from specmeasure.records.prediction import (
    CandidatePrediction,
    Predictions,
    SlicePrediction,
)
from specmeasure.records.replay import ReplayTrace
from specmeasure.records.trace import Manifest

_SOME_MACHINE = "the one of --costs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedRun:
    """The real run of a replay's best configurations, read to its decision."""

    manifest: Manifest
    estimates: Estimates
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayContent:
    """One replay. Empty tables are for the renderer to leave out."""

    headline: Headline
    is_predicted: bool  # no real run stands behind the headline
    summary: str
    best: str  # the candidate predicted fastest, at its best K
    candidates: Table
    notes: tuple[str, ...]  # what of the candidates is notable
    agreements: Table
    agreement_notes: tuple[str, ...]
    lengths: Table
    failures: Table  # of the best candidate
    failure_notes: tuple[str, ...]
    slices: tuple[SliceTable, ...]  # likewise
    gains: str
    exits: Table  # early exits by layer, where there are several
    exits_note: str
    costs: Table
    costs_notes: tuple[str, ...]
    evidence: tuple[str, ...]
    footnotes: tuple[str, ...]  # why cells say "not measured"
    provenance: tuple[Fact, ...]
    command: str
    settings: tuple[EngineSettings, ...]  # empty unless a real run says GO
    caveats: tuple[str, ...]


def replay_content(  # noqa: PLR0913 - one page over all that a replay has
    trace: ReplayTrace,
    predictions: Predictions,
    screening: Screening,
    agreements: Sequence[Agreement],
    confirmed: ConfirmedRun | None,
    *,
    is_elsewhere: bool,
    machine: str | None = None,
) -> ReplayContent:
    """Everything that a replay says.

    Args:
        trace: the replay.
        predictions: with a candidate at least.
        screening: what they alone allow.
        agreements: of the real run's arms.
        confirmed: the real run, if there was one.
        is_elsewhere: predictions are at the costs of another machine.
        machine: the name of that machine.
    """
    fastest = predictions.candidates[0]
    shown = with_the_best_exit(trace, predictions)
    chosen = None if confirmed is None else _confirmed_arm(confirmed)
    elsewhere = plain(machine or _SOME_MACHINE) if is_elsewhere else None
    paste = chosen if confirmed and confirmed.decision.verdict is Verdict.GO else None
    notes = Footnotes()
    return ReplayContent(
        headline=_headline(predictions, screening, agreements, chosen, elsewhere),
        is_predicted=chosen is None,
        summary=_summary(predictions, screening, chosen, elsewhere),
        best=configuration(fastest.name, fastest.choice.best),
        candidates=candidate_table(shown.candidates, notes),
        notes=write_notes(trace, shown),
        agreements=agreement_table(agreements, notes, is_elsewhere=is_elsewhere),
        agreement_notes=write_agreement_notes(agreements, is_elsewhere=is_elsewhere),
        lengths=length_table(shown.candidates, notes),
        failures=failure_table(fastest.disagreement.parts, notes),
        failure_notes=write_failure_notes(shown),
        slices=prediction_slice_tables(fastest.slices, notes),
        gains=write_gains([_as_estimates(part) for part in fastest.slices]),
        exits=exit_table(trace, predictions, notes),
        exits_note=write_exits(trace, predictions),
        costs=cost_line_table(predictions.costs),
        costs_notes=(
            write_costs_note(trace, predictions, elsewhere),
            " ".join(filter(None, (write_draft_costs(shown), write_own_verification(shown)))),
        ),
        evidence=write_evidence(trace, predictions),
        footnotes=notes.lines,
        provenance=write_facts(trace),
        command=command_line(trace.manifest.request.request.argv),
        settings=(
            write_settings(confirmed.manifest, paste.plan, paste.estimates.costs)
            if confirmed and paste
            else ()
        ),
        caveats=write_caveats(confirmed.manifest, paste.plan) if confirmed and paste else (),
    )


def render_replay(content: ReplayContent, *, figures: Mapping[str, str]) -> str:
    """The whole page; ``figures`` are paths as it links them, by "lengths" and "exits"."""
    return render_template("replay.md.j2", replay=content, figures=figures)


def _confirmed_arm(confirmed: ConfirmedRun) -> JoinedArm:
    return join_arms(confirmed.manifest, confirmed.estimates, confirmed.decision)[0]


def _headline(
    predictions: Predictions,
    screening: Screening,
    agreements: Sequence[Agreement],
    chosen: JoinedArm | None,
    elsewhere: str | None,
) -> Headline:
    if chosen is not None:
        return _confirmed_headline(chosen, agreements, elsewhere)
    fastest = predictions.candidates[0]
    before, after = "", f" is predicted at {speed_alone(fastest.best)}; {_how_to_settle(elsewhere)}"
    if screening.verdict is Verdict.NO_GO:
        before, after = "leave speculation off; with ", f" {_how_far(fastest)}"
    return Headline(
        verdict=screening.verdict,
        before=before,
        arm=configuration(fastest.name, fastest.choice.best),
        after=after,
    )


def _confirmed_headline(
    chosen: JoinedArm, agreements: Sequence[Agreement], elsewhere: str | None
) -> Headline:
    """The real run's verdict, with what was predicted beside what was measured."""
    predicted = next(
        (
            one.predicted_speedup
            for one in agreements
            if configuration(one.candidate, one.num_speculative_tokens) == plain(chosen.plan.name)
        ),
        None,
    )
    speeds = f"measured {speedup(chosen.decode_speedup)}"
    if isinstance(predicted, Interval):
        where = "" if elsewhere is None else " at another machine's costs"
        speeds += f", predicted {speedup(predicted).partition(' [')[0]}{where}"
    said = write_headline(chosen.decision.verdict, chosen)
    if said.verdict is Verdict.GO:
        return Headline(verdict=said.verdict, before=said.before, arm=said.arm, after=f": {speeds}")
    return Headline(
        verdict=said.verdict, before=said.before, arm=said.arm, after=f"{said.after}; {speeds}"
    )


def _how_to_settle(elsewhere: str | None) -> str:
    return "confirm with --confirm 1" if elsewhere is None else "confirm on that machine"


def _how_far(one: CandidatePrediction) -> str:
    """τ that the prompts give, and τ that pays."""
    have, need = one.best.mean_acceptance_length, one.best.break_even_length
    if need is None:
        return "your prompts draft nothing"
    if not isinstance(have, Interval):
        return f"you need τ {need:.2f} to break even"
    if have.value < need:
        return f"you have τ {have.value:.2f}, you need {need:.2f} to break even"
    gain = f"{speed_alone(one.best)} is all that is predicted"
    return f"you have τ {have.value:.2f}, {need:.2f} breaks even, but {gain}"


def _summary(
    predictions: Predictions,
    screening: Screening,
    chosen: JoinedArm | None,
    elsewhere: str | None,
) -> str:
    fastest = predictions.candidates[0]
    where = f"Speeds are predicted at the costs of {elsewhere}; nothing was timed there."
    if chosen is not None:
        best = configuration(fastest.name, fastest.choice.best)
        said = [f"Predicted fastest is {best} at {speed_alone(fastest.best)}."]
        if best != plain(chosen.plan.name):
            said.append(f"The real run speaks of {plain(chosen.plan.name)}.")
    else:
        said = [f"Nothing was run for real: {plain(screening.reason).removesuffix('.')}."]
        said += _what_lacks(predictions) if screening.verdict is Verdict.NO_GO else []
    return " ".join([*said, *([where] if elsewhere is not None else [])])


def _what_lacks(predictions: Predictions) -> list[str]:
    fastest = predictions.candidates[0]
    if fastest.best.speedup >= 1:
        return _acceptance_gap(fastest)
    most = max(len(one.lengths) for one in predictions.candidates)
    none = f"No candidate is predicted to break even at any K from 1 to {most}."
    return [none, *_acceptance_gap(fastest)]


def _acceptance_gap(one: CandidatePrediction) -> list[str]:
    have, need = one.best.draft_acceptance_rate, one.best.break_even_acceptance
    if not isinstance(have, Interval) or need is None:
        return []
    said = f"The target keeps {rate(have)} of its drafts at K = {one.choice.best}"
    if need > 1:
        return [f"{said}; breaking even is out of reach there, even if it kept all of them."]
    return [f"{said}; {acceptance_needed(one.best)} break even."]


def _as_estimates(part: SlicePrediction) -> SliceEstimates:
    return SliceEstimates(
        axis=part.axis,
        name=part.name,
        num_prompts=part.num_prompts,
        decode_speedup=part.decode_speedup,
        mean_acceptance_length=part.mean_acceptance_length,
        draft_acceptance_rate=part.draft_acceptance_rate,
    )
