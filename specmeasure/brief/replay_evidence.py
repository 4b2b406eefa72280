"""What a replay's predictions rest on: costs, recording, what was left out, what was run."""

from collections import Counter
from collections.abc import Sequence

from specmeasure.brief.names import plain
from specmeasure.brief.numbers import TIMES, byte_size, count, duration
from specmeasure.brief.provenance import Fact, write_replay_provenance
from specmeasure.records.machine import Worker
from specmeasure.records.plan import Arm, Method
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import Plausibility, RecordingFacts, ReplayTrace

_MOST_REASONS = 6
_NO_BATCHES = (
    "“Predicted” covers decoding after the prefill at concurrency 1, in this project's loop. It "
    "does not cover batched serving, where verifying costs more of a step, nor other engines."
)


def write_costs_note(trace: ReplayTrace, predictions: Predictions, machine: str | None) -> str:
    """Whose costs the speeds are predicted at; ``machine`` is another one's name."""
    rounds = count(predictions.num_cost_rounds, "round")
    if machine is not None:
        return (
            f"Speeds are predictions at the costs of another machine, {plain(machine)} ({rounds}): "
            "nothing was timed there by this replay. Acceptance and τ do not depend on it."
        )
    sure = (
        "the spread between rounds is part of every speedup's interval"
        if predictions.num_cost_rounds > 1
        else "timed once, so that the error of the costs is not known and in no interval"
    )
    return f"Timed on {plain(trace.costs.machine)} in {rounds}: {sure}."


def write_draft_costs(predictions: Predictions) -> str:
    """Ratio c of every candidate, fastest first."""
    said = [
        f"{predictions.draft_ratios[one.name]:.3f} for {plain(one.name)}"
        for one in predictions.candidates
    ]
    return f"One draft token (c) costs {', '.join(said)}."


def write_evidence(trace: ReplayTrace, predictions: Predictions) -> tuple[str, ...]:
    """One claim a line, those that a sceptic asks for first."""
    recording = trace.recording
    fit = recording.plausibility
    return (
        _sample(predictions),
        *_exactness(trace),
        _NO_BATCHES,
        *([_plausibility(fit)] if fit is not None else []),
        _recording(trace),
        _memory(recording),
        _left_out(trace),
        *(f"Warning: {plain(warning)}" for warning in trace.manifest.warnings),
    )


def write_facts(trace: ReplayTrace) -> tuple[Fact, ...]:
    """Models, prompts, decoding, machine and software, and what drafts without a model."""
    drafts = dict.fromkeys(model for one in trace.candidates for model in one.models)
    arms = trace.manifest.request.request.plan.speculative_arms
    own = [_described(arm) for arm in arms if arm.method is not Method.DRAFT_MODEL]
    most = max((arm.num_speculative_tokens for arm in arms), default=0)
    lookups = [Fact(label="Without a draft model", text="; ".join(own))] if own else []
    return (
        *write_replay_provenance(trace.manifest, list(drafts)),
        *_workers(trace.manifest.workers),
        *lookups,
        Fact(label="Lengths", text=f"every K from 1 to {most}"),
    )


def _workers(workers: Sequence[Worker]) -> list[Fact]:
    """Who answered and scored, where it was not the machine that recorded."""
    if not workers:
        return []
    places = Counter(f"{one.node}: {', '.join(one.hardware)}" for one in workers)
    said = "; ".join(f"{number} on {plain(place)}" for place, number in places.items())
    return [Fact(label="Workers", text=f"{len(workers)}, of them {said}")]


def _sample(predictions: Predictions) -> str:
    return (
        f"{count(predictions.num_prompts, 'prompt')}, {count(predictions.num_answers, 'answer')}, "
        f"{count(predictions.num_tokens, 'token')}. Each prompt is one cluster that is left out "
        "whole. Intervals: jackknife-t, with the costs' own error where speed is predicted; at "
        "95 % unless said, slices at Holm's levels over all slices and candidates; halves of the "
        f"prompts drawn with seed {predictions.seed}."
    )


