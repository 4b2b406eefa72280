"""Workers of a replay without models, in this process: their deaths are scripted.

Who is heard next is drawn at random, so that tasks of different workers overlap.
"""

import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from specmeasure.decode.batch import Generated
from specmeasure.engines.costs import TargetCosts
from specmeasure.engines.replayed_target import ReplayedTarget
from specmeasure.records.costs import CostTable
from specmeasure.records.machine import Environment
from specmeasure.records.replay import TOKEN_CLASSES, CandidateFacts
from specmeasure.records.trace import FinishReason, ModelFacts
from specmeasure.run.crew import Died, Done, Facts, Ready, Told
from specmeasure.run.plausibility import ResponseFit
from specmeasure.run.replay_tasks import (
    Answered,
    AnswerTurns,
    DescribeTarget,
    DraftsScored,
    ScoreDrafts,
    ScoreTarget,
    TargetScored,
    TimedTarget,
    TimeTarget,
    Weigh,
    Weighed,
)
from tests.estimate.replays import draft_scores, lookup_scores, make_costs, target_scores
from tests.fakes import make_environment

TARGET = ModelFacts(
    name="target",
    fingerprint="f" * 64,
    num_parameters=1000,
    dtype="float32",
    device="cpu",
    cache="crop",
    vocab_size=32_000,
)
KNOWN = ReplayedTarget(
    facts=TARGET,
    end_ids=frozenset({2}),
    context_limit=500,
    weight_bytes=4000,
    cache_bytes_per_token=8.0,
    num_flops_per_token=2000.0,
)

Dies = Callable[[int, Any, int], bool]  # who, its task, the findings told of it


@dataclass
class ScriptedCrew:
    """Stations in turns; one dies instead of its next finding where the script says so."""

    dies: Dies = lambda _who, _task, _told: False
    seed: int = 0
    environments: Mapping[int, Environment] = field(default_factory=dict)  # of unlike workers
    drafts: Mapping[int, str] = field(default_factory=dict)  # fingerprints of unlike drafts
    begun: list[tuple[int, Any]] = field(default_factory=list)
    overlapping: list[Any] = field(default_factory=list)  # tasks given while others were at work
    _coming: list[int] = field(default_factory=list)
    _at_work: dict[int, "_AtWork"] = field(default_factory=dict)
    _num_hired: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def hire(self, _lead: Facts | None) -> int:
        self._num_hired += 1
        self._coming.append(self._num_hired - 1)
        return self._num_hired - 1

    def give(self, who: int, task: Any) -> None:
        if self._at_work:
            self.overlapping += [task, *(one.task for one in self._at_work.values())]
        station = FakeReplayStation(self.drafts.get(who, "d" * 64))
        self.begun.append((who, task))
        self._at_work[who] = _AtWork(task=task, findings=station.work(task))

    def hear(self, _timeout_s: float) -> Ready | Told[Any] | Done | Died:
        if self._coming:
            who = self._coming.pop(0)
            machine = self.environments.get(who, make_environment())
            return Ready(who, f"node-{who}", Facts(environment=machine, models=(TARGET,)))
        who = self._rng.choice(sorted(self._at_work))
        one = self._at_work[who]
        if self.dies(who, one.task, one.num_told):
            del self._at_work[who]
            return Died(who, "It was scripted to.")
        for finding in one.findings:
            one.num_told += 1
            return Told(who, finding)
        del self._at_work[who]
        return Done(who)

    def dismiss(self, who: int) -> None:
        self._at_work.pop(who, None)

    def close(self) -> None:
        self._at_work.clear()


@dataclass
class _AtWork:
    task: Any
    findings: Iterator[Any]
    num_told: int = 0


class FakeReplayStation:
    """Answers and scores that follow from token ids alone."""

    def __init__(self, draft: str) -> None:
        self._draft = replace(TARGET, name="draft", fingerprint=draft)

    def work(self, task: Any) -> Iterator[Any]:
        match task:
            case DescribeTarget():
                yield KNOWN
            case AnswerTurns():
                yield from (
                    Answered(place=place, generated=_answer(asked))
                    for place, asked in task.asked.items()
                )
            case ScoreTarget():
                yield self._target(task)
            case ScoreDrafts():
                yield DraftsScored(
                    drafted=_drafted(task), models=(self._draft,), peak_memory_bytes=20
                )
            case TimeTarget():
                yield _timed(task)
            case Weigh():
                yield _weighed(task)

    def _target(self, task: ScoreTarget) -> TargetScored:
        rngs = {place: _rng(one.token_ids) for place, one in task.batch.answers.items()}
        lengths = {place: len(one.token_ids) for place, one in task.batch.answers.items()}
        return TargetScored(
            positions={
                place: target_scores(
                    rng.exponential(0.7, lengths[place]),
                    rng.integers(len(TOKEN_CLASSES), size=lengths[place]),
                )
                for place, rng in rngs.items()
            },
            drafted={},
            fit=ResponseFit(num_answers=len(rngs)) if task.is_recorded else None,
            peak_memory_bytes=10,
        )


def _rng(ids: Any, salt: int = 0) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr((salt, list(ids))).encode()))


def _answer(asked: Any) -> Generated:
    rng = _rng(asked.context_ids)
    length = int(rng.integers(1, asked.settings.max_new_tokens + 1))
    return Generated(
        token_ids=tuple(rng.integers(3, 30_000, size=length).tolist()),
        finish_reason=FinishReason.EOS,
    )


def _drafted(task: ScoreDrafts) -> dict[int, dict[int, Any]]:
    return {
        place: {answer: _scores(place, one.token_ids) for answer, one in task.batch.answers.items()}
        for place in task.places
    }


def _scores(place: int, ids: Any) -> Any:
    rng = _rng(ids, place)
    if place == 2:
        found = rng.integers(0, 5, size=len(ids))
        return lookup_scores(found, np.minimum(found, 1))
    return draft_scores(rng.random(len(ids)))


def plain_costs(ratios: dict[str, float]) -> CostTable:
    """Costs in Python's own numbers, as a recording has them."""
    costs = asdict(make_costs(ratios, num_rounds=2))
    return msgspec.json.decode(json.dumps(costs), type=CostTable)


def _timed(task: TimeTarget) -> TimedTarget:
    table = plain_costs({})
    speed = float(sum(map(len, task.contexts)))
    return TimedTarget(
        costs=TargetCosts(plain_s=(speed,), step_s=(speed,), verify_s=(((speed,),),)), table=table
    )


def _weighed(task: Weigh) -> Weighed:
    names = ("small", "large", "ngram")
    rounds = plain_costs({"any": 0.1 * (task.place + 1)}).rounds
    return Weighed(
        facts=CandidateFacts(name=names[task.place], model_bytes=1000 * task.place),
        rounds=tuple(one.drafts["any"] for one in rounds),
        peak_memory_bytes=30,
    )
