"""Answers of some engine as token ids, and what an audit of answers says of them."""

from dataclasses import dataclass

from specmeasure.records.decision import Policy, RuleFinding, Verdict
from specmeasure.records.estimates import Drift, Losslessness, SampledLosslessness, Unmeasured
from specmeasure.records.plan import Sampling

BASELINE_NAME = "baseline"  # answers under it are the target's without speculation


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """One answer of some engine."""

    source: str  # "answers.jsonl:17", for messages and places
    prompt_id: str
    arm: str  # however the engine was set up, in the user's words
    prompt_ids: tuple[int, ...]  # all that the target read before the answer, BOS included
    token_ids: tuple[int, ...]  # the answer, its end-of-sequence token included if there is one
    sampling: Sampling | None = None  # None: the row does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedArm:
    """What the audit of one arm's answers says of them, and nothing of their speed."""

    name: str
    num_prompts: int
    num_answers: int
    num_tokens: int  # emitted in them
    is_baseline: bool
    losslessness: Losslessness | Unmeasured | None  # None: nothing was decoded greedily
    sampled_losslessness: SampledLosslessness | Unmeasured | None  # None: nothing was sampled
    detectable_shift: float | None  # of chance, found with 80 % by its sampled tokens
    drift: Drift | Unmeasured | None  # None: the arm is not lossy by its own account
    verdict: Verdict
    findings: tuple[RuleFinding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The audit of a run, or of recorded answers."""

    subject: str  # the run's folder, or the files, as given
    target: str
    dtype: str  # of the target that judged
    samplings: tuple[tuple[Sampling, int], ...]  # with the number of answers of each, all arms'
    policy: Policy
    arms: tuple[AuditedArm, ...]  # in their order, baseline among them where there is one

    @property
    def verdict(self) -> Verdict:
        """The worst arm's; INCONCLUSIVE where answers without speculation fail, too.

        Then the target here is not the one that answered, and no arm can be judged by it.
        """
        found = {arm.verdict for arm in self.arms}
        if any(arm.is_baseline and arm.verdict is Verdict.NO_GO for arm in self.arms):
            return Verdict.INCONCLUSIVE
        return next(
            one for one in (Verdict.NO_GO, Verdict.INCONCLUSIVE, Verdict.GO) if one in found
        )
