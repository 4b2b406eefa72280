"""Tasks over workers: each is finished once, whoever dies."""

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from specmeasure.errors import BrokenLogits, ClusterError, ModelNotFound, WorkersLost
from specmeasure.records.plan import ModelOptions
from specmeasure.run.crew import Facts, InProcessCrew, Placed, Share
from specmeasure.run.events import MOST_DEATHS, Finished, Found, GivenUp, Gone, Joined, Lost, Missed
from specmeasure.run.pool import Pool
from tests.fakes import make_environment
from tests.run.crews import Counting, MortalCrew

FACTS = Facts(environment=make_environment(), models=())


def counting(_: Share) -> Counting:
    return Counting(FACTS)


def told(events: list[object]) -> Counter[int]:
    """Findings of finished tasks, those before a death left out."""
    kept: Counter[int] = Counter()
    at: dict[int, int] = Counter()
    for event in events:
        match event:
            case Found():
                at[event.worker] += 1
            case Finished():
                kept[event.task] += at.pop(event.worker, 0)
            case Lost():
                at.pop(event.worker, None)
    return kept


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_task_is_finished_once_with_all_its_findings(num_workers: int, seed: int) -> None:
    """Whoever is free takes the next task; nothing is told twice or not at all."""
    crew = MortalCrew(counting, seed=seed)
    with Pool(crew, num_workers) as pool:
        events = list(pool.run(range(1, 8)))

    finished = [event.task for event in events if isinstance(event, Finished)]
    assert list(range(1, 8)) == sorted(finished)
    assert {task: task for task in range(1, 8)} == dict(told(events))


@pytest.mark.parametrize("seed", range(5))
def test_a_dead_workers_task_goes_to_another(seed: int) -> None:
    """It is begun again from its beginning, and a worker of a new number joins."""
    crew = MortalCrew(counting, dies=lambda who, _, num: (who, num) == (0, 1), seed=seed)
    with Pool(crew, 2) as pool:
        events = list(pool.run([5] * 6))

    assert [0] == [event.worker for event in events if isinstance(event, Lost)]
    assert [2] == [event.worker.number for event in events if isinstance(event, Joined)]
    assert [0, 1, 2] == [worker.number for worker in pool.workers]
    assert 6 == sum(isinstance(event, Finished) for event in events)
    assert 30 == told(events)[5]


def test_a_task_at_which_several_workers_die_is_given_up() -> None:
    """The others are finished, and the last death is told as the surrender alone."""
    crew = MortalCrew(counting, dies=lambda _, task, num: task == 4 and num == 2)
    with Pool(crew, 2) as pool:
        events = list(pool.run([3, 4, 5, 6]))

    lost = [event for event in events if isinstance(event, Lost)]
    (given_up,) = (event for event in events if isinstance(event, GivenUp))
    assert MOST_DEATHS - 1 == len(lost)
    assert 4 == given_up.task
    assert given_up.worker not in {event.worker for event in lost}
    assert [3, 5, 6] == sorted(event.task for event in events if isinstance(event, Finished))


def test_fewer_workers_go_on_when_none_comes() -> None:
    """A place that stays empty holds nobody up."""
    crew = MortalCrew(counting, dies=lambda who, *_: who == 1, most_hired=3)
    with Pool(crew, 3) as pool:
        events = list(pool.run(range(1, 20)))

    assert 19 == sum(isinstance(event, Finished) for event in events)
    assert [0, 1, 2] == [worker.number for worker in pool.workers]


def test_none_left_ends_the_run() -> None:
    """Nobody waits for ever for a worker that never comes."""
    crew = MortalCrew(counting, dies=lambda *_: True, most_hired=2)
    with Pool(crew, 2) as pool, pytest.raises(WorkersLost, match="--resume"):
        list(pool.run(range(1, 20)))

    assert crew.is_closed


@pytest.mark.parametrize("deadly", [{4}, {4, 5}])
def test_one_worker_gives_up_a_task_too(deadly: set[int]) -> None:
    """Its deaths are explained by the task, and another worker is asked for."""
    crew = MortalCrew(counting, dies=lambda _, task, num: task in deadly and num == 2)
    with Pool(crew, 1) as pool:
        events = list(pool.run([3, *deadly, 6]))

    assert deadly == {event.task for event in events if isinstance(event, GivenUp)}
    assert [3, 6] == [event.task for event in events if isinstance(event, Finished)]


def test_a_death_before_the_first_task_is_told() -> None:
    """With its reason; another worker does the tasks."""
    crew = MortalCrew(counting, dies=lambda who, task, _: (who, task) == (0, 9))
    with Pool(crew, 1) as pool:
        events = list(pool.run([1], first=9))

    assert [Gone(worker=0, reason="It was scripted to.")] == [
        event for event in events if isinstance(event, Gone)
    ]
    assert [1] == [event.worker for event in events if isinstance(event, Finished)]


