"""What target steps, verifications, drafts and the loop cost here, timed in the loop itself.

The real loop runs blocks of every size in shuffled order on the workload's own contexts; only the
number of kept drafts is scripted. Every session begins and ends with steps without drafts, and all
its times are scaled to them, so that a machine whose speed drifts changes no ratio.
"""

import random
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specmeasure.decode.loop import Decoded, Decoder
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.decode.stopping import Cut
from specmeasure.engines.proposing import Drafting
from specmeasure.records.costs import CostRound, CostTable, DraftCosts
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import BlockRecord, FinishReason
from specmeasure.speculate.proposal import Proposal, Proposer
from specmeasure.speculate.verdict import Verdict
from specmeasure.speculate.verify import verify_strictly

NUM_ROUNDS = 9
NUM_STEPS = 6  # without drafts, before and after the blocks of a session
NUM_COLD = 2  # first blocks after a prefill: slower, and not looked at
WARMING = (
    2  # drafts of a block that is not looked at: a proposer catches up on what it has not read
)
MOST_KEPT = 1  # drafts of a block: what is kept costs about what is forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCosts:
    """The target's part, in seconds."""

    plain_s: tuple[float, ...]  # [context], a verification of one row, the median over rounds
    step_s: tuple[float, ...]  # [context], the plain loop's time for a token
    verify_s: tuple[tuple[tuple[float, ...], ...], ...]  # [round][context][drafts, from 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostMeter:
    """Times blocks of one target on contexts of the workload.

    Args:
        decoder: the loop; its verification is run, then overruled.
        contexts: by rising length.
        most: K of the largest block.
        baseline_differs: a baseline's cache does less than one that can forget.
        seed: of the shuffled order.
    """

    decoder: Decoder
    contexts: tuple[tuple[int, ...], ...]
    most: int
    baseline_differs: bool = False
    seed: int = 0

    @property
    def num_drafts(self) -> tuple[int, ...]:
        """Block sizes at which drafting is timed: powers of two up to the most."""
        return tuple(sorted({*(1 << power for power in range(self.most.bit_length())), self.most}))

    def target(self) -> TargetCosts:
        """Plain steps, and verifications of K = 0 … most drafts, at the median round's speed."""
        proposer, lengths = _SomeTokens(self.decoder.device), range(self.most + 1)
        rounds = self.rounds(Drafting(target=self.decoder.target, proposer=proposer), lengths)
        columns = list(zip(*rounds, strict=True))  # [context][round]
        plain = tuple(statistics.median(one.plain_s for one in column) for column in columns)
        overhead = [
            statistics.median(one.overhead_s * step / one.plain_s for one in column)
            for step, column in zip(plain, columns, strict=True)
        ]
        return TargetCosts(
            plain_s=plain,
            step_s=tuple(
                (step + loop_s) * self._baseline_ratio(ids)
                for step, loop_s, ids in zip(plain, overhead, self.contexts, strict=True)
            ),
            verify_s=tuple(
                tuple(
                    tuple(block.verify_s * step / timed.plain_s for block in timed.blocks)
                    for step, timed in zip(plain, one, strict=True)
                )
                for one in rounds
            ),
        )

    def drafts(self, drafting: Drafting, target: TargetCosts) -> tuple[DraftCosts, ...]:
        """One candidate's part of a block by round, at the speed of the target's rounds.

        A candidate whose target verifies otherwise than for others, as after an early exit, is
        timed at every block size, and what its verifications cost is part of it. Where they are
        launched from Python and the target's steps are graphs, its speed is that of steps of the
        target timed beside it: its own are slower, and that is what it costs.
        """
        verifies_itself = drafting.target is not self.decoder.target
        lengths = tuple(range(self.most + 1)) if verifies_itself else self.num_drafts
        at = [lengths.index(number) for number in self.num_drafts]
        meter = replace(self, decoder=replace(self.decoder, target=drafting.target))
        beside = self if self._is_faster_than(drafting) else None
        found = []
        for one in meter.rounds(drafting, lengths, beside):
            speeds = [
                (step / timed.plain_s, timed)
                for step, timed in zip(target.plain_s, one, strict=True)
            ]
            verify_s = tuple(
                tuple(block.verify_s * scale for block in timed.blocks) for scale, timed in speeds
            )
            found.append(
                DraftCosts(
                    draft_s=tuple(
                        tuple(timed.blocks[place].draft_s * scale for place in at)
                        for scale, timed in speeds
                    ),
                    overhead_s=tuple(timed.overhead_s * scale for scale, timed in speeds),
                    verify_s=verify_s if verifies_itself else None,
                )
            )
        return tuple(found)

    def table(
        self,
        machine: str,
        target: TargetCosts,
        drafts: Mapping[str, Sequence[DraftCosts]],
        *,
        num_nodes: tuple[int, ...] = (),
    ) -> CostTable:
        """Everything that was timed, candidates by name; trees at ``num_nodes``."""
        return CostTable(
            machine=machine,
            context_lengths=tuple(map(len, self.contexts)),
            num_rows=tuple(range(1, self.most + 2)),
            num_drafts=self.num_drafts,
            rounds=tuple(
                CostRound(
                    step_s=target.step_s,
                    verify_s=verifications,
                    drafts={name: rounds[place] for name, rounds in drafts.items()},
                )
                for place, verifications in enumerate(target.verify_s)
            ),
            num_nodes=num_nodes,
        )

    def prepare(self, drafting: Drafting, rows: Collection[int]) -> None:
        """Capture what a session needs on each context, where models can: the longest one first.

        Args:
            drafting: whose models are captured.
            rows: of the target's passes.
        """
        for ids in reversed(self.contexts):
            last = len(ids) + session_tokens(max(self.most, *rows))
            drafting.prepare(rows, first=len(ids) + 1, last=last)

    def _is_faster_than(self, drafting: Drafting) -> bool:
        """Whether the loop's target is captured, and the one that this candidate has is not."""
        ours, its = (
            isinstance(one, StaticCausalLM) for one in (self.decoder.target, drafting.target)
        )
        return ours and not its

    def rounds(
        self, drafting: Drafting, lengths: Sequence[int], beside: "CostMeter | None" = None
    ) -> list[list["_Timed"]]:
        """Sessions [round][context], after one that warms every shape up.

        Args:
            drafting: what is timed.
            lengths: of its blocks.
            beside: whose plain steps, timed after each session, stand for the session's own.
        """
        rng = random.Random(self.seed)
        self.prepare(drafting, range(1, max(*lengths, WARMING) + 2))
        if beside is not None:
            beside.prepare(Drafting(target=beside.decoder.target, proposer=None), (1,))

        def session(ids: Sequence[int]) -> _Timed:
            timed = self._session(drafting.proposer, ids, lengths, rng)
            if beside is None:
                return timed
            return replace(timed, plain_s=beside.plain_s(ids))

        session(self.contexts[0])
        return [[session(ids) for ids in self.contexts] for _ in range(NUM_ROUNDS)]

    def plain_s(self, context: Sequence[int]) -> float:
        """Seconds of a verification of one row, without a session around it."""
        decoded = self._decode(_SomeTokens(self.decoder.device), context, [0] * 2 * NUM_STEPS)
        return statistics.median(block.verify_s for block in decoded.blocks[1 + NUM_COLD :])

    def _session(
        self,
        proposer: Proposer | None,
        context: Sequence[int],
        lengths: Sequence[int],
        rng: random.Random,
    ) -> "_Timed":
        """A block of every length, run in shuffled order between plain steps, back in theirs."""
        order = rng.sample(range(len(lengths)), len(lengths))
        plain, wanted = [0] * NUM_STEPS, [lengths[place] for place in order]
        decoded = self._decode(proposer, context, [*plain, WARMING, *wanted, *plain])
        steps = decoded.blocks[1 + NUM_COLD : 1 + NUM_STEPS] + decoded.blocks[-NUM_STEPS:]
        blocks = dict(zip(order, decoded.blocks[NUM_STEPS + 2 : -NUM_STEPS], strict=True))
        return _Timed(
            plain_s=statistics.median(block.verify_s for block in steps),
            blocks=tuple(blocks[place] for place in range(len(lengths))),
            overhead_s=_overhead_s(decoded),
        )

    def _baseline_ratio(self, context: Sequence[int]) -> float:
        """A baseline's step over one of a cache that can forget; the same work where it crops."""
        if not self.baseline_differs:
            return 1.0
        ratios, some_tokens = [], _SomeTokens(self.decoder.device)
        for _ in range(NUM_ROUNDS):
            steps = [
                statistics.median(block.verify_s for block in decoded.blocks[1 + NUM_COLD :])
                + _overhead_s(decoded)
                for proposer in (None, some_tokens)
                for decoded in [self._decode(proposer, context, [0] * 2 * NUM_STEPS)]
            ]
            ratios.append(steps[0] / steps[1])
        return statistics.median(ratios)

    def _decode(
        self, proposer: Proposer | None, context: Sequence[int], lengths: Sequence[int]
    ) -> Decoded:
        scripted = replace(self.decoder, verify=_verify_and_overrule)
        return scripted.decode(proposer, context, _Script(lengths))


