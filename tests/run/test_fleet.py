"""Runs over workers: all that was planned is measured, whoever dies, and the same as by one."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan, Sampling, TrialKey
from specmeasure.records.trace import Checks, TrialRecord
from specmeasure.run.crew import Facts, Share
from specmeasure.run.crowding import Unmetered
from specmeasure.run.fleet_recorder import FleetRecorder, fit_tasks, whole_turns
from specmeasure.run.measuring import Measure, MeasuringStation
from specmeasure.run.pool import Pool
from specmeasure.run.watch import Watchers
from tests.fakes import (
    FakeEngine,
    make_chat,
    make_environment,
    make_plan,
    make_prompts,
    planned_keys,
    recorded_trace,
)
from tests.run.crews import MortalCrew

PLAN = make_plan(num_repeats=2)
TALKS = [*make_prompts(5), make_chat("talk", 3), make_chat("chat", 2)]
SEEDS = range(6)


@dataclass
class MemoryJournals:
    """By worker, in order; a turn measured again by another worker stands twice."""

    trials: dict[int, dict[TrialKey, TrialRecord]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    last: dict[TrialKey, TrialRecord] = field(default_factory=dict)  # whoever told it

    def add_trial(self, worker: int, trial: TrialRecord) -> None:
        assert trial.key not in self.trials[worker]
        self.trials[worker][trial.key] = self.last[trial.key] = trial

    def add_checks(self, worker: int, checks: Mapping[TrialKey, Checks]) -> None:
        for key, found in checks.items():
            checked = replace(self.trials[worker][key], checks=found)
            self.trials[worker][key] = self.last[key] = checked


@dataclass
class Team:
    """Workers with fake engines, and everything they wrote."""

    plan: Plan = PLAN
    num_workers: int = 3
    dies: Callable[[int, Any, int], bool] = lambda _who, _task, _told: False
    seed: int = 0
    journals: MemoryJournals = field(default_factory=MemoryJournals)
    num_told: int = 0
    warnings: list[str] = field(default_factory=list)
    crew: MortalCrew = field(init=False)

    def __post_init__(self) -> None:
        self.crew = MortalCrew(self._station, dies=self.dies, seed=self.seed)

    def record(
        self, prompts: Sequence[Prompt], recorded: Sequence[TrialRecord] = ()
    ) -> dict[TrialKey, TrialRecord]:
        watchers = Watchers(trial=self._count, warning=self.warnings.append)
        with Pool(self.crew, self.num_workers) as pool:
            recorder = FleetRecorder(plan=self.plan, pool=pool, watchers=watchers)
            recorder.record(prompts, self.journals, warm_up=prompts[:1], recorded=recorded)
        return self.journals.last

    def fits(self, prompts: Sequence[Prompt]) -> list[Any]:
        with Pool(self.crew, self.num_workers) as pool:
            return FleetRecorder(plan=self.plan, pool=pool).fits(prompts)

    def _station(self, _: Share) -> MeasuringStation:
        engine = FakeEngine(plan=self.plan, max_context=400)
        facts = Facts(environment=make_environment(), models=engine.models)
        return MeasuringStation(self.plan, engine, facts, meter=Unmetered())

    def _count(self) -> None:
        self.num_told += 1


def counts(trial: TrialRecord) -> Any:
    """What does not depend on who measured it, blocks among it."""
    return replace(trial, worker=None, checks=trial.checks and replace(trial.checks))


def by_one(plan: Plan, prompts: Sequence[Prompt]) -> dict[TrialKey, TrialRecord]:
    trace = recorded_trace(FakeEngine(plan=plan, max_context=400), prompts)
    return {trial.key: trial for trial in trace.trials}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "plan", [PLAN, replace(PLAN, sampling=Sampling(temperature=0.7))], ids=["greedy", "sampled"]
)
def test_three_workers_measure_what_one_does(plan: Plan, seed: int) -> None:
    """Trial for trial and block for block: seeds and turns depend on prompts alone."""
    team = Team(plan, seed=seed)

    assert by_one(plan, TALKS) == {key: counts(one) for key, one in team.record(TALKS).items()}
    assert len(planned_keys(plan, TALKS)) == team.num_told


@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_costs_its_unfinished_turn_alone(seed: int) -> None:
    """Another worker measures that turn as a whole; the talk's earlier turns are kept."""
    team = Team(dies=lambda _, task, num: _is_second_turn(task, num), seed=seed)
    team.record(TALKS)

    (dead,) = (who for who, trials in team.journals.trials.items() if not _is_whole(trials))
    own = [key for key in team.journals.trials[dead] if key.prompt_id == "talk"]
    again = {
        key
        for who, trials in team.journals.trials.items()
        for key in trials
        if who != dead and key in own
    }
    assert by_one(PLAN, TALKS) == {key: counts(one) for key, one in team.journals.last.items()}
    assert {(key.prompt_id, key.turn) for key in again} == {("talk", 1)}
    assert 2 == len(again)
    assert len(planned_keys(PLAN, TALKS)) == team.num_told


def _is_second_turn(task: Any, num_told: int) -> bool:
    """The talk's first turn is told, six trials and their checks, and two of its second."""
    is_new = isinstance(task, Measure) and not task.recorded
    return is_new and task.prompt.prompt_id == "talk" and num_told == 9


