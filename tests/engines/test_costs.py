"""What steps cost: timed in the real loop, on tables instead of models and a clock that is told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from specmeasure.decode.loop import Decoder
from specmeasure.engines import costs
from specmeasure.engines.costs import CostMeter, session_tokens
from specmeasure.engines.proposing import Drafting
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.early_exit import EarlyExitProposer
from specmeasure.records.costs import CostTable, DraftCosts
from specmeasure.records.plan import GREEDY, Sampling
from tests.decode.table_model import TableModel, random_table
from tests.estimate.replays import make_costs

CPU = torch.device("cpu")
VOCAB = 40
STEP_S, ROW_S, DRAFT_S, TICK_S = 1.0, 0.125, 0.0625, 0.015625  # exact in binary


@dataclass
class ToldClock:
    """Moves when a model reads; every mark itself takes a tick, which is the loop's overhead."""

    now: float = 0.0
    slowness: float = 1.0

    def mark(self) -> float:
        self.now += TICK_S * self.slowness
        return self.now

    def seconds(self, earlier: float, later: float) -> float:
        return later - earlier

    def spend(self, seconds: float) -> None:
        self.now += seconds * self.slowness


class TimedModel(TableModel):
    """A table that takes its time, and remembers how many rows each pass had."""

    def __init__(self, clock: ToldClock, first_s: float, row_s: float) -> None:
        super().__init__(random_table(VOCAB, 0))
        self._clock, self._first_s, self._row_s = clock, first_s, row_s
        self.passes: list[int] = []
        self.contexts: list[int] = []

    def prefill(self, ids: Sequence[int]) -> Tensor:
        self.contexts.append(len(ids))
        return super().prefill(list(ids))

    def forward(self, ids: Tensor) -> Tensor:
        self.passes.append(len(ids))
        self._clock.spend(self._first_s + self._row_s * (len(ids) - 1))
        return super().forward(ids)


@dataclass
class Bench:
    """A meter, its clock and both models."""

    clock: ToldClock
    target: TimedModel
    draft: TimedModel
    meter: CostMeter

    def drafting(self) -> Drafting:
        proposer = DraftModelProposer(self.draft, GREEDY, generator=torch.Generator(), device=CPU)
        return Drafting(target=self.target, proposer=proposer)

    def table(self) -> CostTable:
        target = self.meter.target()
        drafts = {"draft": self.meter.drafts(self.drafting(), target)}
        return self.meter.table("told", target, drafts)


def bench(*, most: int = 6, sampling: Sampling = GREEDY) -> Bench:
    clock = ToldClock()
    target = TimedModel(clock, STEP_S, ROW_S)
    decoder = Decoder(
        target=target,
        sampling=sampling,
        generator=torch.Generator().manual_seed(0),
        clock=clock,
        device=CPU,
    )
    contexts = (tuple(range(4)), tuple(range(9)))
    meter = CostMeter(decoder=decoder, contexts=contexts, most=most)
    return Bench(clock, target, TimedModel(clock, DRAFT_S, 0.0), meter)


def test_the_table_has_every_block_size():
    """Verifications of 1 to K + 1 rows, drafts at powers of two and K, in every round."""
    table = bench().table()

    assert (4, 9) == table.context_lengths
    assert (1, 2, 3, 4, 5, 6, 7) == table.num_rows
    assert (1, 2, 4, 6) == table.num_drafts
    assert costs.NUM_ROUNDS == len(table.rounds)


@pytest.mark.parametrize(
    ("most", "expected"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8))]
)
def test_drafting_is_timed_at_powers_of_two_and_the_most(most: int, expected: tuple[int, ...]):
    """Between them costs are a line."""
    assert expected == bench(most=most).meter.num_drafts


def test_costs_are_those_of_the_models():
    """A pass costs its rows, a draft its step: the table finds what the clock was told."""
    table = bench().table()
    for one in table.rounds:
        for verify_s in one.verify_s:
            expected = [STEP_S + ROW_S * (rows - 1) for rows in table.num_rows]

            assert expected == pytest.approx(list(verify_s), abs=2 * TICK_S)
        for draft_s in one.drafts["draft"].draft_s:
            expected = [DRAFT_S * drafts for drafts in table.num_drafts]

            assert expected == pytest.approx(list(draft_s), abs=2 * TICK_S)


