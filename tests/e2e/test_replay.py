"""Replays of the embedded pair beside real runs of the same pair."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from specmeasure import demo
from specmeasure.api.candidates import Drafters, NgramSizes, plan_candidates
from specmeasure.api.replay_reports import conclude_replay
from specmeasure.api.replays import read_replay, resume_replay, start_replay
from specmeasure.corpus import load_corpus
from specmeasure.decode.batch import Generated
from specmeasure.decode.teacher import Finished, Scored
from specmeasure.engines.replay import Asked, ReplayEngine
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.errors import UsageError
from specmeasure.estimate.replay import count_replay
from specmeasure.records.agreement import Agreement
from specmeasure.records.estimates import Interval
from specmeasure.records.machine import Fleet
from specmeasure.records.plan import (
    BASELINE,
    GREEDY,
    Arm,
    DecodeSettings,
    DraftSampling,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.records.replay import Answer, DraftScores, LookupScores, ReplayRequest, ReplayTrace
from specmeasure.records.request import Request
from specmeasure.run.watch import Watchers
from specmeasure.trace import replays

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("timed_briefly")]

MOST, EXIT_LAYER, BUDGET = 8, 3, 24
PLANTED = "zyxquorble"  # a word that no model says, to be looked for
TWO_WAYS = (DraftSampling.PROBABILISTIC, DraftSampling.GREEDY)


def request_for(
    source: Path,
    *,
    sampling: Sampling = GREEDY,
    draft_samplings: Sequence[DraftSampling] = TWO_WAYS[:1],
    include_text: bool = False,
    max_new_tokens: int = BUDGET,
    **changes: Any,
) -> ReplayRequest:
    candidates = plan_candidates(
        Drafters(
            drafts=[demo.DRAFT],
            draft_samplings=draft_samplings,
            exit_layers=[EXIT_LAYER],
            ngrams=[NgramSizes()],
        ),
        most=MOST,
    )
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE, *candidates),
        sampling=sampling,
        max_new_tokens=max_new_tokens,
        include_text=include_text,
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )
    request = Request(plan=plan, sources=(str(source),))
    return ReplayRequest(request=request, batch_size=4, **changes)


def write_prompts(path: Path, num_prompts: int) -> Path:
    """First questions of all shipped files, the first one with a second turn."""
    shipped = [
        next(message.content for message in one.messages if message.role == "user")
        for one in load_corpus(["prompts/"]).prompts
        if one.messages
    ]
    chosen = shipped[:: len(shipped) // num_prompts][:num_prompts]
    rows = [
        {"id": f"p{place}", "turns": [f"{asked} {PLANTED}"]} for place, asked in enumerate(chosen)
    ]
    rows[0]["turns"].append(f"Why is that, {PLANTED}?")
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@dataclass(frozen=True)
class Replayed:
    folder: Path
    trace: ReplayTrace


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", 8)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("few") / "prompts.jsonl", 4)


@pytest.fixture(scope="module")
def greedy(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """All three candidates run for real, and ids kept."""
    folder = tmp_path_factory.mktemp("greedy") / "replay"
    request = request_for(prompts, include_text=True, num_confirmed=3)
    return Replayed(folder, start_replay(request, folder))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """At a temperature, drafts picked in both ways, and no text kept."""
    folder = tmp_path_factory.mktemp("sampled") / "replay"
    request = request_for(
        write_prompts(folder.with_name("prompts.jsonl"), 8),
        sampling=Sampling(temperature=0.8),
        draft_samplings=TWO_WAYS,
        num_confirmed=4,
    )
    return Replayed(folder, start_replay(request, folder))


def agreements(replayed: Replayed) -> dict[str, Agreement]:
    report = conclude_replay(replayed.trace, replayed.folder)
    return {one.candidate: one for one in report.agreements}


def test_a_greedy_replay_counts_the_passes_of_the_real_run(greedy: Replayed):
    """Every candidate at its best K, prompt by prompt: the same answers, as many passes."""
    found, num_answers = agreements(greedy), len(greedy.trace.answers)

    assert num_answers >= 9
    assert {"draft", f"early exit {EXIT_LAYER}", "ngram"} == set(found)
    for one in found.values():
        assert () == one.unequal
        assert (num_answers, num_answers) == (one.num_equal_counts, one.num_same_answers)
        assert 0 == one.num_other_answers


@pytest.fixture(scope="module")
def engine(greedy: Replayed) -> TransformersEngine:
    return TransformersEngine.load(greedy.trace.manifest.request.request.plan)


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("place", [0, 1, 2], ids=["draft", "early exit", "ngram"])
def test_a_greedy_replay_is_every_real_loop(
    greedy: Replayed, engine: TransformersEngine, place: int, k: int
):
    """Passes, drafts and kept drafts at K equal the real loop's, answer by answer."""
    candidate = greedy.trace.manifest.request.request.plan.speculative_arms[place]
    chosen = range(0, len(greedy.trace.answers), 3)
    answers = [greedy.trace.answers[i] for i in chosen]
    counts = count_replay(answers, [greedy.trace.scores[candidate.name][i] for i in chosen], MOST)
    predicted = [
        tuple(float(column[row, k - 1]) for column in columns_of(counts))
        for row in range(len(answers))
    ]

    assert [real_counts(engine, candidate.at(k), one) for one in answers] == predicted


