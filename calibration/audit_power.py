"""What the audit of sampled answers catches, and how often it cries wolf.

Contexts are drawn at random, each with a law of the target and one of the draft; the tokens that a
verifier emits there follow a law that is known exactly, sound or faulty. One place in ten has no
judged draft, like bonus tokens. Everything from the token on is the tool's own.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from calibration.effort import Effort, table
from specmeasure.estimate.sampled_drift import LEVEL, sampled_losslessness
from specmeasure.records.estimates import SampledLosslessness
from specmeasure.records.plan import Sampling, TrialKey
from specmeasure.records.trace import Checks, Pull, SampledAudit, Score, TrialRecord
from specmeasure.speculate.fit import likelihood_ratio, pull, randomised_pit, surprise

NUM_CONTEXTS, VOCAB_SIZE = 64, 64
SPREAD, DISTANCE = 2.5, 1.0  # of the target's logits, and of the draft's from them
SHARE_JUDGED = 0.9  # of emitted tokens
SEVERE = 0.001  # the policy's chance below which a verdict is NO_GO
NUM_TOKENS = (2_000, 20_000)
SHARE_OF_WORKLOADS = 0.25
KINDS = {"sampled drafts": False, "point-mass drafts": True}  # → whether each is a point mass

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Fault = Callable[[Tensor, Tensor], Tensor]  # target and draft [C, V] → emitted [C, V]


def sound(target_probs: Tensor, draft_probs: Tensor) -> Tensor:  # noqa: ARG001 - a Fault
    """What a lossless verifier emits."""
    return target_probs


def accepts_more(points: float) -> Fault:
    """Every draft's chance to be kept is so much higher than it should be, up to 1."""

    def emitted(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        keep = ((target_probs / draft_probs).nan_to_num(0.0, posinf=1.0) + points).clamp_max(1)
        return _emitted(keep, draft_probs, (target_probs - draft_probs).clamp_min(0))

    return emitted


def lets_through(share: float) -> Fault:
    """So many of the rejected drafts are kept."""

    def emitted(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        return (1 - share) * target_probs + share * draft_probs

    return emitted


def redraws_from_the_target(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    """After a rejection the draft's law is not subtracted."""
    keep = (target_probs / draft_probs).nan_to_num(0.0, posinf=1.0).clamp_max(1)
    return _emitted(keep, draft_probs, target_probs)


def warmer(factor: float) -> Fault:
    """Verification at another temperature of the target than the one asked for."""

    def emitted(target_probs: Tensor, draft_probs: Tensor) -> Tensor:  # noqa: ARG001
        return (target_probs.log() / factor).softmax(-1)

    return emitted


def _emitted(keep: Tensor, draft_probs: Tensor, after_rejection: Tensor) -> Tensor:
    kept = draft_probs * keep
    rest = after_rejection / after_rejection.sum(-1, keepdim=True)
    return kept + (1 - kept.sum(-1, keepdim=True)) * rest


FAULTS: Mapping[str, Fault] = {
    "none: lossless": sound,
    "keeps drafts with a chance 1 point too high": accepts_more(0.01),
    "2 points too high": accepts_more(0.02),
    "5 points too high": accepts_more(0.05),
    "lets 2 % of rejections through": lets_through(0.02),
    "redraws from the target instead of the residual": redraws_from_the_target,
    "temperature 2 % too high": warmer(1.02),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Laws:
    """Target and draft in every context, [C, V] float64."""

    target_probs: Tensor
    draft_probs: Tensor

    @property
    def acceptance(self) -> float:
        """Mean chance that a draft is kept."""
        return float(torch.minimum(self.target_probs, self.draft_probs).sum(-1).mean())


def make_laws(seed: int, *, is_point: bool = False) -> Laws:
    """Random laws; a draft that is a point mass is the draft model's likeliest token."""
    generator = torch.Generator().manual_seed(seed)
    shape = (NUM_CONTEXTS, VOCAB_SIZE)
    logits = SPREAD * torch.randn(shape, generator=generator, dtype=torch.float64)
    drafted = logits + DISTANCE * torch.randn(shape, generator=generator, dtype=torch.float64)
    draft_probs = drafted.softmax(-1)
    if is_point:
        draft_probs = functional.one_hot(drafted.argmax(-1), VOCAB_SIZE).double()
    return Laws(target_probs=logits.softmax(-1), draft_probs=draft_probs)


class Auditor:
    """Scores of all tokens in all contexts, so that a run is a draw of counts.

    Cells are contexts × tokens, first those with a judged draft, then those without.
    """

    def __init__(self, laws: Laws) -> None:
        self._laws = laws
        self.acceptance = laws.acceptance
        tokens = torch.arange(VOCAB_SIZE).repeat(NUM_CONTEXTS)
        target, draft = (
            one.repeat_interleave(VOCAB_SIZE, 0) for one in (laws.target_probs, laws.draft_probs)
        )
        rankings = (likelihood_ratio(target, draft), torch.zeros_like(target))
        nothing, whole = (fill(len(tokens)) for fill in (torch.zeros, torch.ones))
        self._below, self._upto = (
            _numpy(torch.cat([randomised_pit(tokens, target, one, part) for one in rankings]))
            for part in (nothing, whole)
        )
        nats, pulled = surprise(tokens, target), pull(tokens, target, draft)
        self._nats = np.tile(_columns(nats.excess, nats.variance, nats.third_moment), (2, 1))
        self._pull = _columns(
            pulled.scores.excess,
            pulled.scores.variance,
            pulled.scores.third_moment,
            pulled.shift,
            pulled.total_variation,
        )

    def draw(self, fault: Fault, num_tokens: int, rng: np.random.Generator) -> Counts:
        """How often each cell's token is emitted."""
        target, draft = self._laws.target_probs, self._laws.draft_probs
        shares = np.concatenate(
            [
                SHARE_JUDGED * _numpy(fault(target, draft)).ravel(),
                (1 - SHARE_JUDGED) * _numpy(target).ravel(),
            ]
        )
        return rng.multinomial(num_tokens, shares / shares.sum())

    def audit(self, counts: Counts, rng: np.random.Generator) -> SampledAudit:
        """The check of these tokens."""
        cells = np.repeat(np.arange(len(counts)), counts)
        below, upto = self._below[cells], self._upto[cells]
        judged = counts[: len(self._pull)]
        nats, pulled = counts @ self._nats, judged @ self._pull
        return SampledAudit(
            pit=tuple((below + rng.random(len(cells)) * (upto - below)).tolist()),
            num_impossible=0,
            surprise=Score(excess=nats[0], variance=nats[1], third_moment=nats[2]),
            pull=Pull(
                score=Score(excess=pulled[0], variance=pulled[1], third_moment=pulled[2]),
                shift=pulled[3],
                num_judged=int(judged.sum()),
                total_variation=pulled[4],
            ),
        )

    def judge(self, counts: Counts, rng: np.random.Generator) -> SampledLosslessness:
        """What the estimator says of these tokens, beside as many of a sound baseline."""
        baseline = self.draw(sound, int(counts.sum()), rng)
        found = sampled_losslessness(
            [as_trial(self.audit(counts, rng))], [as_trial(self.audit(baseline, rng))]
        )
        if not isinstance(found, SampledLosslessness):
            raise TypeError(f"not measured: {found}")
        return found


def as_trial(audit: SampledAudit) -> TrialRecord:
    """An answer of which nothing but its audit is known."""
    return TrialRecord(
        key=TrialKey(prompt_id="simulated", turn=0, repeat=0, arm="simulated"),
        prompt_hash="",
        labels={"category": "simulated"},
        sampling=Sampling(temperature=1.0),
        checks=Checks(sampled_audit=audit),
    )


def section(effort: Effort) -> str:
    """The table of power by fault, kind of draft and number of tokens."""
    columns = [(kind, size) for kind in KINDS for size in NUM_TOKENS]
    rows = []
    for name in FAULTS:
        cells = [
            effort.each(partial(p_value, name, kind, size), share=SHARE_OF_WORKLOADS)
            for kind, size in columns
        ]
        rows.append((name, *map(_cell, cells)))
    num_runs = len(cells[0])
    kept = [100 * auditor_of(kind).acceptance for kind in KINDS]
    heads = (f"{kind}, {size:,} tokens" for kind, size in columns)
    return f"""## Does the audit of sampled answers find a faulty verifier?

Percent of {num_runs:,} runs whose tokens are found unlikely under the target, by the tokens that
were checked: suspect (p < {LEVEL:g}) / wrong (p < {SEVERE:g}, a NO_GO). All four tests together,
corrected by Holm. A sound verifier may be suspect in {100 * LEVEL:g} % of runs; chance alone moves
that figure by ± {196 * math.sqrt(LEVEL * (1 - LEVEL) / num_runs):.1f} points (95 %).

{table(("fault of the verifier", *heads), rows)}

{NUM_CONTEXTS} contexts of {VOCAB_SIZE} tokens with random laws, of which a sound verifier keeps
{kept[0]:.0f} % of sampled drafts and {kept[1]:.0f} % of drafts that are point masses (a lookup, or
greedy drafts). Laws nearer to each other, or further apart, move these figures: a brief states the
power of its own run. That the real verifier emits these laws is for the tests to say."""


def p_value(fault: str, kind: str, num_tokens: int, seed: int) -> float:
    """One run's corrected chance under the target."""
    rng = np.random.default_rng((num_tokens, seed))
    auditor = auditor_of(kind)
    return auditor.judge(auditor.draw(FAULTS[fault], num_tokens, rng), rng).p_value


@cache
def auditor_of(kind: str) -> Auditor:
    """One for each process."""
    return Auditor(make_laws(0, is_point=KINDS[kind]))


def _cell(p_values: list[float]) -> str:
    suspect, wrong = (100 * np.mean(np.less(p_values, at)) for at in (LEVEL, SEVERE))
    return f"{suspect:.1f} / {wrong:.1f}"


def _numpy(values: Tensor) -> Floats:
    return values.double().numpy()


def _columns(*columns: Tensor) -> Floats:
    return np.stack([_numpy(one) for one in columns], axis=-1)
