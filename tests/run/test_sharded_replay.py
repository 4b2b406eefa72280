"""A replay over several workers is the replay of one, whoever dies."""

import pickle
from array import array
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from specmeasure.engines.replay import Asked
from specmeasure.errors import ClusterError, WorkersLost
from specmeasure.records.plan import DecodeSettings, Sampling
from specmeasure.records.replay import ReplayRequest
from specmeasure.records.request import Request
from specmeasure.run.costing import timed_contexts
from specmeasure.run.events import MOST_DEATHS
from specmeasure.run.pool import Pool
from specmeasure.run.replay_tasks import (
    AnswerTurns,
    DescribeTarget,
    ScoreDrafts,
    ScoreTarget,
    TimeTarget,
    Weigh,
)
from specmeasure.run.replay_workers import PooledTarget, ReplayWorkers, share_out
from specmeasure.run.replayer import Replayer
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace import replays
from tests.estimate.replays import make_answer, replay_trace
from tests.fakes import make_chat, make_environment, make_prompts
from tests.run.scripted_workers import ScriptedCrew

PROMPTS = [*make_prompts(20), make_chat("talk", 3)]
NUM_TURNS, NUM_GROUPS = 23, 3  # each draft, and the lookup
PLANTED = "please"  # a word of many prompts


class CharTexts:
    """A tokenizer of characters; an answer's text is its ids."""

    def context_ids(self, prompt, replies):
        words = [prompt.text or "", *(one.content for one in prompt.messages or ()), *replies]
        return [ord(letter) for letter in "".join(words)][: 100 + 20 * len(replies)]

    def reply_text(self, token_ids):
        return " ".join(map(str, token_ids))

    def response_ids(self, text):
        return [ord(letter) for letter in text]


def requested(**changes):
    manifest = replay_trace(num_prompts=1).manifest
    plan = replace(manifest.request.request.plan, max_new_tokens=12)
    request = Request(plan=plan, sources=("prompts.jsonl",))
    return replace(
        manifest, request=ReplayRequest(request=request, batch_size=3, **changes), warnings=()
    )


def replay(folder, crew, *, num_workers, watchers=SILENT, joined=None):
    """Record a replay, or go on with it."""
    manifest = requested()
    if not replays.is_replay(folder):
        replays.create_replay(folder, manifest)
    pool = Pool(crew, num_workers=num_workers, pools_hardware=True)
    with pool, replays.ReplayJournal(folder) as journal:
        workers = ReplayWorkers(pool, watchers, joined or (lambda _: None))
        target = PooledTarget(
            known=workers.describe(), texts=CharTexts(), workers=workers, splits=True
        )
        Replayer(manifest.request, target, journal, None, watchers).record(PROMPTS)
    return replays.read_replay(folder)