def _exactness(trace: ReplayTrace) -> list[str]:
    samplings = [answer.sampling for answer in trace.answers]
    num_greedy = sum(one.is_greedy for one in samplings)
    said = []
    if num_greedy:
        said.append(
            f"Blocks of {_of_all(num_greedy, len(samplings))} greedy answers are counted, not "
            "estimated, for draft models, heads and lookups: a real run that gives the same "
            "answers takes as many target passes. Early exits are exact but for rounding."
        )
    if num_greedy < len(samplings):
        num_sampled = len(samplings) - num_greedy
        said.append(
            f"Blocks of {_of_all(num_sampled, len(samplings))} sampled answers are expectations "
            "over the verifier's draws, given the answers; one run scatters around them."
        )
    return said


def _of_all(number: int, of: int) -> str:
    return f"all {count(of)}" if number == of else f"{count(number)} of {count(of)}"


def _plausibility(fit: Plausibility) -> str:
    said = [f"mean rank of a token {fit.mean_rank:.2f}, where 0 is the target's likeliest"]
    if fit.num_other_greedy_answers:
        said.append(
            f"{count(fit.num_other_greedy_answers)} of {count(fit.num_answers)} are not its greedy "
            "output"
        )
    if fit.mean_log_prob is not None and fit.expected_log_prob is not None:
        said.append(
            f"log-probability of a token {fit.mean_log_prob:.3f} nats, of the target's own "
            f"{fit.expected_log_prob:.3f}"
        )
    if fit.z_score is not None:
        said.append(f"{abs(fit.z_score):.1f} standard errors apart")
    if fit.num_impossible_tokens:
        said.append(f"{count(fit.num_impossible_tokens, 'token')} outside top-k or top-p")
    return (
        f"The answers are {count(fit.num_answers, 'recorded response')}; how they fit the target: "
        f"{'; '.join(said)}."
    )


def _recording(trace: ReplayTrace) -> str:
    recording, request = trace.recording, trace.manifest.request
    scoring = (
        ""
        if recording.scoring_s is None
        else f"; scoring and timing took {_s(recording.scoring_s)}"
    )
    if recording.generation_s:
        speed = recording.num_generated_tokens / recording.generation_s
        answering = (
            f"Answering took {_s(recording.generation_s)}, {speed:,.0f} tokens per second in "
            f"batches of {request.batch_size}"
        )
    elif request.use_references:
        answering = "Nothing was generated"
    else:
        answering = "The time of answering was not measured: the recording was interrupted"
    return f"{answering}{scoring}."


def _s(seconds: float) -> str:
    return duration(seconds) if seconds < 100 else f"{count(round(seconds))} s"


def _memory(recording: RecordingFacts) -> str:
    peak = (
        "not measured"
        if recording.peak_memory_bytes is None
        else byte_size(recording.peak_memory_bytes)
    )
    pair = byte_size(recording.largest_pair_bytes)
    return f"Peak memory {peak}; the target and its largest draft have {pair} of weights."


def _left_out(trace: ReplayTrace) -> str:
    counts = Counter[str]()
    for one in (*trace.manifest.corpus.dropped, *trace.recording.left_out):
        counts[plain(one.reason)] += one.num_rows
    if not counts:
        return "Nothing was left out."
    reasons = counts.most_common()
    said = [f"{count(number)} {TIMES} {why}" for why, number in reasons[:_MOST_REASONS]]
    if len(reasons) > _MOST_REASONS:
        said.append(count(len(reasons) - _MOST_REASONS, "more reason"))
    return f"{count(counts.total())} rows or turns left out: {'; '.join(said)}."


def _described(arm: Arm) -> str:
    if arm.method is Method.EARLY_EXIT:
        return f"{plain(arm.name)}: the target's first {count(arm.exit_layer or 0, 'layer')}"
    if arm.method is Method.MEDUSA:
        return f"{plain(arm.name)}: the heads of {plain(arm.heads or '')}, on the target's states"
    return (
        f"{plain(arm.name)}: looks up n-grams of {arm.max_ngram} down to {arm.min_ngram} tokens in "
        "prompt and answer"
    )
