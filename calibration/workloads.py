"""Workloads whose true values are known, as traces that the whole estimator reads.

Answers have lognormal lengths, cut by a budget. Acceptance differs by category and by prompt, and
changes within an answer between stretches that are easy and hard to draft. The machine's speed
wanders, and now and then changes by 15 % between two trials. All arms of a prompt run back to back,
in the order of ``run.schedule``. Blocks carry nominal seconds; the pace of a trial is in its
``decode_s`` and ``ttft_s``. Nothing is known here of text.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.decision import Policy
from specmeasure.records.machine import Environment
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method, Plan, TrialKey
from specmeasure.records.trace import (
    Audit,
    BlockRecord,
    Checks,
    CorpusFacts,
    FinishReason,
    Manifest,
    Trace,
    TrialRecord,
)
from specmeasure.run.schedule import group_order

BUDGET = 256  # tokens of an answer, at most
PREFILL_STEPS = 3.0  # what the prompt costs, in steps
Floats = NDArray[np.float64]
Whole = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A kind of traffic."""

    name: str
    share: float  # of prompts
    median_tokens: float  # of answers
    acceptance: float  # log odds that the middle prompt's draft is accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What prompts are drawn from."""

    categories: tuple[Category, ...] = (
        Category(name="chat", share=0.4, median_tokens=15, acceptance=0.95),
        Category(name="code", share=0.3, median_tokens=30, acceptance=1.25),
        Category(name="summary", share=0.2, median_tokens=20, acceptance=1.05),
        Category(name="translation", share=0.1, median_tokens=10, acceptance=0.9),
    )
    tail: float = 1.0  # standard deviation of the lengths' logarithm
    difficulty: float = 0.7  # of prompts within a category, as log odds
    num_difficulties: int = 21  # equally likely quantiles of that normal distribution
    stretch: float = 0.8  # log odds that an easy stretch adds and a hard one takes
    switch_chance: float = 1 / 12  # after each token, from one kind of stretch to the other

    @property
    def shares(self) -> Floats:
        return np.array([one.share for one in self.categories])

    def acceptance(self) -> Floats:
        """Chances [category, difficulty, stretch] that a draft is accepted."""
        middle = np.array([one.acceptance for one in self.categories])
        ranks = (np.arange(self.num_difficulties) + 0.5) / self.num_difficulties
        harder = self.difficulty * np.array([NormalDist().inv_cdf(rank) for rank in ranks])
        odds = middle[:, None, None] + harder[:, None] + self.stretch * np.array([1.0, -1.0])
        return np.asarray(1 / (1 + np.exp(-odds)))

    def lengths(self) -> Floats:
        """Chances [category, BUDGET + 1] of answers of so many tokens, 2 at least."""
        edges = np.arange(2, BUDGET) + 0.5
        below = np.array(
            [
                [NormalDist().cdf(math.log(edge / one.median_tokens) / self.tail) for edge in edges]
                for one in self.categories
            ]
        )
        chances = np.zeros((len(self.categories), BUDGET + 1))
        chances[:, 2:] = np.diff(below, prepend=0.0, append=1.0)
        return chances


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How fast the machine is, and how its speed goes."""

    step_s: float = 0.010  # one baseline pass
    verify_ratio: float = 1.3  # v, a pass with drafts
    overhead_ratio: float = 0.05  # o, every pass of a speculative arm
    jitter: float = 0.015  # standard deviation of the logarithm of one trial's pace
    drift: float = 0.005  # the same of what a trial's pace adds to the next one's
    recovery: float = 0.02  # share of the drift that the next trial has lost
    change_chance: float = 1 / 150  # before each trial
    change: float = 0.15  # of speed, on and off in turn

    def paces(self, num_trials: int, rng: np.random.Generator) -> Floats:
        """Seconds over nominal seconds of trials in the order of time; 1 on average."""
        wandering = np.zeros(num_trials)
        steps = self.drift * rng.normal(size=num_trials)
        for place in range(1, num_trials):
            wandering[place] = (1 - self.recovery) * wandering[place - 1] + steps[place]
        is_changed = np.cumsum(rng.random(num_trials) < self.change_chance) % 2
        noise = self.jitter * rng.normal(size=num_trials)
        return np.asarray(np.exp(wandering + noise) * (1 + self.change * is_changed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A speculative arm, and what a draft token of it costs."""

    arm: Arm
    draft_ratio: float  # c, in baseline steps


