"""What an estimator would find with endless prompts of a population: exact expectations.

The chance that a block starts at a token is carried from token to token, apart for every category,
difficulty and kind of stretch; sums of it up to an answer's length are its expected counts. The
machine's pace is the same for all arms on average and cancels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from calibration.workloads import BUDGET, PREFILL_STEPS, Draft, Floats, Machine, Population


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """True values of one arm."""

    decode_speedup: float
    end_to_end_speedup: float
    mean_acceptance_length: float
    tokens_per_target_pass: float
    draft_acceptance_rate: float
    acceptance_survival: tuple[float, ...]
    conditional_acceptance: tuple[float, ...]
    slice_speedups: Mapping[str, float]  # by category


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Expected counts of one answer by category: [categories], or [categories, K]."""

    num_tokens: Floats
    num_passes: Floats  # the prefill apart
    num_drafted_blocks: Floats
    num_drafts: Floats
    num_reached: Floats
    num_kept: Floats

    @property
    def num_decoded(self) -> Floats:
        return self.num_tokens - 1

    def whole(self, shares: Floats) -> "Expected":
        """The average over all categories, as the only one."""
        return Expected(
            **{one.name: (shares @ getattr(self, one.name))[None] for one in fields(Expected)}
        )

    def steps(self, machine: Machine, draft_ratio: float) -> Floats:
        """Decoding with the arm, in baseline steps."""
        num_plain = self.num_passes - self.num_drafted_blocks
        drafting = self.num_drafts * draft_ratio
        overhead = self.num_passes * machine.overhead_ratio
        return self.num_drafted_blocks * machine.verify_ratio + num_plain + drafting + overhead


def true_values(population: Population, machine: Machine, draft: Draft) -> Truth:
    """Ratios of expectations, as the estimators' are ratios of sums."""
    expected = expect(population, draft.arm.num_speculative_tokens)
    whole = expected.whole(population.shares)
    steps = whole.steps(machine, draft.draft_ratio)
    prefill = PREFILL_STEPS * (1 + draft.draft_ratio)
    conditional = (whole.num_kept / whole.num_reached)[0]
    slices = expected.num_decoded / expected.steps(machine, draft.draft_ratio)
    accepted = whole.num_kept.sum(axis=1)
    return Truth(
        decode_speedup=float((whole.num_decoded / steps)[0]),
        end_to_end_speedup=float(((whole.num_decoded + PREFILL_STEPS) / (steps + prefill))[0]),
        mean_acceptance_length=float((1 + accepted / whole.num_drafted_blocks)[0]),
        tokens_per_target_pass=float((whole.num_tokens / (1 + whole.num_passes))[0]),
        draft_acceptance_rate=float((accepted / whole.num_drafts)[0]),
        acceptance_survival=tuple(np.cumprod(conditional).tolist()),
        conditional_acceptance=tuple(conditional.tolist()),
        slice_speedups=dict(
            zip([one.name for one in population.categories], slices.tolist(), strict=True)
        ),
    )


def at_speedup(speedup: float, draft: Draft, population: Population, machine: Machine) -> Draft:
    """The same arm at the draft cost that makes this its true decode speedup."""
    whole = expect(population, draft.arm.num_speculative_tokens).whole(population.shares)
    fixed = whole.steps(machine, 0.0)
    draft_ratio = float(((whole.num_decoded / speedup - fixed) / whole.num_drafts)[0])
    if draft_ratio < 0:
        raise ValueError(f"a speedup of {speedup} is not reached even with free drafts")
    return replace(draft, draft_ratio=draft_ratio)


def expect(population: Population, most: int) -> Expected:
    """Expected counts of an answer when K is ``most``, the budget's last blocks drafting fewer."""
    starts, kept = _walk(population, most)
    places = np.arange(BUDGET)
    num_drafts = np.clip(BUDGET - places - 1, 0, most)  # [BUDGET] by the block's first token
    lengths = population.lengths()

    def average(per_block: Floats, *, ahead: int) -> Floats:
        """Over lengths, of what blocks count that have ``ahead`` tokens before them or more."""
        up_to = np.cumsum(per_block.mean(axis=1), axis=1)  # [categories, BUDGET]
        last = np.arange(BUDGET + 1) - ahead
        sums = np.where(last >= 0, up_to[:, np.clip(last, 0, BUDGET - 1)], 0.0)
        return np.asarray((lengths * sums).sum(axis=1))

    reached = [starts, *kept[:-1]]
    return Expected(
        num_tokens=lengths @ np.arange(BUDGET + 1),
        num_passes=average(starts, ahead=1),
        num_drafted_blocks=average(starts * (num_drafts > 0), ahead=1),
        num_drafts=average(starts * num_drafts, ahead=1),
        num_reached=np.stack(
            [average(one * (num_drafts > i), ahead=i + 1) for i, one in enumerate(reached)], axis=1
        ),
        num_kept=np.stack([average(one, ahead=i + 1) for i, one in enumerate(kept)], axis=1),
    )


def _walk(population: Population, most: int) -> tuple[Floats, list[Floats]]:
    """Chances that a block starts at a token of an endless answer, and that it keeps i + 1 drafts.

    Each is [categories, difficulties, BUDGET] by the block's first token; the prefill's token is
    the first of the answer.
    """
    accept = population.acceptance()  # [categories, difficulties, stretches]
    starts = np.zeros((BUDGET + most + 2, *accept.shape))
    starts[1] = 0.5
    kept = np.zeros((most, BUDGET, *accept.shape))
    for place in range(1, BUDGET):
        num_drafts = min(most, BUDGET - place - 1)
        alive = starts[place]
        for i in range(num_drafts):
            kept[i, place] = alive * accept
            starts[place + i + 1] += _next_token(population, alive * (1 - accept))
            alive = _next_token(population, alive * accept)
        starts[place + num_drafts + 1] += _next_token(population, alive)
    by_token = np.moveaxis(starts[:BUDGET].sum(axis=-1), 0, -1)
    return by_token, [np.moveaxis(one.sum(axis=-1), 0, -1) for one in kept]


def _next_token(population: Population, chances: Floats) -> Floats:
    """The stretches [..., 2] one token later."""
    return chances + population.switch_chance * (chances[..., ::-1] - chances)
