"""Replay folders: what was scored is what is read, and nothing else is read as a replay."""

import json
from array import array
from dataclasses import asdict, replace

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.records.costs import CostTable
from specmeasure.records.machine import Fleet, Worker
from specmeasure.records.plan import Sampling
from specmeasure.records.replay import DraftScores, HeadScores, LookupScores
from specmeasure.records.trace import FinishReason
from specmeasure.trace import replay_answers, replay_tables, replays
from specmeasure.trace.replays import ReplayJournal, create_replay, read_replay
from tests.estimate.replays import make_answer, make_costs, replay_trace

TABLES = (replays.ANSWERS, replays.POSITIONS, replays.SCORES)


@pytest.fixture(scope="module")
def trace():
    """Two drafts and a lookup on 7 prompts of two turns."""
    return drawn_trace(num_prompts=7, num_turns=2, budget=40)


def drawn_trace(**changes):
    """``replay_trace`` with costs in Python's own numbers, as a recording has them."""
    costs = msgspec.json.decode(json.dumps(asdict(make_costs(num_rounds=2))), type=CostTable)
    return replay_trace(costs=costs, **changes)


def write_parts(folder, trace, *, size=4):
    """A recorded replay whose answers stand in batches, before it is sealed."""
    create_replay(folder, trace.manifest)
    with ReplayJournal(folder) as journal:
        for answer in trace.answers:
            journal.add_answer(answer)
        for batch, start in enumerate(range(0, len(trace.answers), size)):
            places = range(start, min(start + size, len(trace.answers)))[::-1]
            journal.add_positions(batch, {place: trace.target[place] for place in places})
            for candidate, (name, scores) in enumerate(trace.scores.items()):
                journal.add_scores(candidate, name, batch, {i: scores[i] for i in places})


def seal(folder, trace):
    with ReplayJournal(folder) as journal:
        journal.seal(trace.answers, trace.recording, trace.candidates, trace.costs)


@pytest.fixture
def sealed(tmp_path, trace):
    folder = tmp_path / "sealed"
    write_parts(folder, trace)
    seal(folder, trace)
    return folder


@pytest.fixture
def unsealed(tmp_path, trace):
    folder = tmp_path / "unsealed"
    write_parts(folder, trace)
    return folder


def test_what_was_recorded_is_read(sealed, trace):
    """Every record, bit for bit: answers, target, drafts, lookups, facts and costs."""
    found = read_replay(sealed)

    assert trace == found
    assert {"small": DraftScores, "large": DraftScores, "ngram": LookupScores} == {
        name: type(scores[0]) for name, scores in found.scores.items()
    }


def test_what_is_absent_is_read_as_absent(tmp_path, trace):
    """A recorded response has no budget; kept ids come back, dropped ones are None."""
    kept = make_answer(
        "p0",
        num_tokens=trace.answers[0].num_tokens,
        sampling=Sampling(temperature=0.7, top_p=0.9),
        finish_reason=FinishReason.RECORDED,
        token_ids=tuple(range(trace.answers[0].num_tokens)),
        prompt_ids=(5, 70_000),
    )
    changed = replace(trace, answers=(kept, *trace.answers[1:]))
    write_parts(tmp_path, changed)
    seal(tmp_path, changed)

    assert changed == read_replay(tmp_path)


def test_extreme_scores_are_read_as_they_were(tmp_path, trace):
    """The largest rank, a full lookup, chances at both ends: no column is too narrow."""
    num_tokens = trace.answers[0].num_tokens
    target = replace(trace.target[0], token_rank=array("i", [260_000] * num_tokens))
    draft = replace(
        trace.scores["small"][0],
        accept_chance=array("f", [0.0, 1.0, 1e-30] + [0.5] * (num_tokens - 3)),
        token_rank=array("i", [2**31 - 1] * num_tokens),
    )
    lookup = LookupScores(
        num_drafts=array("h", [32_000] * num_tokens), num_matching=array("h", [0] * num_tokens)
    )
    scores = {
        **trace.scores,
        "small": (draft, *trace.scores["small"][1:]),
        "ngram": (lookup, *trace.scores["ngram"][1:]),
    }
    changed = replace(trace, target=(target, *trace.target[1:]), scores=scores)
    write_parts(tmp_path, changed)
    seal(tmp_path, changed)

    assert changed == read_replay(tmp_path)


def head_scores(num_tokens, num_heads, seed=0):
    """Ranks and chances that are all different."""
    rng, size = np.random.default_rng(seed), num_tokens * num_heads
    return HeadScores(
        num_heads=num_heads,
        rank=array("i", (rng.permutation(size) - 1).tolist()),
        accept_chance=array("f", rng.random(size).tolist()),
    )


