"""Times target and candidates on one worker, while the others have nothing to do.

Workers share cores and memory bandwidth with others of their machine, on a CPU all of them: timed
beside busy neighbours, steps would cost what no user pays. All times of a table are of workers of
the same hardware.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from specmeasure.engines.tree_costs import NUM_NODES
from specmeasure.errors import WorkersLost
from specmeasure.records.costs import CostTable
from specmeasure.records.machine import Worker
from specmeasure.records.replay import Answer
from specmeasure.run.replay_tasks import TimedTarget, TimeTarget, Weigh, Weighed
from specmeasure.run.replay_workers import ReplayWorkers
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace.replays import ReplayJournal


@dataclass(frozen=True, slots=True, kw_only=True)
class _TargetNote:
    """The target's costs as they are kept, and whose they are."""

    worker: int
    hardware: tuple[str, ...]
    timed: TimedTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class _CandidateNote:
    """A candidate's, scaled to the speed of these steps of the target."""

    worker: int
    hardware: tuple[str, ...]
    plain_s: tuple[float, ...]
    weighed: Weighed


@dataclass(slots=True, kw_only=True)
class Costing:
    """What is not in the journal yet is timed, by the first worker that lives.

    Args:
        contexts: beginnings that blocks are timed after.
        most: drafts of the largest block.
    """

    workers: ReplayWorkers
    journal: ReplayJournal
    contexts: Sequence[Sequence[int]]
    most: int
    watchers: Watchers = SILENT
    _target: _TargetNote | None = None
    _candidates: dict[int, _CandidateNote] = field(default_factory=dict)

    def time_target(self) -> None:
        """Steps and verifications; those of an earlier session stand on the same hardware."""
        kept = self.journal.noted("timed-target", _TargetNote)
        if kept is None or not self._has(kept.hardware):
            self.watchers.stage("timing steps and verifications")
            task = TimeTarget(contexts=self.contexts, most=self.most)
            worker, timed = self.workers.only(task, TimedTarget)
            kept = _TargetNote(worker=worker.number, hardware=worker.hardware, timed=timed)
            self.journal.note("timed-target", kept)
        self._target = kept

    def weigh(self, place: int) -> Weighed:
        """One candidate, when all others have been scored as far as they will be for now.

        Raises:
            WorkersLost: the workers that are left are not of the target's hardware.
        """
        target = self._timed_target()
        plain_s = target.timed.costs.plain_s
        kept = self.journal.noted(f"candidate-{place}", _CandidateNote)
        if kept is None or (kept.hardware, kept.plain_s) != (target.hardware, plain_s):
            task = Weigh(
                place=place,
                contexts=self.contexts,
                most=self.most,
                target=target.timed.costs,
            )
            worker, weighed = self._weighed(task, target)
            kept = _CandidateNote(
                worker=worker.number, hardware=worker.hardware, plain_s=plain_s, weighed=weighed
            )
            self.journal.note(f"candidate-{place}", kept)
        self._candidates[place] = kept
        return kept.weighed

    def _weighed(self, task: Weigh, target: _TargetNote) -> tuple[Worker, Weighed]:
        """By a worker of the target's hardware, whoever else is free."""
        try:
            return self.workers.only(
                task, Weighed, fits=lambda worker: worker.hardware == target.hardware
            )
        except WorkersLost as error:
            left = {", ".join(worker.hardware) for worker in self.workers.pool.present}
            if not left or self._has(target.hardware):
                raise
            raise WorkersLost(
                f"The worker that timed the target ({', '.join(target.hardware)}) is gone, and "
                f"those that are left have {'; '.join(sorted(left))}. Go on with --resume: all "
                "steps are then timed there."
            ) from error

    def _has(self, hardware: tuple[str, ...]) -> bool:
        """Whether a worker that lives has this hardware."""
        return any(worker.hardware == hardware for worker in self.workers.pool.present)

    def table(self, machine: str | None) -> CostTable:
        """All costs together.

        Args:
            machine: what the table calls the machine; None: the workers that timed.
        """
        target = self._timed_target()
        weighed = [note.weighed for note in self._candidates.values()]
        has_trees = any(one.tree_s for own in weighed for one in own.rounds)
        return replace(
            target.timed.table,
            machine=machine or self._timed_by(target),
            rounds=tuple(
                replace(one, drafts={own.facts.name: own.rounds[index] for own in weighed})
                for index, one in enumerate(target.timed.table.rounds)
            ),
            num_nodes=NUM_NODES if has_trees else (),
        )

    def _timed_target(self) -> _TargetNote:
        if self._target is None:
            raise ValueError("the target is timed before candidates are")
        return self._target

    def _timed_by(self, target: _TargetNote) -> str:
        numbers = sorted({target.worker, *(one.worker for one in self._candidates.values())})
        who = f"worker {numbers[0]}" if len(numbers) == 1 else f"workers {_listed(numbers)}"
        alone = "; the others had nothing to do" if self.workers.pool.num_workers > 1 else ""
        return f"{', '.join(target.hardware)} ({who}{alone})"


def _listed(numbers: Sequence[int]) -> str:
    """Numbers as a sentence has them.

    >>> _listed([0, 2, 5])
    '0, 2 and 5'
    """
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def timed_contexts(answers: Sequence[Answer], quantiles: Sequence[float]) -> list[int]:
    """Lengths of context at these quantiles of all blocks' beginnings, in bounded memory.

    An answer of T tokens has a block that begins after each of its tokens but the last.

    >>> timed_contexts([], (0.5,))
    []
    """
    if not answers:
        return []
    starts = np.array([one.num_prompt_tokens + 1 for one in answers])
    lengths = np.array([max(0, one.num_tokens - 1) for one in answers])
    if not lengths.any():
        return [answers[0].num_prompt_tokens]
    changes = np.zeros(int((starts + lengths).max()) + 1, dtype=np.int64)
    np.add.at(changes, starts, 1)
    np.add.at(changes, starts + lengths, -1)
    num_below = changes.cumsum().cumsum()  # blocks with at most so much context
    ranks = np.around(np.array(quantiles) * (num_below[-1] - 1))
    return [int(one) for one in np.searchsorted(num_below, ranks, side="right")]
