"""Sums that grow with every trial, from which speedup and τ so far follow at once.

At the end of a run they give what ``latency.decode_speedup`` and
``acceptance.mean_acceptance_length`` give; before, they say nothing of how sure they are.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.estimate.blocks import Blocks, sum_blocks
from specmeasure.estimate.counts import num_drafted_blocks
from specmeasure.estimate.trials import Cluster, cluster_of
from specmeasure.records.plan import Arm
from specmeasure.records.running import RunningArm
from specmeasure.records.serving import Load
from specmeasure.records.trace import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class _PairSums:
    """Over contexts that the baseline and one arm both answered."""

    baseline_s: float = 0.0
    num_baseline_tokens: int = 0  # after each answer's first
    arm_s: float = 0.0
    num_arm_tokens: int = 0
    num_accepted_tokens: int = 0
    num_drafted_blocks: int = 0

    def __add__(self, other: "_PairSums") -> "_PairSums":
        return _PairSums(
            baseline_s=self.baseline_s + other.baseline_s,
            num_baseline_tokens=self.num_baseline_tokens + other.num_baseline_tokens,
            arm_s=self.arm_s + other.arm_s,
            num_arm_tokens=self.num_arm_tokens + other.num_arm_tokens,
            num_accepted_tokens=self.num_accepted_tokens + other.num_accepted_tokens,
            num_drafted_blocks=self.num_drafted_blocks + other.num_drafted_blocks,
        )

    @property
    def is_timed(self) -> bool:
        """Whether both sides decoded a token after their first."""
        return self.num_baseline_tokens > 0 and self.num_arm_tokens > 0

    @property
    def decode_speedup(self) -> float | None:
        if not (self.is_timed and self.arm_s):
            return None
        baseline_tpot = self.baseline_s / self.num_baseline_tokens
        return baseline_tpot / (self.arm_s / self.num_arm_tokens)

    @property
    def mean_acceptance_length(self) -> float | None:
        if not self.num_drafted_blocks:
            return None
        return 1 + self.num_accepted_tokens / self.num_drafted_blocks


class RunningSums:
    """The sums of every arm of a run, at the load that is being measured.

    In one process trials come prompt by prompt, and what a prompt no longer needs is forgotten. A
    server's windows may come in any order.
    """

    def __init__(self, arms: Sequence[Arm]) -> None:
        self._arms = arms
        self._num_trials: Counter[str] = Counter()
        self._num_failed: Counter[str] = Counter()
        self._by_load: defaultdict[Load | None, _LoadSums] = defaultdict(_LoadSums)
        self._load: Load | None = None

    def add(self, trial: TrialRecord) -> None:
        """Count one trial; its speed counts once its partner has answered, too."""
        key = trial.key
        self._num_trials[key.arm] += 1
        self._load = key.load
        if trial.failed or trial.num_emitted_tokens is None:
            self._num_failed[key.arm] += 1
            return
        sums = self._by_load[key.load]
        if trial.group is None:
            sums.finish_others(key.prompt_id)
        sums.add(trial, self._arms[0].name)

    @property
    def arms(self) -> tuple[RunningArm, ...]:
        """Every arm's numbers so far, in the plan's order."""
        return tuple(self._running(arm) for arm in self._arms)

    def _running(self, arm: Arm) -> RunningArm:
        sums = self._by_load[self._load].of(arm.name)
        return RunningArm(
            name=arm.name,
            num_trials=self._num_trials[arm.name],
            num_failed_trials=self._num_failed[arm.name],
            mean_acceptance_length=sums.mean_acceptance_length,
            decode_speedup=None if arm is self._arms[0] else sums.decode_speedup,
        )


class _LoadSums:
    """Sums at one load, cluster by cluster."""

    def __init__(self) -> None:
        self._finished: defaultdict[str, _PairSums] = defaultdict(_PairSums)
        self._clusters: dict[Cluster, defaultdict[str, _PairSums]] = {}  # at hand, by arm
        self._answered: dict[tuple[str, int, int], dict[str, TrialRecord]] = {}

    def add(self, trial: TrialRecord, baseline_name: str) -> None:
        key = trial.key
        beside = self._answered.setdefault((key.prompt_id, key.turn, key.repeat), {})
        beside[key.arm] = trial
        baseline = beside.get(baseline_name)
        if baseline is None:
            return
        own = self._clusters.setdefault(cluster_of(trial), defaultdict(_PairSums))
        for one in beside.values() if trial is baseline else (trial,):
            own[one.key.arm] += _pair_sums(baseline, one)

    def of(self, arm: str) -> _PairSums:
        total = self._finished.get(arm, _PairSums())
        for sums in self._clusters.values():
            total = _with_cluster(total, sums.get(arm, _PairSums()))
        return total

    def finish_others(self, prompt_id: str) -> None:
        """Add up the prompts that came before this one."""
        others = [context for context in self._answered if context[0] != prompt_id]
        for context in others:
            del self._answered[context]
        for cluster in [one for one in self._clusters if one != prompt_id]:
            for arm, own in self._clusters.pop(cluster).items():
                self._finished[arm] = _with_cluster(self._finished[arm], own)


def _with_cluster(sums: _PairSums, own: _PairSums) -> _PairSums:
    """A cluster in which one side decoded nothing after its first tokens has no speed."""
    if own.is_timed:
        return sums + own
    return sums + _PairSums(
        num_accepted_tokens=own.num_accepted_tokens,
        num_drafted_blocks=own.num_drafted_blocks,
    )


def _pair_sums(baseline: TrialRecord, trial: TrialRecord) -> _PairSums:
    num_accepted, num_blocks = _drafted(trial)
    return _PairSums(
        baseline_s=baseline.decode_s or 0.0,
        num_baseline_tokens=(baseline.num_emitted_tokens or 0) - 1,
        arm_s=trial.decode_s or 0.0,
        num_arm_tokens=(trial.num_emitted_tokens or 0) - 1,
        num_accepted_tokens=num_accepted,
        num_drafted_blocks=num_blocks,
    )


def _drafted(trial: TrialRecord) -> tuple[int, int]:
    """Accepted tokens and the drafted blocks they came in; of a server that tells both."""
    if trial.counts is None:
        sums = sum_blocks(Blocks.of([trial]))
        return int(sums.num_accepted.sum()), int(sums.num_drafted_blocks.sum())
    num_blocks = num_drafted_blocks(trial.counts)
    return (trial.counts.num_accepted_tokens, num_blocks) if num_blocks else (0, 0)