def test_every_block_size_is_timed_once_a_round():
    """Each round runs K = 0 … most on each context between plain steps, one session warms up."""
    made = bench()
    made.meter.target()
    num_sessions = 1 + 2 * costs.NUM_ROUNDS
    for rows in range(1, 8):
        beside = 2 * costs.NUM_STEPS * (rows == 1) + (rows == costs.WARMING + 1)

        assert num_sessions * (1 + beside) == made.target.passes.count(rows), rows


def test_blocks_are_run_in_another_order_every_time():
    """Nothing is always timed first."""
    made = bench()
    made.meter.target()
    size = 2 * costs.NUM_STEPS + 1 + 7
    starts = range(0, len(made.target.passes), size)
    sessions = {tuple(made.target.passes[i : i + size]) for i in starts}

    assert len(starts) == 1 + 2 * costs.NUM_ROUNDS
    assert len(sessions) > len(starts) // 2


class TimedExit(TimedModel):
    """A target whose verification is cheaper by what was drafted for it."""

    def draft(self, ids: Tensor) -> Tensor:
        self._clock.spend(DRAFT_S * len(ids))
        return self.logits[ids]

    def forward(self, ids: Tensor) -> Tensor:
        rows = super().forward(ids)
        self._clock.spend(-DRAFT_S * (len(ids) - 1))
        return rows


def exit_drafting(made: Bench) -> Drafting:
    target = TimedExit(made.clock, STEP_S, ROW_S)
    proposer = EarlyExitProposer(target, GREEDY, generator=torch.Generator(), device=CPU)
    return Drafting(target=target, proposer=proposer)


def test_an_early_exit_is_timed_with_its_own_verifications():
    """Rows that its drafts have read cost less; every size is timed, drafts at the usual ones."""
    made = bench()
    costs_of_target = made.meter.target()
    drafts = made.meter.drafts(exit_drafting(made), costs_of_target)
    table = made.meter.table("told", costs_of_target, {"exit": drafts})
    for one in table.rounds:
        own = one.drafts["exit"]
        rows = [STEP_S + (ROW_S - DRAFT_S) * (rows - 1) for rows in table.num_rows]
        for found in own.verify_s or ():
            assert rows == pytest.approx(list(found), abs=2 * TICK_S)
        for found in own.draft_s:
            expected = [DRAFT_S * drafts for drafts in table.num_drafts]
            assert expected == pytest.approx(list(found), abs=2 * TICK_S)

        assert 2 == len(own.verify_s or ())


def test_what_the_target_itself_verifies_is_not_timed_again():
    """A draft model's verifications are those of the table."""
    made = bench()

    assert all(
        one.verify_s is None for one in made.meter.drafts(made.drafting(), made.meter.target())
    )


@pytest.mark.parametrize("slowness", [0.5, 2.0])
def test_a_machine_that_slows_down_changes_no_ratio(slowness: float):
    """A candidate timed at another speed than the target costs the same beside a step."""
    steady, drifting = bench(), bench()
    target = steady.meter.target()
    expected = steady.meter.drafts(steady.drafting(), target)
    drifting.meter.target()
    drifting.clock.slowness = slowness
    found = drifting.meter.drafts(drifting.drafting(), target)

    for one, other in zip(expected, found, strict=True):
        assert_close(one, other)


def assert_close(one: DraftCosts, other: DraftCosts) -> None:
    assert list(one.overhead_s) == pytest.approx(list(other.overhead_s))
    for row, same in zip(one.draft_s, other.draft_s, strict=True):
        assert list(row) == pytest.approx(list(same))


