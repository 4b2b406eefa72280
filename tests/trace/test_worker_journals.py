"""Journals of workers: read as one run, in which a turn counts as it was begun last."""

import json
from dataclasses import replace

import pytest

from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.records.machine import Worker
from specmeasure.records.trace import Audit, Checks
from specmeasure.trace import store
from tests.fakes import make_manifest, make_plan, make_trial

ARMS = ("baseline", "draft k=4")
CHECKED = Checks(audit=Audit(num_checked_tokens=3, suspects=()))


@pytest.fixture
def folder(tmp_path):
    store.create_run(tmp_path, make_manifest(make_plan(), []))
    return tmp_path


def trial(prompt_id, arm="baseline", turn=0, **facts):
    one = make_trial(prompt_id)
    return replace(one, key=replace(one.key, arm=arm, turn=turn), **facts)


def tell(journals, worker, prompt_id, *arms, turn=0, **facts):
    for arm in arms:
        journals.add_trial(worker, trial(prompt_id, arm, turn, **facts))


def check(journals, worker, prompt_id):
    journals.add_checks(worker, {trial(prompt_id, arm).key: CHECKED for arm in ARMS})


def told(trace):
    return [(one.worker, one.key.prompt_id, one.key.turn, one.key.arm) for one in trace.trials]


def read_and_sealed(folder):
    """The run before and after sealing; both hold the same."""
    running = store.read_trace(folder)
    store.seal_run(folder)
    assert replace(running, sealed=True) == store.read_trace(folder)
    return running


def test_workers_follow_one_another(folder):
    """Trials are read worker by worker, each with its number, whoever was first."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 10, "b", "baseline")
        tell(journals, 2, "a", *ARMS)
        tell(journals, 10, "b", "draft k=4")

    trace = read_and_sealed(folder)

    assert [(2, "a"), (2, "a"), (10, "b"), (10, "b")] == [row[:2] for row in told(trace)]
    assert 0 == trace.num_void


def test_a_turn_counts_as_it_was_begun_last(folder):
    """What a worker told before it died is void, also the trials that no one told again."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 1, "a", *ARMS)
        tell(journals, 1, "b", "draft k=4")
        tell(journals, 0, "b", "baseline")

    trace = read_and_sealed(folder)

    assert [(0, "b"), (1, "a"), (1, "a")] == [row[:2] for row in told(trace)]
    assert 1 == trace.num_void


def test_the_later_session_counts(folder):
    """A turn that was begun again after an interruption counts as it was begun then."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 1, "a", *ARMS, decode_s=1.0)
    with store.WorkerJournals(folder) as journals:
        tell(journals, 0, "a", *ARMS, decode_s=2.0)
        check(journals, 0, "a")
    with store.WorkerJournals(folder) as journals:
        tell(journals, 1, "b", "baseline")

    trace = read_and_sealed(folder)

    assert [2.0, 2.0] == [one.decode_s for one in trace.trials if one.key.prompt_id == "a"]
    assert [CHECKED, CHECKED, None] == [one.checks for one in trace.trials]


def test_one_worker_measures_a_turn_again(folder):
    """Also in one file the later beginning counts, and checks go to the trials that count."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 0, "a", *ARMS, decode_s=1.0)
        check(journals, 0, "a")
        journals.begin(0, "a", 0)
        tell(journals, 0, "a", *ARMS, decode_s=2.0)

    trace = read_and_sealed(folder)

    assert [(2.0, None), (2.0, None)] == [(one.decode_s, one.checks) for one in trace.trials]
    assert 2 == trace.num_void


def test_a_trial_counts_as_it_stands_last(folder):
    """A turn that is given up ends in rows with errors, some of trials that were told before."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 0, "a", "draft k=4")
        journals.add_checks(0, {trial("a", "draft k=4").key: CHECKED})
        tell(journals, 0, "a", *ARMS, error="several workers died")

    trace = read_and_sealed(folder)

    assert ["several workers died"] * 2 == [one.error for one in trace.trials]
    assert [None, None] == [one.checks for one in trace.trials]


def test_turns_count_each_by_itself(folder):
    """The first turn of a talk stays with the worker that finished it."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 0, "talk", *ARMS)
        tell(journals, 0, "talk", "baseline", turn=1)
        tell(journals, 1, "talk", *ARMS, turn=1)

    assert [0, 0, 1, 1] == [row[0] for row in told(read_and_sealed(folder))]