def columns_of(counts: Any) -> tuple[Any, ...]:
    return (
        counts.num_passes,
        counts.num_drafted,
        counts.num_accepted,
        counts.num_drafted_blocks,
        counts.num_emitted,
    )


def real_counts(engine: TransformersEngine, arm: Arm, answer: Answer) -> tuple[float, ...]:
    settings = DecodeSettings(max_new_tokens=BUDGET)
    seen = engine.observe(answer.prompt_ids or (), arm, settings)
    assert answer.token_ids == seen.token_ids
    return (
        len(seen.blocks),
        sum(block.num_draft_tokens for block in seen.blocks),
        sum(block.num_accepted_tokens for block in seen.blocks),
        sum(block.num_draft_tokens > 0 for block in seen.blocks),
        len(seen.token_ids),
    )


@pytest.mark.parametrize(
    "candidate", ["draft", "draft greedy", f"early exit {EXIT_LAYER}", "ngram"]
)
def test_a_sampled_replay_predicts_the_length_that_is_measured(sampled: Replayed, candidate: str):
    """Other answers of the same prompts: no difference beyond what sampling explains.

    Twice the interval, so that another machine's rounding, and with it other draws, passes too.
    """
    difference = agreements(sampled)[candidate].length_difference

    assert isinstance(difference, Interval)
    assert abs(difference.value) < difference.high - difference.low


def test_drafts_picked_greedily_are_other_drafts(sampled: Replayed):
    """Greedy drafts are kept where they are the emitted token, and nowhere else."""
    drawn, point = (sampled.trace.scores[name] for name in ("draft", "draft greedy"))
    for one, other in zip(drawn, point, strict=True):
        assert isinstance(one, DraftScores)
        assert isinstance(other, DraftScores)
        assert [float(hit) for hit in other.argmax_hit] == list(other.accept_chance)
        assert one.argmax_hit == other.argmax_hit


def test_no_ids_are_left_unless_text_is_kept(greedy: Replayed, sampled: Replayed):
    """Sealing removes the parts with their ids; --include-text keeps both kinds of ids."""
    assert not (sampled.folder / replays.PARTS).exists()
    assert {(None, None)} == {(one.token_ids, one.prompt_ids) for one in sampled.trace.answers}
    for one in greedy.trace.answers:
        assert one.num_tokens == len(one.token_ids or ())
        assert one.num_prompt_tokens == len(one.prompt_ids or ())


def test_no_prompt_is_left_in_any_file(sampled: Replayed):
    """A word of every prompt is in no file, in no cell of a table, at no depth."""
    files = [path for path in sampled.folder.rglob("*") if path.is_file()]
    tables = [str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]

    assert len(tables) >= 5
    assert [] == [path.name for path in files if PLANTED.encode() in path.read_bytes()]
    assert [] == [table[:80] for table in tables if PLANTED in table]