def draft(name: str = "draft", *, draft_ratio: float, num_speculative_tokens: int = 4) -> Draft:
    """An arm with a draft model."""
    arm = Arm(
        name=f"{name} k={num_speculative_tokens}",
        method=Method.DRAFT_MODEL,
        num_speculative_tokens=num_speculative_tokens,
        draft=name,
    )
    return Draft(arm=arm, draft_ratio=draft_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """Draws runs of these arms over prompts of this population."""

    drafts: tuple[Draft, ...]
    population: Population = Population()
    machine: Machine = Machine()

    @property
    def plan(self) -> Plan:
        arms = (BASELINE, *(one.arm for one in self.drafts), BASELINE_AGAIN)
        return Plan(target="target", arms=arms, max_new_tokens=BUDGET)

    def trace(self, num_prompts: int, rng: np.random.Generator) -> Trace:
        """A finished run over so many prompts."""
        plan = self.plan
        prompts = _Prompts.drawn(self.population, num_prompts, rng)
        answers = {BASELINE.name: [(_plain_block(),) * length for length in prompts.num_tokens]}
        answers[BASELINE_AGAIN.name] = answers[BASELINE.name]
        for one in self.drafts:
            runs = prompts.accepted_runs(one.arm.num_speculative_tokens, rng)
            answers[one.arm.name] = [
                _blocks(own, length, one.arm.num_speculative_tokens)
                for own, length in zip(runs, prompts.num_tokens.tolist(), strict=True)
            ]
        paces = self.machine.paces(num_prompts * len(plan.arms), rng).tolist()
        costs = {one.arm.name: one.draft_ratio for one in self.drafts}
        trials: list[TrialRecord] = []
        for index in range(num_prompts):
            category = self.population.categories[prompts.categories[index]].name
            for _, arm in group_order(plan, index, 0):
                blocks = answers[arm.name][index]
                pace = paces[len(trials)] * self.machine.step_s
                steps, prefill = self._steps(blocks, costs.get(arm.name))
                trials.append(
                    TrialRecord(
                        key=TrialKey(prompt_id=f"p{index}", turn=0, repeat=0, arm=arm.name),
                        prompt_hash=f"p{index}",
                        labels={"category": category},
                        num_prompt_tokens=40,
                        num_emitted_tokens=int(prompts.num_tokens[index]),
                        finish_reason=prompts.finish_reason(index),
                        ttft_s=prefill * pace,
                        decode_s=steps * pace,
                        checks=_PASSED,
                        blocks=blocks,
                    )
                )
        return Trace(manifest=_manifest(plan, num_prompts), trials=tuple(trials), sealed=True)

    def _steps(
        self, blocks: tuple[BlockRecord, ...], draft_ratio: float | None
    ) -> tuple[float, float]:
        """Decoding and the prefill, in baseline steps."""
        if draft_ratio is None:
            return float(len(blocks) - 1), PREFILL_STEPS
        num_drafts = sum(block.num_draft_tokens for block in blocks)
        num_drafted = sum(block.num_draft_tokens > 0 for block in blocks)
        num_plain = len(blocks) - 1 - num_drafted
        machine = self.machine
        steps = num_drafted * machine.verify_ratio + num_plain + num_drafts * draft_ratio
        overhead = (num_drafted + num_plain) * machine.overhead_ratio
        return steps + overhead, PREFILL_STEPS * (1 + draft_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompts:
    """Drawn prompts: how long their answers are, and how hard to draft."""

    population: Population
    categories: Whole  # [n]
    num_tokens: Whole  # [n] of the answer
    is_cut: NDArray[np.bool_]  # [n] the answer reached the budget
    difficulties: Whole  # [n]

    @classmethod
    def drawn(
        cls, population: Population, num_prompts: int, rng: np.random.Generator
    ) -> "_Prompts":
        categories = rng.choice(len(population.categories), num_prompts, p=population.shares)
        medians = np.array([one.median_tokens for one in population.categories])[categories]
        tokens = np.rint(medians * np.exp(population.tail * rng.normal(size=num_prompts)))
        return cls(
            population=population,
            categories=categories.astype(np.intp),
            num_tokens=np.clip(tokens, 2, BUDGET).astype(np.intp),
            is_cut=tokens > BUDGET,
            difficulties=rng.integers(population.num_difficulties, size=num_prompts),
        )

    def accepted_runs(self, most: int, rng: np.random.Generator) -> list[list[int]]:
        """How many drafts from each token on are accepted, ``most`` at most: [n][tokens]."""
        num_prompts, longest = len(self.num_tokens), int(self.num_tokens.max())
        flips = rng.random((num_prompts, longest)) < self.population.switch_chance
        flips[:, 0] = rng.random(num_prompts) < 0.5
        stretches = np.cumsum(flips, axis=1) % 2
        chances = _acceptance(self.population)[self.categories, self.difficulties]
        own = np.take_along_axis(chances, stretches, axis=1)
        is_accepted = rng.random((num_prompts, longest)) < own
        runs = np.zeros((num_prompts, longest + 1), dtype=np.intp)
        for place in range(longest - 1, -1, -1):
            runs[:, place] = np.where(
                is_accepted[:, place], np.minimum(runs[:, place + 1] + 1, most), 0
            )
        return [own[:length].tolist() for own, length in zip(runs, self.num_tokens, strict=True)]

    def finish_reason(self, index: int) -> FinishReason:
        return FinishReason.BUDGET if self.is_cut[index] else FinishReason.EOS


_acceptance = cache(Population.acceptance)
_PASSED = Checks(audit=Audit(num_checked_tokens=1, suspects=()))


def _blocks(runs: list[int], num_tokens: int, most: int) -> tuple[BlockRecord, ...]:
    """The passes of one answer: the prefill's token, then drafts as far as they are accepted."""
    blocks = [_plain_block()]
    place = 1
    while place < num_tokens:
        num_drafts = min(most, BUDGET - place - 1)
        num_left = num_tokens - place
        num_kept = min(runs[place], num_drafts, num_left)
        blocks.append(_block(num_drafts, num_kept, truncated=num_kept == num_left))
        place += blocks[-1].num_emitted_tokens
    return tuple(blocks)


def _plain_block() -> BlockRecord:
    return _block(0, 0, truncated=False)


@cache
def _block(num_drafts: int, num_kept: int, *, truncated: bool) -> BlockRecord:
    return BlockRecord(
        num_draft_tokens=num_drafts,
        num_accepted_tokens=num_kept,
        num_emitted_tokens=num_kept + (not truncated),
        context_length=40,
        draft_s=0.001 * num_drafts,
        verify_s=0.013 if num_drafts else 0.010,
        truncated=truncated,
    )


def _manifest(plan: Plan, num_prompts: int) -> Manifest:
    return replace(
        _EMPTY,
        plan=plan,
        corpus=replace(_EMPTY.corpus, num_prompts=num_prompts),
        num_planned_trials=num_prompts * len(plan.arms),
    )


_EMPTY = Manifest(
    schema_version=0,
    started_at="2026-01-01T00:00:00+00:00",
    argv=(),
    plan=Plan(target="target", arms=(BASELINE,)),
    corpus=CorpusFacts(
        sources=(), options=CorpusOptions(), fingerprint="", num_prompts=0, files=(), dropped=()
    ),
    environment=Environment(
        versions={},
        platform="simulated",
        cpu="simulated",
        num_cores=1,
        memory_bytes=0,
        num_threads=1,
        load_average=None,
    ),
    models=(),
    num_planned_trials=0,
    policy=Policy(),
)
