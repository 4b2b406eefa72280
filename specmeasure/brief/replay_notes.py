"""What of a replay is notable, in sentences: lengths, agreement with a real run, rejections."""

from collections.abc import Sequence

from specmeasure.brief.exits import arms_by_name, write_poor_exits
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import count, quantity, rate
from specmeasure.brief.replay_tables import configuration, percent, said_lengths
from specmeasure.records.agreement import Agreement
from specmeasure.records.estimates import Interval
from specmeasure.records.prediction import CandidatePrediction, FailurePart, Predictions
from specmeasure.records.replay import ReplayTrace

_WORTH_BUILDING = 0.05  # gain of an oracle below which no policy for K can pay for its own work


def write_notes(trace: ReplayTrace, predictions: Predictions) -> tuple[str, ...]:
    """Of the candidates, a sentence each."""
    fastest = predictions.candidates[0]
    arms = arms_by_name(trace)
    return (
        _alike(fastest),
        _oracle(fastest),
        *_at_the_end(fastest),
        *(said for one in predictions.candidates for said in _unlike_halves(one)),
        *write_poor_exits(
            (arms[one.name], one.disagreement.acceptance) for one in predictions.candidates
        ),
    )


def write_agreement_notes(
    agreements: Sequence[Agreement], *, is_elsewhere: bool
) -> tuple[str, ...]:
    said = [line for one in agreements for line in _counts_note(one)]
    if is_elsewhere and agreements:
        said.append(
            "Speeds were measured on this machine and predicted at another's costs: they are not "
            "compared."
        )
    return tuple(said)


def write_failure_notes(predictions: Predictions) -> tuple[str, ...]:
    """The best candidate in sentences, the others in one each."""
    fastest, *others = predictions.candidates
    found = fastest.disagreement
    name = plain(fastest.name)
    acceptance = f"A draft of {name} is accepted with a chance of {rate(found.acceptance)}"
    if isinstance(found.coverage, Interval) and found.coverage.value < 1:
        acceptance += f", and it has one at {rate(found.coverage)} of tokens"
    return (
        " ".join(
            [
                f"{acceptance}.",
                *_formula(fastest),
                *_correlation(fastest),
                *_costliest(fastest),
            ]
        ),
        *(_in_short(one) for one in others),
    )


def _alike(one: CandidatePrediction) -> str:
    alike, most, name = one.choice.indistinguishable, len(one.lengths), plain(one.name)
    if len(alike) == 1:
        return f"K = {one.choice.best} is told apart from every other K for {name}."
    if len(alike) == most:
        return (
            f"Every K from 1 to {most} is indistinguishable for {name}: these prompts choose none."
        )
    return f"K = {said_lengths(alike)} are indistinguishable for {name}."


def _oracle(one: CandidatePrediction) -> str:
    gain = one.choice.oracle_gain
    worth = ": not worth building" if gain < _WORTH_BUILDING else ""
    return (
        f"An oracle that chose K for every request would gain at most {percent(gain)} over "
        f"K = {one.choice.best}{worth}."
    )


def _at_the_end(one: CandidatePrediction) -> list[str]:
    most = len(one.lengths)
    if one.choice.best < most or most == 1:
        return []
    return [f"The fastest K of {plain(one.name)} is the largest looked at: raise --max-k."]


def _unlike_halves(one: CandidatePrediction) -> list[str]:
    first, second = one.choice.chosen_by_half
    if first == second:
        return []
    return [f"Halves of the prompts choose K = {first} and {second} for {plain(one.name)}."]


def _counts_note(one: Agreement) -> list[str]:
    """Answers that took other target passes than predicted, or cannot tell."""
    name, said = configuration(one.candidate, one.num_speculative_tokens), []
    if one.unequal:
        said.append(f"{name}: not equal are {'; '.join(map(plain, one.unequal))}.")
    if one.num_other_answers:
        others = count(one.num_other_answers, "greedy answer")
        said.append(
            f"{name}: {others} came out with other tokens than the replay's (near-ties, or "
            "recorded responses), so that passes cannot be compared."
        )
    return said


def _formula(one: CandidatePrediction) -> list[str]:
    """What one rate for all tokens makes of τ, against what the workload has."""
    alone, have = one.best.geometric_length, one.best.mean_acceptance_length
    if alone is None or not isinstance(have, Interval):
        return []
    error = alone / have.value - 1
    size = f"{percent(abs(error))} too {'much' if error > 0 else 'little'}"
    at = f"τ {alone:.2f} at K = {one.choice.best}"
    return [f"With that one rate eq. 1 says {at}, this workload has {have.value:.2f}: {size}."]


def _correlation(one: CandidatePrediction) -> list[str]:
    pooled, within = one.disagreement.autocorrelation, one.disagreement.autocorrelation_within
    if not isinstance(pooled, Interval):
        return []
    said = f"Acceptance at neighbouring tokens correlates by {quantity(pooled)}"
    if isinstance(within, Interval):
        said += f", within prompts by {quantity(within)}"
    return [f"{said}."]


def _costliest(one: CandidatePrediction) -> list[str]:
    part = _most_rejected(one)
    if part is None or part.share_of_rejections is None:
        return []
    rejections, tokens = percent(part.share_of_rejections), percent(part.share_of_tokens)
    return [f"Most is lost on {part.name}: {rejections} of rejections on {tokens} of tokens."]


def _most_rejected(one: CandidatePrediction) -> FailurePart | None:
    parts = [
        part
        for part in one.disagreement.parts
        if part.axis == "token class" and part.share_of_rejections is not None
    ]
    return max(parts, key=lambda part: part.share_of_rejections or 0.0, default=None)


def _in_short(one: CandidatePrediction) -> str:
    said = [f"{plain(one.name)}: a draft is accepted with {rate(one.disagreement.acceptance)}"]
    alone, have = one.best.geometric_length, one.best.mean_acceptance_length
    if alone is not None and isinstance(have, Interval):
        said.append(f"eq. 1 says τ {alone:.2f} at K = {one.choice.best}, it has {have.value:.2f}")
    part = _most_rejected(one)
    if part is not None and part.share_of_rejections is not None:
        said.append(f"{percent(part.share_of_rejections)} of rejections on {part.name}")
    return f"{'; '.join(said)}."