def test_a_sealed_replay_is_read_as_it_was_recorded(greedy: Replayed):
    """Reading, and resuming what is finished, give the very trace."""
    assert greedy.trace == read_replay(greedy.folder)
    assert greedy.trace == resume_replay(greedy.folder)


def test_costs_are_timed_for_every_candidate(greedy: Replayed):
    """The table has all K as rows, and every candidate in every round."""
    timed, names = greedy.trace.costs, set(greedy.trace.scores)

    assert tuple(range(1, MOST + 2)) == timed.num_rows
    assert {frozenset(names)} == {frozenset(one.drafts) for one in timed.rounds}


@dataclass
class Worked:
    """What an engine was asked for."""

    num_answered: int = 0
    scored: list[tuple[str, Finished]] = field(default_factory=list)
    looked_up: list[Finished] = field(default_factory=list)


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> Worked:
    """Counts the work that all engines do from now on."""
    seen = Worked()
    answer, score, look_up = ReplayEngine.answer, ReplayEngine.score, ReplayEngine.look_up

    def answering(
        self: ReplayEngine, asked: Sequence[Asked], *, batch_size: int
    ) -> Iterator[tuple[int, Generated]]:
        seen.num_answered += len(asked)
        return answer(self, asked, batch_size=batch_size)

    def scoring(
        self: ReplayEngine, arms: Sequence[Arm], answers: Sequence[Finished], sampling: Sampling
    ) -> list[Scored]:
        is_drafting = any(arm.draft for arm in arms)  # exits are read from the target's pass
        seen.scored += [("draft" if is_drafting else "target", one) for one in answers]
        return score(self, arms, answers, sampling)

    def looking_up(self: ReplayEngine, arm: Arm, one: Finished, sampling: Sampling) -> LookupScores:
        seen.looked_up.append(one)
        return look_up(self, arm, one, sampling)

    monkeypatch.setattr(ReplayEngine, "answer", answering)
    monkeypatch.setattr(ReplayEngine, "score", scoring)
    monkeypatch.setattr(ReplayEngine, "look_up", looking_up)
    return seen


@pytest.fixture(scope="module")
def whole(few: Path, tmp_path_factory: pytest.TempPathFactory) -> ReplayTrace:
    """Five turns of four prompts, without an interruption."""
    return start_replay(few_requested(few), tmp_path_factory.mktemp("whole") / "replay")


def few_requested(few: Path) -> ReplayRequest:
    return request_for(few, sampling=Sampling(temperature=0.8), max_new_tokens=8)


def stops_at(num_trials: int) -> Callable[[], None]:
    seen = []

    def trial() -> None:
        seen.append(None)
        if len(seen) == num_trials:
            raise KeyboardInterrupt

    return trial


@pytest.mark.parametrize("num_trials", [1, 7, 12, 22])
def test_an_interrupted_replay_goes_on_where_it_was(
    few: Path, whole: ReplayTrace, tmp_path: Path, worked: Worked, num_trials: int
):
    """Stopped while answering or scoring: the same trace, and nothing on disk is done twice."""
    folder = tmp_path / "replay"
    with pytest.raises(KeyboardInterrupt):
        start_replay(few_requested(few), folder, watchers=Watchers(trial=stops_at(num_trials)))
    num_kept = len((folder / replays.PARTS / replays.ANSWER_PARTS).read_bytes().splitlines())
    worked.num_answered = 0
    resumed = resume_replay(folder)

    assert min(num_trials, 5) == num_kept
    assert 5 - num_kept == worked.num_answered
    assert 5 * ["target"] + 5 * ["draft"] == [arms for arms, _ in worked.scored]
    assert 5 == len(worked.looked_up)
    assert whole.answers == resumed.answers
    assert whole.target == resumed.target
    assert whole.scores == resumed.scores
    assert whole.candidates == resumed.candidates