def timeless(trace):
    """What does not depend on who worked when."""
    recording = replace(trace.recording, generation_s=None, scoring_s=None)
    return replace(trace, recording=recording, costs=replace(trace.costs, machine=""))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The replay of one worker."""
    return replay(tmp_path_factory.mktemp("whole"), ScriptedCrew(), num_workers=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_workers", [2, 3, 7])
def test_more_workers_give_the_same_replay(tmp_path, whole, num_workers, seed):
    """Answers, scores, facts and costs, bit for bit, however tasks overlap."""
    crew = ScriptedCrew(seed=seed)

    assert timeless(whole) == timeless(replay(tmp_path, crew, num_workers=num_workers))
    assert NUM_TURNS == len(whole.answers)
    assert len({who for who, _ in crew.begun}) == num_workers


def at(kind, nth, *, after=0):
    """A script: the worker dies that begins the ``nth`` task of a kind, ``after`` findings."""
    begun = []

    def dies(_who, task, num_told):
        if isinstance(task, kind) and not any(task is one for one in begun):
            begun.append(task)
        found = isinstance(task, kind) and len(begun) > nth and task is begun[nth]
        if found and num_told == after:
            begun[nth] = None  # once
            return True
        return False

    return dies


@pytest.mark.parametrize("kind", [AnswerTurns, ScoreTarget, ScoreDrafts, TimeTarget, Weigh])
@pytest.mark.parametrize("after", [0, 1])
def test_a_dead_worker_changes_nothing(tmp_path, whole, kind, after):
    """Its task goes to another, from the beginning; what it told already is not kept twice."""
    warnings = []
    crew = ScriptedCrew(dies=at(kind, 0, after=after))
    trace = replay(tmp_path, crew, num_workers=3, watchers=Watchers(warning=warnings.append))

    assert timeless(whole) == timeless(trace)
    assert 1 == sum("what it was at goes to another" in warning for warning in warnings)


def test_a_worker_that_comes_later_is_told_of(tmp_path):
    """The manifest can name everyone who worked."""
    came = []
    replay(tmp_path, ScriptedCrew(dies=at(ScoreTarget, 2)), num_workers=3, joined=came.append)

    assert [3] == [worker.number for worker in came]


def test_progress_counts_every_turn_once_for_everything(tmp_path):
    """However many workers: one count for an answer, one for the target, one for each group."""
    planned, ended = [], []
    watchers = Watchers(planned=planned.append, trial=lambda: ended.append(None))
    crew = ScriptedCrew(dies=at(ScoreDrafts, 3, after=1))
    replay(tmp_path, crew, num_workers=3, watchers=watchers)

    assert [NUM_TURNS * (2 + NUM_GROUPS)] == planned
    assert planned == [len(ended)]


def test_an_answer_that_ends_every_worker_is_left_out(tmp_path, whole):
    """Its share is told of with the reason, and the rest of the replay is as it would be."""

    def dies(_who, task, _told):
        return isinstance(task, AnswerTurns) and any(
            len(one.context_ids) == longest for one in task.asked.values()
        )

    longest = max(answer.num_prompt_tokens for answer in whole.answers if answer.key.turn == 0)
    trace = replay(tmp_path, ScriptedCrew(dies=dies), num_workers=3)
    (left_out,) = trace.recording.left_out
    found = {answer.key: answer for answer in whole.answers}

    assert "workers died while it was answered" == left_out.reason
    assert NUM_TURNS - left_out.num_rows == len(trace.answers) > 0
    assert [found[answer.key] for answer in trace.answers] == list(trace.answers)


def test_a_batch_that_ends_every_worker_ends_the_replay(tmp_path, whole):
    """It cannot be scored and is not left out: an error with a remedy, and --resume goes on."""
    ended = []

    def dies(_who, task, _told):
        if isinstance(task, ScoreDrafts) and task.batch.index == 4 and len(ended) < MOST_DEATHS:
            ended.append(task)
            return True
        return False

    with pytest.raises(WorkersLost, match=r"smaller --batch-size"):
        replay(tmp_path, ScriptedCrew(dies=dies), num_workers=3)
    crew = ScriptedCrew()
    resumed = replay(tmp_path, crew, num_workers=2)

    assert timeless(whole).scores == resumed.scores
    assert whole.answers == resumed.answers
    assert 0 == sum(isinstance(task, AnswerTurns | ScoreTarget) for _, task in crew.begun)


@pytest.mark.parametrize("num_trials", [1, 10, 30, 60, 100])
def test_an_interrupted_replay_goes_on_with_other_workers(tmp_path, whole, num_trials):
    """Nothing that is on disk is asked of a worker again; the trace is that of one session."""
    seen = []

    def trial():
        seen.append(None)
        if len(seen) == num_trials:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(tmp_path, ScriptedCrew(), num_workers=3, watchers=Watchers(trial=trial))
    with replays.ReplayJournal(tmp_path) as journal:
        kept = {answer.key for answer in journal.answers()}
        scored = {index for index in range(NUM_TURNS) if journal.has_positions(index)}
    crew = ScriptedCrew(seed=1)
    resumed = replay(tmp_path, crew, num_workers=2)
    answered = sum(len(task.asked) for _, task in crew.begun if isinstance(task, AnswerTurns))
    again = {task.batch.index for _, task in crew.begun if isinstance(task, ScoreTarget)}

    assert NUM_TURNS - len(kept) == answered
    assert set() == again & scored
    assert (whole.answers, whole.target) == (resumed.answers, resumed.target)
    assert whole.scores == resumed.scores


def test_steps_are_timed_by_one_worker_while_no_other_works(tmp_path):
    """Nothing overlaps a task that times, and the table says who timed."""
    crew = ScriptedCrew()
    trace = replay(tmp_path, crew, num_workers=3)
    timing = [who for who, task in crew.begun if isinstance(task, TimeTarget | Weigh)]
    overlapped = {type(task) for task in crew.overlapping}

    assert [0] * 4 == timing
    assert {AnswerTurns, ScoreTarget, ScoreDrafts} == overlapped
    assert (
        trace.costs.machine == "a CPU, 4 cores, 2 threads (worker 0; the others had nothing to do)"
    )


def test_workers_that_timed_are_all_named(tmp_path):
    """One that died while it timed is followed by one of its hardware."""
    crew = ScriptedCrew(dies=at(Weigh, 1))
    trace = replay(tmp_path, crew, num_workers=3)

    assert "a CPU, 4 cores, 2 threads (workers 0 and 1; the others" in trace.costs.machine


def test_times_of_unlike_hardware_are_not_put_together(tmp_path):
    """Where the worker that timed is gone, all is timed again on what is left."""
    slow = make_environment(cpu="another CPU")
    crew = ScriptedCrew(dies=at(Weigh, 1), environments={1: slow, 2: slow})
    with pytest.raises(WorkersLost, match=r"\(a CPU, 4 cores, 2 threads\) is gone, .* another CPU"):
        replay(tmp_path, crew, num_workers=2)
    others = ScriptedCrew(environments={0: slow, 1: slow})
    trace = replay(tmp_path, others, num_workers=2)
    counts = Counter(type(task) for _, task in others.begun)

    assert {DescribeTarget: 1, TimeTarget: 1, Weigh: 3, ScoreDrafts: 8} == counts
    assert trace.costs.machine.startswith("another CPU")


def test_a_fitting_worker_times_whoever_else_is_free(tmp_path):
    """Candidates are timed on the target's hardware for as long as one of it lives."""
    slow = make_environment(cpu="another CPU")
    crew = ScriptedCrew(dies=at(Weigh, 1), environments={1: slow, 3: slow})
    trace = replay(tmp_path, crew, num_workers=3)
    timing = {who for who, task in crew.begun if isinstance(task, TimeTarget | Weigh)}

    assert {0, 2} == timing
    assert "a CPU, 4 cores, 2 threads (workers 0 and 2; the others" in trace.costs.machine