def test_a_torn_line_is_cut_when_its_worker_goes_on(folder):
    """What a crash left of a line does not run into the next one."""
    path = folder / "journal-3.jsonl"
    with store.WorkerJournals(folder) as journals:
        tell(journals, 3, "a", *ARMS)
    path.write_bytes(path.read_bytes()[:-7])
    assert 1 == len(store.read_trace(folder).trials)

    with store.WorkerJournals(folder) as journals:
        tell(journals, 3, "a", *ARMS)

    assert [(3, "a"), (3, "a")] == [row[:2] for row in told(read_and_sealed(folder))]


@pytest.mark.parametrize("spoil", [lambda lines: lines[1:], lambda lines: [b"{}", *lines]])
def test_a_damaged_journal_of_a_worker_is_refused(folder, spoil):
    """Its file and line are named; a trial needs its turn's beginning."""
    path = folder / "journal-0.jsonl"
    with store.WorkerJournals(folder) as journals:
        tell(journals, 0, "a", *ARMS)
    path.write_bytes(b"\n".join(spoil(path.read_bytes().splitlines())) + b"\n")

    with pytest.raises(UnreadableTrace, match=r"journal-0.jsonl:1: damaged"):
        store.read_trace(folder)


def test_the_folder_has_one_lock(folder):
    """Whoever records into it, over workers or not, the next is refused."""
    with store.WorkerJournals(folder):
        with pytest.raises(UsageError, match="another process is recording"):
            store.Journal(folder)
        with pytest.raises(UsageError, match="another process is recording"):
            store.WorkerJournals(folder)
        with pytest.raises(UsageError, match="another process is recording"):
            store.refuse_busy(folder)

    store.refuse_busy(folder)


def test_a_replaced_run_leaves_no_journals(folder):
    """Replacing a run over workers deletes what its workers told."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 0, "a", *ARMS)

    store.create_run(folder, store.read_manifest(folder), replace_run=True)

    assert () == store.read_trace(folder).trials
    assert {store.MANIFEST, store.JOURNAL} == {path.name for path in folder.iterdir()}


def test_sealing_drops_all_journals(folder):
    """The seal counts what is void; sealing again removes what a crash left."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 1, "a", *ARMS)
        tell(journals, 0, "a", *ARMS)
    store.seal_run(folder)
    (folder / "journal-1.jsonl").write_bytes(b"")
    store.seal_run(folder)

    assert 2 == json.loads((folder / store.SEAL).read_text())["num_void"]
    assert [] == list(folder.glob("journal*"))


def test_later_workers_are_added(folder):
    """Once each; those that the manifest knows stay as they are."""
    machine = store.read_manifest(folder).environment
    first, again, second = (
        Worker(number=number, node=node, environment=machine)
        for number, node in ((0, "here"), (0, "there"), (1, "there"))
    )

    store.add_workers(folder, [first])
    store.add_workers(folder, [again, second])

    assert (first, second) == store.read_manifest(folder).workers


def test_nothing_is_added_to_a_sealed_run(folder):
    """Its seal holds the manifest's digest."""
    worker = Worker(number=0, node="here", environment=store.read_manifest(folder).environment)
    store.seal_run(folder)

    with pytest.raises(UsageError, match="is finished"):
        store.add_workers(folder, [worker])
    assert store.read_trace(folder).sealed


def test_the_next_worker_has_a_number_of_its_own(folder):
    """Neither one that the manifest knows nor one that a journal names."""
    worker = Worker(number=2, node="here", environment=store.read_manifest(folder).environment)
    assert 0 == store.next_worker(folder, [])
    assert 3 == store.next_worker(folder, [worker])

    with store.WorkerJournals(folder) as journals:
        tell(journals, 5, "a", "baseline")

    assert 6 == store.next_worker(folder, [worker])


def test_empty_checks_say_that_a_turn_ended(folder):
    """They are read back as checks that found nothing, not as checks that were never made."""
    with store.WorkerJournals(folder) as journals:
        tell(journals, 0, "a", *ARMS)
        journals.add_checks(0, {trial("a", "baseline").key: Checks()})

    assert [Checks(), None] == [one.checks for one in store.read_trace(folder).trials]