def test_rounds_are_scaled_to_the_median_step(monkeypatch: pytest.MonkeyPatch):
    """A round at half speed gives the verifications of the others."""
    made = bench()
    session, seen = CostMeter._session, []

    def slower_in_the_second_round(self: CostMeter, *arguments: Any) -> Any:
        seen.append(arguments)
        made.clock.slowness = 2.0 if 3 < len(seen) <= 5 else 1.0
        return session(self, *arguments)

    monkeypatch.setattr(CostMeter, "_session", slower_in_the_second_round)
    found = made.meter.target()

    assert list(found.step_s) == pytest.approx([STEP_S + 3 * TICK_S] * 2, abs=2 * TICK_S)
    for one in found.verify_s[1:]:
        for row, first in zip(one, found.verify_s[0], strict=True):
            assert list(first) == pytest.approx(list(row))


def test_a_baseline_that_does_less_is_timed_apart():
    """Where forgetting has a price, the plain step is the baseline's own."""
    made = bench()
    dearer, forward = replace(made.meter, baseline_differs=True), made.target.forward
    reset = made.target.reset

    def remembered(*, rolls_back: bool) -> None:
        made.target.forgets = rolls_back
        reset(rolls_back=rolls_back)

    def paid(ids: Tensor) -> Tensor:
        made.clock.spend(STEP_S * made.target.forgets)
        return forward(ids)

    made.target.reset, made.target.forward = remembered, paid  # type: ignore[method-assign]
    found = dearer.target()

    assert list(found.step_s) == pytest.approx([STEP_S] * 2, abs=5 * TICK_S)
    assert all(row[0] == pytest.approx(2 * STEP_S, abs=2 * TICK_S) for row in found.verify_s[0])


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0.8)], ids=str)
def test_the_target_never_reads_past_the_room(sampling: Sampling):
    """Contexts that leave ``session_tokens(K)`` tokens fit every session."""
    made = bench(sampling=sampling)
    longest, forward = [0], made.target.forward

    def watched(ids: Tensor) -> Tensor:
        rows = forward(ids)
        longest.append(len(made.target.read) - made.target.contexts[-1])
        return rows

    made.target.forward = watched  # type: ignore[method-assign]
    made.table()

    assert 0 < max(longest) <= session_tokens(6)


def test_costs_say_nothing_of_what_is_drafted():
    """How many drafts a pair keeps is scripted: the same costs for a hopeless draft."""
    good, bad = bench(), bench()
    bad.draft.logits = -bad.draft.logits

    assert good.table() == bad.table()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_lengths": (128, 32, 512)}, "not a rising list"),
        ({"context_lengths": ()}, "not a rising list"),
        ({"context_lengths": (-1, 32, 128)}, "not a rising list"),
        ({"num_rows": (2, 3, 5, 9, 17, 33, 65)}, "begin with 1"),
        ({"num_drafts": (2, 4, 8, 16, 32, 64)}, "begin with 1"),
        ({"num_drafts": (1, 2, 4)}, r"draft_s\[0\] of small has 6 numbers, 3 belong there"),
        ({"num_rows": (1, 2)}, r"a row of verify_s\[0\] has 7 numbers, 2 belong there"),
        ({"context_lengths": (1, 2)}, "step_s has 3 numbers, 2 belong there"),
        ({"rounds": ()}, "rounds is empty"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str):
    """Axes rise from 1, and every number has its place."""
    with pytest.raises(ValueError, match=message):
        replace(make_costs(), **changes)


@pytest.mark.parametrize("num_rows", [6, 8])
def test_a_candidates_own_verifications_have_the_tables_rows(num_rows: int):
    """A grid of another shape is refused, with its place."""
    table = make_costs()
    one = table.rounds[0].drafts["small"]
    own = replace(one, verify_s=((0.1,) * num_rows,) * 3)
    rounds = (replace(table.rounds[0], drafts={"small": own}),)

    with pytest.raises(ValueError, match=rf"verify_s\[0\] of small has {num_rows} numbers, 7"):
        replace(table, rounds=rounds)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_time_is_a_time(seconds: float):
    """Below zero, NaN or infinite is none."""
    with pytest.raises(ValueError, match="is no time"):
        DraftCosts(draft_s=((seconds,),), overhead_s=(0.0,))


def test_a_step_takes_time():
    """Ratios are taken of it."""
    with pytest.raises(ValueError, match="a step takes no time"):
        replace(make_costs().rounds[0], step_s=(0.0, 1.0, 1.0))