def test_another_draft_on_another_node_is_refused(tmp_path):
    """The same name is not the same weights; both nodes are named."""
    crew = ScriptedCrew(drafts={1: "e" * 64})

    with pytest.raises(ClusterError, match=r"draft on node node-\d is not that on node node-\d"):
        replay(tmp_path, crew, num_workers=2)


def test_no_text_goes_to_workers(tmp_path):
    """Tasks hold token ids: no word of any prompt, as it is or pickled."""
    crew = ScriptedCrew()
    replay(tmp_path, crew, num_workers=3)

    assert any(PLANTED in prompt.text for prompt in PROMPTS if prompt.text)
    assert [] == [task for _, task in crew.begun if PLANTED.encode() in pickle.dumps(task)]


def test_ids_of_few_answers_are_in_memory(tmp_path):
    """A task that scores holds one batch, and is asked for when a worker is free."""
    crew = ScriptedCrew()
    replay(tmp_path, crew, num_workers=3)
    sizes = [len(task.batch.answers) for _, task in crew.begun if hasattr(task, "batch")]

    assert 3 == max(sizes)
    assert (1 + NUM_GROUPS) * 8 == len(sizes)


def asked(length, sampling=Sampling()):  # noqa: B008 - frozen
    settings = DecodeSettings(max_new_tokens=5, sampling=sampling)
    return Asked(context_ids=array("i", [1] * length), settings=settings, seed=0)


@pytest.mark.parametrize(
    ("num_asked", "sizes"),
    [(1, {1}), (7, {4, 3}), (100, {4}), (1000, {32, 8}), (10_000, {32, 16})],
)
def test_shares_suit_many_workers(num_asked, sizes):
    """At least a batch and at most eight, 32 shares where that leaves a batch; each asked once."""
    rng = np.random.default_rng(0)
    all_asked = [asked(int(length)) for length in rng.integers(1, 400, size=num_asked)]
    shares = share_out(all_asked, 4)
    lengths = [len(all_asked[place].context_ids) for share in shares for place in share]

    assert list(range(num_asked)) == sorted(place for share in shares for place in share)
    assert sizes == {len(share) for share in shares}
    assert sorted(lengths) == lengths


def test_a_share_is_of_one_sampling_setting():
    """Answers that are drawn otherwise are not decoded together."""
    warm = Sampling(temperature=0.8)
    mixed = [asked(9 - place, warm if place % 2 else Sampling()) for place in range(9)]

    assert [[8, 6, 4], [2, 0], [7, 5, 3], [1]] == share_out(mixed, 3)


@pytest.mark.parametrize("seed", range(5))
def test_timed_contexts_are_quantiles_of_all_blocks(seed):
    """The same as of a list of every block's context."""
    rng = np.random.default_rng(seed)
    answers = [
        make_answer(num_tokens=int(tokens), num_prompt_tokens=int(prompt))
        for tokens, prompt in rng.integers(1, 60, size=(1 + 10 * seed, 2))
    ]
    every = [one.num_prompt_tokens + i for one in answers for i in range(1, one.num_tokens)]
    quantiles = (0.1, 0.5, 0.9)

    assert timed_contexts(answers, quantiles) == [
        int(one) for one in np.quantile(every, quantiles, method="nearest")
    ]


def test_an_answer_of_one_token_is_timed_at_its_prompt():
    """Without a second block, the context is the prompt's."""
    assert [17] == timed_contexts([make_answer(num_tokens=1, num_prompt_tokens=17)], (0.5,))