def test_workers_without_a_place_are_not_waited_for() -> None:
    """How many there are is told, with the time that they were waited for."""
    crew = MortalCrew(counting, most_hired=1)

    with pytest.raises(ClusterError, match=r"2 of 3 workers found no place .* within 300 s"):
        Pool(crew, 3).__enter__()


def test_workers_that_load_are_waited_for() -> None:
    """However long; each time that nothing was heard for long is told."""
    said: list[str] = []
    crew = SlowCrew(counting)
    with Pool(crew, 2, say=said.append) as pool:
        events = list(pool.run([1, 1]))

    assert 2 == sum(isinstance(event, Finished) for event in events)
    assert ["still setting up workers on: node-0"] * 2 + [
        "still setting up workers on: node-1"
    ] * 2 == said


@dataclass
class SlowCrew(MortalCrew):
    """Each worker has its place at once, and is silent twice before it is ready."""

    heard: list[Any] = field(default_factory=list)

    def hire(self, lead: Facts | None) -> int:
        who = super().hire(lead)
        self.heard += [Placed(who, f"node-{who}"), None, None]
        return who

    def hear(self, timeout_s: float) -> Any:
        return self.heard.pop(0) if self.heard else super().hear(timeout_s)


def test_what_another_run_began_is_not_told_of() -> None:
    """A run that is left in the middle leaves workers at work, and they go on for the next one."""
    crew = MortalCrew(counting)
    with Pool(crew, 2) as pool:
        left = pool.run([8, 8])
        next(left)
        left.close()
        events = list(pool.run([1, 2, 3], first=4))

    assert {1, 2, 3} == {event.task for event in events if isinstance(event, Found | Finished)}
    assert {1: 1, 2: 2, 3: 3} == dict(told(events))


@pytest.mark.parametrize("seed", range(4))
def test_another_runs_preparation_does_not_count(seed: int) -> None:
    """A worker that still prepared when its run was over prepares for the next one anew."""
    crew = MortalCrew(counting, seed=seed)
    with Pool(crew, 2) as pool:
        list(pool.run([1], first=20))
        list(pool.run([2] * 30, first=5))

    assert [20, 20] == [station.begun[0] for station in crew.stations.values()]
    for station in crew.stations.values():
        assert station.begun.index(5) < station.begun.index(2)


def test_tasks_go_to_workers_that_fit() -> None:
    """The others stay idle; where none is left that fits, that is the end."""
    crew = MortalCrew(counting, dies=lambda _, task, num: (task, num) == (5, 1), most_hired=3)
    with Pool(crew, 3) as pool:
        events = list(pool.run([1, 2, 3], fits=lambda worker: worker.number == 1))
        assert {1} == {event.worker for event in events}
        with pytest.raises(WorkersLost, match="No worker is left"):
            list(pool.run([5], fits=lambda worker: worker.number == 1))
        assert [0, 2] == [worker.number for worker in pool.present]


def test_deaths_without_progress_end_the_run() -> None:
    """Where every worker dies at once, the cluster is not asked for others without end."""
    crew = MortalCrew(counting, dies=lambda *_: True)
    with Pool(crew, 2) as pool, pytest.raises(WorkersLost, match="scripted"):
        list(pool.run(count(1)))

    assert 20 > len(crew.leads)


def test_replacements_that_never_get_ready_are_missed() -> None:
    """Each is told; the others finish the work."""
    stillborn = frozenset(range(2, 1000))
    crew = MortalCrew(counting, dies=lambda who, *_: who == 1, stillborn=stillborn)
    with Pool(crew, 2) as pool:
        events = list(pool.run(range(1, 9)))

    assert 8 == sum(isinstance(event, Finished) for event in events)
    assert any(isinstance(event, Missed) for event in events)


def test_first_comes_before_every_workers_first_task() -> None:
    """Also for a worker that comes later; its findings are not told."""
    crew = MortalCrew(counting, dies=lambda who, task, num: (who, task, num) == (0, 5, 1))
    with Pool(crew, 2) as pool:
        events = list(pool.run([5] * 9, first=7))

    assert {5} == {event.finding for event in events if isinstance(event, Found)}
    assert 3 == len(crew.stations)
    assert [7, 7, 7] == [station.begun[0] for station in crew.stations.values() if station.begun]
    assert all(7 not in station.begun[1:] for station in crew.stations.values())


def test_first_comes_again_in_the_next_run() -> None:
    """Each run prepares its workers for itself."""
    crew = MortalCrew(counting)
    with Pool(crew) as pool:
        list(pool.run([1], first=2))
        list(pool.run([3], first=4))

    assert [2, 1, 4, 3] == crew.stations[0].begun