def test_heads_are_read_beside_other_candidates(tmp_path, trace):
    """Every head's rank and chance stands at its token again; drafts and lookups are as before."""
    heads = tuple(
        head_scores(answer.num_tokens, 3, seed) for seed, answer in enumerate(trace.answers)
    )
    one_head = tuple(head_scores(answer.num_tokens, 1) for answer in trace.answers)
    changed = replace(trace, scores={**trace.scores, "medusa": heads, "one head": one_head})
    write_parts(tmp_path, changed)
    seal(tmp_path, changed)

    assert changed == read_replay(tmp_path)


def test_heads_at_the_ends_of_their_ranges(tmp_path, trace):
    """No token, the largest rank, chances down to the smallest: no column is too narrow."""
    size = 2 * trace.answers[0].num_tokens
    extreme = HeadScores(
        num_heads=2,
        rank=array("i", [-1, 2**31 - 1] + [0] * (size - 2)),
        accept_chance=array("f", [0.0, 1.0, 1e-30] + [0.5] * (size - 3)),
    )
    others = (head_scores(answer.num_tokens, 2) for answer in trace.answers[1:])
    changed = replace(trace, scores={**trace.scores, "medusa": (extreme, *others)})
    write_parts(tmp_path, changed)
    seal(tmp_path, changed)

    assert changed == read_replay(tmp_path)


def test_an_answer_of_one_token_is_read(tmp_path):
    """The shortest answers stand in the tables like any other."""
    trace = drawn_trace(num_prompts=3, budget=1)
    trace = replace(trace, scores={**trace.scores, "medusa": (head_scores(1, 4),) * 3})
    write_parts(tmp_path, trace, size=1)
    seal(tmp_path, trace)

    assert {1} == {answer.num_tokens for answer in trace.answers}
    assert trace == read_replay(tmp_path)


@pytest.mark.parametrize("name", [*TABLES, replays.MANIFEST, replays.RECORDING])
def test_a_changed_file_is_refused(sealed, name):
    """Any sealed file that is longer, other or gone is named."""
    path = sealed / name
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(UnreadableTrace, match=f"{name}: missing, or changed"):
        read_replay(sealed)


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_table_is_refused(sealed, name):
    """A folder that lost a table is not half a replay."""
    (sealed / name).unlink()

    with pytest.raises(UnreadableTrace, match=f"{name}: missing, or changed"):
        read_replay(sealed)


def test_an_unfinished_replay_is_refused_with_the_way_on(unsealed):
    """What is still recorded is not read; the command that finishes it is named."""
    with pytest.raises(UnreadableTrace, match=f"specmeasure replay --resume {unsealed}"):
        read_replay(unsealed)


def test_no_replay_is_named(tmp_path):
    """A folder without a manifest is not a replay."""
    with pytest.raises(UnreadableTrace, match=r"no replay\.json there"):
        read_replay(tmp_path)


@pytest.mark.parametrize("version", [0, 1, "2", None])
def test_another_schema_is_refused(sealed, version):
    """The message names both versions."""
    path = sealed / replays.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": version}))

    with pytest.raises(UnreadableTrace, match=f"version {version}, this specmeasure reads 2"):
        read_replay(sealed)


@pytest.mark.parametrize("content", ["", "[]", "3", '{"schema_version": 2}', "{"])
def test_a_damaged_manifest_is_refused(unsealed, content):
    """Named, not raised as a decoder's error."""
    (unsealed / replays.MANIFEST).write_text(content)

    with pytest.raises(UnreadableTrace, match=r"replay\.json: damaged"):
        read_replay(unsealed)


def test_a_second_recorder_is_refused(unsealed):
    """One process records at a time; the lock goes with the first."""
    with ReplayJournal(unsealed), pytest.raises(UsageError, match="another process is recording"):
        ReplayJournal(unsealed)
    with ReplayJournal(unsealed) as journal:
        assert journal.has_positions(0)


def test_a_torn_line_is_cut(unsealed, trace):
    """What a crash left of a line goes; the answers before it stay, and new ones follow them."""
    path = unsealed / replays.PARTS / replays.ANSWER_PARTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with ReplayJournal(unsealed) as journal:
        kept = list(journal.answers())
        journal.add_answer(trace.answers[-1])

        assert list(trace.answers[:-1]) == kept
        assert list(trace.answers) == list(journal.answers())
    assert whole == path.read_bytes()


def test_a_damaged_line_is_refused(unsealed):
    """Damage inside is no torn end: nothing is guessed."""
    path = unsealed / replays.PARTS / replays.ANSWER_PARTS
    path.write_bytes(b"{}\n" + path.read_bytes())

    with (
        ReplayJournal(unsealed) as journal,
        pytest.raises(UnreadableTrace, match=r"answers\.jsonl: damaged"),
    ):
        list(journal.answers())


def test_parts_are_their_owners_alone(unsealed):
    """Token ids can be turned into text; nobody else reads them."""
    assert 0o700 == (unsealed / replays.PARTS).stat().st_mode & 0o777