def _overhead_s(decoded: Decoded) -> float:
    """Outside drafting and verifying, of a block on average."""
    blocks = decoded.blocks[1:]
    spent_s = sum(block.draft_s + block.verify_s for block in blocks)
    return max(0.0, decoded.decode_s - spent_s) / len(blocks)


def session_tokens(most: int) -> int:
    """Tokens that the longest session adds to a context."""
    return (MOST_KEPT + 1) * (most + 3 + 2 * NUM_STEPS) + most + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    plain_s: float  # a verification without drafts, in the same session
    blocks: tuple[BlockRecord, ...]
    overhead_s: float  # of a block, on average


class _Script:
    """``Ending`` after a given list of block sizes."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = list(lengths)
        self._num_cut = -1  # the prefill is cut first

    def num_drafts(self, num_emitted: int) -> int:  # noqa: ARG002 - the protocol's argument
        return self._lengths[self._num_cut]

    def cut(self, emitted: Sequence[int], tokens: Sequence[int]) -> Cut:  # noqa: ARG002 - likewise
        self._num_cut += 1
        is_over = self._num_cut == len(self._lengths)
        return Cut(num_tokens=len(tokens), reason=FinishReason.BUDGET if is_over else None)


class _SomeTokens:
    """A proposer that drafts without doing anything."""

    def __init__(self, device: torch.device) -> None:
        self._tokens = torch.arange(1, 1 << 10, device=device)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Nothing to read."""

    def propose(self, num_tokens: int) -> Proposal:
        return Proposal(tokens=self._tokens[:num_tokens])

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Nothing to remember."""


def _verify_and_overrule(
    proposal: Proposal, logits: Tensor, sampling: Sampling, *, generator: torch.Generator
) -> Verdict:
    """The real verification, then as many drafts kept as the script says."""
    verdict = verify_strictly(proposal, logits, sampling, generator=generator)
    return replace(verdict, num_accepted=min(MOST_KEPT, proposal.num_tokens))