def test_again_says_what_the_next_worker_gets() -> None:
    """It is asked once the loss was told."""
    crew = MortalCrew(counting, dies=lambda _, task, num: (task, num) == (5, 3))
    lost = []

    def again(task: int) -> int:
        assert [task] == lost
        return 2

    with Pool(crew) as pool:
        for event in pool.run([5], again=again):
            lost += [event.task] if isinstance(event, Lost) else []

    assert [[5], [2]] == [station.begun for station in crew.stations.values()]


def test_the_first_worker_leads_the_others() -> None:
    """They are set up when it is ready, and know what it chose."""
    crew = MortalCrew(counting)
    with Pool(crew, 3) as pool:
        assert [None, FACTS, FACTS] == crew.leads
        assert FACTS == pool.lead


def test_an_error_at_work_ends_the_run_as_itself() -> None:
    """A broken model is broken everywhere."""
    crew = MortalCrew(counting)
    with Pool(crew, 2) as pool, pytest.raises(BrokenLogits, match="NaN"):
        list(pool.run([1, BrokenLogits("NaN"), 2]))


def test_an_error_of_the_set_up_is_raised_as_itself() -> None:
    """Before any task, with everything closed."""

    def missing(_: Share) -> Counting:
        raise ModelNotFound("On node a: no such folder.")

    crew = MortalCrew(missing)
    with pytest.raises(ModelNotFound, match="node a"), Pool(crew, 2):
        pass

    assert crew.is_closed


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"versions": {"specmeasure": "0.1.0", "torch": "9"}}, "torch"),
        ({"cpu": "another CPU"}, "another CPU"),
        ({"num_threads": 7}, "7 threads"),
        ({"accelerators": ("GPU",)}, "GPU"),
    ],
)
def test_unlike_workers_are_refused_with_both_named(changes: dict[str, object], named: str) -> None:
    """Times of unlike workers make no one speedup."""

    def second_differs(share: Share) -> Counting:
        other = replace(FACTS, environment=make_environment(**changes))
        return Counting(FACTS if share.lead is None else other)

    with pytest.raises(ClusterError, match=f"(?s)node-0.*node-1.*{named}|{named}.*node-1"):
        Pool(MortalCrew(second_differs), 2).__enter__()


def test_unlike_hardware_is_pooled_where_asked() -> None:
    """Software must be the same all the same."""

    def slower(share: Share) -> Counting:
        other = replace(FACTS, environment=make_environment(cpu="slow"))
        return Counting(FACTS if share.lead is None else other)

    with Pool(MortalCrew(slower), 2, pools_hardware=True) as pool:
        assert ["a CPU", "slow"] == [worker.environment.cpu for worker in pool.workers]


def test_an_unlike_replacement_is_sent_away() -> None:
    """The run goes on without it."""

    def third_differs(_: Share) -> Counting:
        is_third = len(crew.stations) == 2
        return Counting(
            replace(FACTS, environment=make_environment(cpu="slow")) if is_third else FACTS
        )

    crew = MortalCrew(third_differs, dies=lambda who, *_: who == 0)
    with Pool(crew, 2) as pool:
        events = list(pool.run(range(1, 9)))

    assert [2] == crew.dismissed
    assert 8 == sum(isinstance(event, Finished) for event in events)
    assert [0, 1] == [worker.number for worker in pool.workers]


def test_numbers_go_on_after_an_earlier_session() -> None:
    """A trial names one worker of all that the run ever had."""
    with Pool(MortalCrew(counting), 2, numbered_from=5) as pool:
        events = list(pool.run([1, 1, 1, 1]))

    assert [5, 6] == [worker.number for worker in pool.workers]
    assert {event.worker for event in events} <= {5, 6}


def test_in_process_one_worker_does_everything_in_order() -> None:
    """Tasks are asked for one at a time."""
    asked = []

    def tasks() -> object:
        for number in (3, 1, 2):
            asked.append(number)
            yield number

    with Pool(InProcessCrew(counting, Share(num_cores=1))) as pool:
        events = list(pool.run(tasks()))
        again = list(pool.run([1]))

    assert [3, 1, 2] == [event.task for event in events if isinstance(event, Finished)]
    assert 2 == len(again)


def test_a_share_sees_its_own_machine() -> None:
    """Its own accelerators; a cap that was set for it is no choice of the user's."""
    machine = make_environment(accelerators=("A", "B", "C"), threads_capped_by="OMP_NUM_THREADS=4")
    share = Share(num_cores=2, num_granted=4)

    assert ("C",) == share.seen(machine, ("C",)).accelerators
    assert share.seen(machine, ()).threads_capped_by is None
    assert "OMP_NUM_THREADS=4" == replace(share, num_granted=3).seen(machine, ()).threads_capped_by


def test_a_share_follows_the_leads_threads() -> None:
    """Workers decode with as many threads as the first chose."""
    options = ModelOptions(num_threads=None)

    assert options == Share(num_cores=2).options(options)
    assert 2 == Share(num_cores=2, lead=FACTS).options(options).num_threads
