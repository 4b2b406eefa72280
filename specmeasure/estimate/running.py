"""Sums that grow with every trial, from which speedup and τ so far follow at once.

At the end of a run they give what ``latency.decode_speedup`` and
``acceptance.mean_acceptance_length`` give; before, they say nothing of how sure they are.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.records.plan import Arm
from specmeasure.records.running import RunningArm
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
    """The sums of every arm of a run, whose trials are added prompt by prompt."""

    def __init__(self, arms: Sequence[Arm]) -> None:
        self._arms = arms
        self._num_trials: Counter[str] = Counter()
        self._num_failed: Counter[str] = Counter()
        self._finished: defaultdict[str, _PairSums] = defaultdict(_PairSums)
        self._prompt_id: str | None = None
        self._prompt: defaultdict[str, _PairSums] = defaultdict(_PairSums)  # of the prompt at hand
        self._answered: defaultdict[tuple[int, int], dict[str, TrialRecord]] = defaultdict(dict)

    def add(self, trial: TrialRecord) -> None:
        """Count one trial; its speed counts once its partner has answered, too."""
        key = trial.key
        self._num_trials[key.arm] += 1
        if trial.failed:
            self._num_failed[key.arm] += 1
            return
        if key.prompt_id != self._prompt_id:
            self._finish_prompt(key.prompt_id)
        beside = self._answered[key.turn, key.repeat]
        beside[key.arm] = trial
        baseline = beside.get(self._arms[0].name)
        if baseline is None:
            return
        paired = beside.values() if trial is baseline else (trial,)
        for one in paired:
            self._prompt[one.key.arm] += _pair_sums(baseline, one)

    @property
    def arms(self) -> tuple[RunningArm, ...]:
        """Every arm's numbers so far, in the plan's order."""
        return tuple(self._running(arm) for arm in self._arms)

    def _running(self, arm: Arm) -> RunningArm:
        sums = _with_prompt(self._finished[arm.name], self._prompt[arm.name])
        return RunningArm(
            name=arm.name,
            num_trials=self._num_trials[arm.name],
            num_failed_trials=self._num_failed[arm.name],
            mean_acceptance_length=sums.mean_acceptance_length,
            decode_speedup=None if arm is self._arms[0] else sums.decode_speedup,
        )

    def _finish_prompt(self, next_prompt_id: str) -> None:
        for name, sums in self._prompt.items():
            self._finished[name] = _with_prompt(self._finished[name], sums)
        self._prompt.clear()
        self._answered.clear()
        self._prompt_id = next_prompt_id


def _with_prompt(sums: _PairSums, prompt: _PairSums) -> _PairSums:
    """A prompt on which one side decoded nothing after its first tokens has no speed."""
    if prompt.is_timed:
        return sums + prompt
    return sums + _PairSums(
        num_accepted_tokens=prompt.num_accepted_tokens,
        num_drafted_blocks=prompt.num_drafted_blocks,
    )


def _pair_sums(baseline: TrialRecord, trial: TrialRecord) -> _PairSums:
    drafted = [block for block in trial.blocks if block.num_draft_tokens]
    return _PairSums(
        baseline_s=baseline.decode_s or 0.0,
        num_baseline_tokens=(baseline.num_emitted_tokens or 0) - 1,
        arm_s=trial.decode_s or 0.0,
        num_arm_tokens=(trial.num_emitted_tokens or 0) - 1,
        num_accepted_tokens=sum(block.num_accepted_tokens for block in drafted),
        num_drafted_blocks=len(drafted),
    )