def test_sealing_removes_the_parts(sealed):
    """Only tables and facts are left."""
    expected = {*TABLES, replays.MANIFEST, replays.RECORDING, replays.SEAL}

    assert expected == {path.name for path in sealed.iterdir()}


def test_what_is_there_is_said_batch_by_batch(unsealed):
    """A session that goes on sees which tables are whole."""
    with ReplayJournal(unsealed) as journal:
        assert [True, True, True, True, False] == [journal.has_positions(i) for i in range(5)]
        assert [True, False] == [journal.has_scores(2, i) for i in (3, 4)]
        assert not journal.has_scores(3, 0)


def test_notes_are_kept(unsealed, trace):
    """A record under a name comes back as it was; another name has none."""
    with ReplayJournal(unsealed) as journal:
        journal.note("costs", trace.costs)
    with ReplayJournal(unsealed) as journal:
        assert trace.costs == journal.noted("costs", type(trace.costs))
        assert journal.noted("other", type(trace.costs)) is None


def test_an_existing_replay_is_not_overwritten(sealed, trace):
    """Starting where a replay is needs --force or another folder; both are named."""
    with pytest.raises(UsageError, match=r"--resume .*--out.*--force"):
        create_replay(sealed, trace.manifest)


def test_a_replaced_replay_leaves_nothing_behind(sealed, trace):
    """With --force the folder starts anew: no old table, no old seal."""
    create_replay(sealed, trace.manifest, replace=True)

    assert [replays.MANIFEST] == [path.name for path in sealed.iterdir()]
    assert not replays.is_sealed(sealed)


def test_many_row_groups_are_read_as_one(unsealed, trace, monkeypatch):
    """Groups hold whole answers of one candidate, whatever their size; the trace is the same."""
    monkeypatch.setattr(replay_tables, "ROWS_PER_GROUP", 100)
    monkeypatch.setattr(replay_answers, "ROWS_PER_GROUP", 3)
    seal(unsealed, trace)
    file = pq.ParquetFile(unsealed / replays.SCORES)
    groups = [file.read_row_group(number) for number in range(file.num_row_groups)]

    assert trace == read_replay(unsealed)
    assert len(groups) > len(trace.scores)
    assert {1} == {len(set(one["candidate"].to_pylist())) for one in groups}
    assert 5 == pq.ParquetFile(unsealed / replays.ANSWERS).num_row_groups


@pytest.mark.parametrize("size", [7, 1_000_000])
def test_groups_that_split_answers_are_read(sealed, trace, size):
    """Tables that were written in groups of rows, all candidates together, hold the same scores."""
    for name in (replays.POSITIONS, replays.SCORES):
        pq.write_table(pq.read_table(sealed / name), sealed / name, row_group_size=size)
    positions = replay_tables.read_positions(sealed / replays.POSITIONS)
    scores = replay_tables.read_scores(sealed / replays.SCORES)
    places = range(len(trace.answers))

    assert list(trace.target) == [positions[place] for place in places]
    assert {name: list(own) for name, own in trace.scores.items()} == {
        name: [own[place] for place in places] for name, own in scores.items()
    }


def test_one_answer_is_found_where_it_stands(unsealed, trace):
    """By its key, among those that were there and those added since, before and after a cut."""
    path = unsealed / replays.PARTS / replays.ANSWER_PARTS
    path.write_bytes(path.read_bytes()[:-9])
    with ReplayJournal(unsealed) as journal:
        assert len(trace.answers) - 1 == sum(1 for _ in journal.answers())
        journal.add_answer(trace.answers[-1])

        for answer in trace.answers[::-1]:
            assert answer == journal.answer(answer.key)


def test_later_workers_join_the_manifest(unsealed, trace):
    """Each number once, in the order in which they came."""
    first, second = (
        Worker(number=number, node="alpha", environment=trace.manifest.environment)
        for number in range(2)
    )
    replays.add_workers(unsealed, [first])
    replays.add_workers(unsealed, [first, second])
    found = replays.read_replay_manifest(unsealed)

    assert replace(trace.manifest, workers=(first, second)) == found


def test_workers_that_are_asked_for_later_are_in_the_manifest(unsealed):
    """As the request of a replay that goes on now says."""
    fleet = Fleet(address="local", num_workers=3, pools_hardware=True)
    replays.add_workers(unsealed, [], fleet)

    assert fleet == replays.read_replay_manifest(unsealed).request.request.fleet


def test_nothing_is_added_to_a_sealed_replay(sealed, trace):
    """Its seal holds the manifest's digest."""
    worker = Worker(number=0, node="alpha", environment=trace.manifest.environment)

    with pytest.raises(UsageError, match="is finished"):
        replays.add_workers(sealed, [worker])
    assert trace == read_replay(sealed)