def test_other_prompts_do_not_continue_a_replay(few: Path, prompts: Path, tmp_path: Path):
    """What was interrupted is finished over the same prompts, or not at all."""
    folder = tmp_path / "replay"
    with pytest.raises(KeyboardInterrupt):
        start_replay(few_requested(few), folder, watchers=Watchers(trial=stops_at(2)))

    with pytest.raises(UsageError, match="not those of the interrupted replay"):
        resume_replay(folder, [str(prompts)])


def test_workers_cannot_go_on_with_a_replay_of_one_process(few: Path, tmp_path: Path):
    """Its costs were timed here; the message says what to leave out."""
    folder = tmp_path / "replay"
    with pytest.raises(KeyboardInterrupt):
        start_replay(few_requested(few), folder, watchers=Watchers(trial=stops_at(2)))

    with pytest.raises(UsageError, match=r"no workers; leave --ray out"):
        resume_replay(folder, fleet=Fleet(address="local", num_workers=2))


def recorded(greedy: Replayed, path: Path, *, change: Callable[[str], str] = str) -> Path:
    """First turns with the target's own replies, where their text gives the same tokens again."""
    engine = ReplayEngine.load(greedy.trace.manifest.request.request.plan)
    rows = []
    for prompt in load_corpus(greedy.trace.manifest.corpus.sources).prompts:
        answer = next(
            one
            for one in greedy.trace.answers
            if (one.key.prompt_id, one.key.turn) == (prompt.prompt_id, 0)
        )
        ids = list(answer.token_ids or ())
        text = engine.reply_text(ids)
        said = ids[: len(ids) - (answer.finish_reason == "eos")]
        if engine.response_ids(text) == said:
            asked = {"role": "user", "content": prompt.turns[0][0].content}
            reply = {"role": "assistant", "content": change(text)}
            rows.append({"id": prompt.prompt_id, "messages": [asked, reply]})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def test_recorded_answers_score_as_generated_ones(greedy: Replayed, tmp_path: Path):
    """The target's own replies, read from a file, give the scores that generating them gave."""
    source = recorded(greedy, tmp_path / "recorded.jsonl")
    request = request_for(source, use_references=True)
    trace = start_replay(request, tmp_path / "replay")
    generated = {
        one.key.prompt_id: place
        for place, one in enumerate(greedy.trace.answers)
        if one.key.turn == 0
    }
    fit = trace.recording.plausibility

    assert len(trace.answers) >= 5
    assert fit is not None
    assert (0, 0.0) == (fit.num_other_greedy_answers, fit.mean_rank)
    assert trace.recording.generation_s is None
    for name, scores in trace.scores.items():
        for answer, found in zip(trace.answers, scores, strict=True):
            expected = greedy.trace.scores[name][generated[answer.key.prompt_id]]

            assert_same_beginning(expected, found)


def assert_same_beginning(expected: Any, found: Any) -> None:
    """A recorded reply has no end-of-sequence token; before that all is alike."""
    assert type(expected) is type(found)
    for name in found.__slots__:
        own, other = list(getattr(found, name)), list(getattr(expected, name))
        if name == "num_matching":  # a draft of the end token has nothing to match
            own, other = own[:-MOST], other[: len(own) - MOST]

        assert other[: len(own)] == pytest.approx(own, abs=1e-4), name


def test_another_models_responses_are_refused(greedy: Replayed, tmp_path: Path):
    """Words in another order are not what a greedy target says; the message has the mean rank."""
    source = recorded(greedy, tmp_path / "shuffled.jsonl", change=backwards)
    request = request_for(source, use_references=True)

    with pytest.raises(UsageError, match=r"not this target's greedy output \(mean rank \d+"):
        start_replay(request, tmp_path / "replay")


def backwards(text: str) -> str:
    return " ".join(reversed(text.split()))


def test_responses_that_are_missing_are_said_to_be(few: Path, tmp_path: Path):
    """A file without responses cannot be replayed as if it had them."""
    request = replace(few_requested(few), use_references=True)

    with pytest.raises(UsageError, match="no recorded response"):
        start_replay(request, tmp_path / "replay")