def _is_whole(trials: Mapping[TrialKey, TrialRecord]) -> bool:
    num = Counter((key.prompt_id, key.turn) for key in trials)
    return set(num.values()) == {PLAN.num_repeats * len(PLAN.arms)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_turn_stays_with_one_worker(seed: int) -> None:
    """Pairs are never split: all arms and repeats of a turn that counts have one worker."""
    team = Team(dies=lambda who, _, num: (who, num) in {(0, 4), (2, 9)}, seed=seed)
    last = team.record(TALKS)

    workers = defaultdict(set)
    for key, trial in last.items():
        workers[key.prompt_id, key.turn].add(trial.worker)
    assert {1} == set(map(len, workers.values()))
    assert set(planned_keys(PLAN, TALKS)) == set(last)


def test_a_deadly_prompt_is_recorded_as_failed() -> None:
    """Trials that are missing say why; the others are measured, and the deaths are told."""
    team = Team(dies=lambda _, task, num: isinstance(task, Measure) and task.index == 2 and num > 3)
    last = team.record(TALKS)

    failed = {key.prompt_id for key, trial in last.items() if trial.failed}
    assert {TALKS[2].prompt_id} == failed
    assert 2 == sum(trial.failed for trial in last.values())
    assert {"several workers died"} == {t.error[:20] for t in last.values() if t.error is not None}
    assert set(planned_keys(PLAN, TALKS)) == set(last)
    assert len(planned_keys(PLAN, TALKS)) == team.num_told
    assert 2 == sum("goes to another" in warning for warning in team.warnings)
    assert 1 == sum("is given up" in warning for warning in team.warnings)


@pytest.mark.parametrize("num_kept", [0, 1, 5, 6, 7, 20, 33, 60])
def test_a_resumed_run_measures_what_is_not_whole(num_kept: int) -> None:
    """A turn that misses a trial or a check is measured again, others are not."""
    before = list(by_one(PLAN, TALKS).values())[:num_kept]
    whole = whole_turns(PLAN, before)
    team = Team()
    team.record(TALKS, recorded=before)

    kept = {trial.key for trials in whole.values() for trial in trials}
    assert set(planned_keys(PLAN, TALKS)) - kept == set(team.journals.last)
    assert len(planned_keys(PLAN, TALKS)) == team.num_told
    assert num_kept // 6 == len(whole)


def test_a_turn_without_its_checks_is_not_whole() -> None:
    """A worker that died while it audited leaves trials that nobody can audit any more."""
    trials = [replace(trial, checks=None) for trial in by_one(PLAN, TALKS).values()]

    assert {} == whole_turns(PLAN, trials)


def test_every_worker_warms_up_before_it_measures() -> None:
    """With every arm, also one that comes in another's place."""
    team = Team(dies=lambda who, _, num: (who, num) == (0, 3))
    team.record(TALKS)

    stations = [one for one in team.crew.stations.values() if one._engine.calls]
    assert 4 == len(team.crew.stations)
    assert {tuple(arm.name for arm in PLAN.arms)} == {
        tuple(call.arm for call in one._engine.calls[:3]) for one in stations
    }


def test_workers_say_which_prompts_fit() -> None:
    """In the order that they were asked in, with their lengths."""
    long = replace(make_prompts(1)[0], prompt_id="long", text="word " * 600)
    fits = Team(plan=replace(PLAN, max_new_tokens=8)).fits([*make_prompts(3), long])

    assert [True, True, True, False] == [fit.reason is None for fit in fits]
    assert [2, 3, 4, 600] == [fit.num_tokens for fit in fits]


def test_long_prompts_travel_in_small_tasks() -> None:
    """A task has as many prompts as are a megabyte of text, at least one, in order."""
    short = make_prompts(450)
    long = [
        replace(prompt, prompt_id=f"long-{prompt.prompt_id}", text="x" * 400_000)
        for prompt in short[:5]
    ]
    huge = replace(short[0], prompt_id="huge", text="x" * 3_000_000)
    tasks = list(fit_tasks([*short, *long, huge, *short[:3]]))

    assert [200, 200, 52, 2, 1, 1, 3] == [len(task.prompts) for task in tasks]
    assert [0, 200, 400, 452, 454, 455, 456] == [task.place for task in tasks]
    assert [*short, *long, huge, *short[:3]] == [one for task in tasks for one in task.prompts]
    assert [] == list(fit_tasks([]))


@dataclass
class Unauditable(FakeEngine):
    """Its audits fail for good."""

    def audit(self, *_: Any) -> Any:
        raise ValueError("no room for an audit")


def test_a_turn_whose_audit_fails_is_whole() -> None:
    """It ended, so that it is not measured again for ever; what was found out is nothing."""
    crew = MortalCrew(
        lambda _: MeasuringStation(
            PLAN,
            engine := Unauditable(plan=PLAN),
            Facts(environment=make_environment(), models=engine.models),
            meter=Unmetered(),
        )
    )
    journals = MemoryJournals()
    with Pool(crew, 2) as pool:
        FleetRecorder(plan=PLAN, pool=pool).record(TALKS, journals, warm_up=())
    recorded = list(journals.last.values())

    assert {Checks()} == {trial.checks for trial in recorded}
    assert {(one.prompt_id, turn) for one in TALKS for turn in range(len(one.turns))} == set(
        whole_turns(PLAN, recorded)
    )


def test_a_given_up_prompt_is_whole() -> None:
    """Else every session would end as many workers at it again."""
    team = Team(dies=lambda _, task, num: isinstance(task, Measure) and task.index == 2 and num > 3)
    last = team.record(TALKS)

    assert (TALKS[2].prompt_id, 0) in whole_turns(PLAN, last.values())
