"""What target steps, verifications, drafts and the loop cost here, timed in the loop itself.

The real loop runs blocks of every size in shuffled order on the workload's own contexts; only the
number of kept drafts is scripted. Drafts are timed one candidate after the other, each beside plain
steps of its own, so that a machine whose speed drifts changes no ratio.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Cut
from specmeasure.records.costs import CostRound, CostTable, DraftCosts
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import BlockRecord, FinishReason
from specmeasure.speculate.proposal import Proposal, Proposer
from specmeasure.speculate.verify import Verdict, verify_strictly

NUM_ROUNDS = 9
NUM_STEPS = 12  # plain steps beside every session
WARMING = (2, 0)  # drafts of the first blocks after a prefill: slower, and not looked at
MOST_KEPT = 1  # drafts of a block: what is kept costs about what is forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCosts:
    """The target's part, in seconds."""

    step_s: tuple[float, ...]  # [context], the median over rounds
    verify_s: tuple[tuple[tuple[float, ...], ...], ...]  # [round][context][drafts, from 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostMeter:
    """Times blocks of one target on contexts of the workload.

    Args:
        decoder: the loop; its verification is run, then overruled.
        contexts: by rising length.
        most: K of the largest block.
        seed: of the shuffled order.
    """

    decoder: Decoder
    contexts: tuple[tuple[int, ...], ...]
    most: int
    seed: int = 0

    @property
    def num_drafts(self) -> tuple[int, ...]:
        """Block sizes at which drafting is timed: powers of two up to the most."""
        return tuple(sorted({*(1 << power for power in range(self.most.bit_length())), self.most}))

    def target(self) -> TargetCosts:
        """Plain steps, and verifications of K = 0 … most drafts.

        Every round is scaled to the median round's plain step, so that a machine whose speed drifts
        from round to round changes no ratio.
        """
        rng, proposer = random.Random(self.seed), _SomeTokens(self.decoder.device)
        lengths = range(self.most + 1)
        self._blocks(proposer, self.contexts[0], lengths, rng)  # warms every shape up
        rounds = [
            [
                (self._step_s(ids), self._blocks(proposer, ids, lengths, rng).blocks)
                for ids in self.contexts
            ]
            for _ in range(NUM_ROUNDS)
        ]
        steps = tuple(
            statistics.median(step_s for step_s, _ in column)
            for column in zip(*rounds, strict=True)
        )
        return TargetCosts(
            step_s=steps,
            verify_s=tuple(
                tuple(
                    tuple(block.verify_s * step / own_step for block in blocks)
                    for step, (own_step, blocks) in zip(steps, one, strict=True)
                )
                for one in rounds
            ),
        )

    def drafts(self, proposer: Proposer, target: TargetCosts) -> tuple[DraftCosts, ...]:
        """One candidate's drafting and overhead by round, scaled to the target's plain step."""
        rng = random.Random(self.seed)
        self._blocks(proposer, self.contexts[0], self.num_drafts, rng)
        rounds = []
        for _ in range(NUM_ROUNDS):
            pairs = [
                (step / self._step_s(ids), self._blocks(proposer, ids, self.num_drafts, rng))
                for step, ids in zip(target.step_s, self.contexts, strict=True)
            ]
            rounds.append(
                DraftCosts(
                    draft_s=tuple(
                        tuple(block.draft_s * scale for block in timed.blocks)
                        for scale, timed in pairs
                    ),
                    overhead_s=tuple(timed.overhead_s * scale for scale, timed in pairs),
                )
            )
        return tuple(rounds)

    def table(
        self, machine: str, target: TargetCosts, drafts: Mapping[str, Sequence[DraftCosts]]
    ) -> CostTable:
        """Everything that was timed, candidates by name."""
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
        )

    def _step_s(self, context: Sequence[int]) -> float:
        """The plain loop's time for a token."""
        timed = self._run(None, context, [0] * NUM_STEPS)
        return statistics.median(block.verify_s for block in timed.blocks) + timed.overhead_s

    def _blocks(
        self, proposer: Proposer, context: Sequence[int], lengths: Sequence[int], rng: random.Random
    ) -> "_Timed":
        """A block of every length, run in shuffled order, given back in theirs."""
        order = rng.sample(range(len(lengths)), len(lengths))
        timed = self._run(proposer, context, [lengths[place] for place in order])
        blocks = dict(zip(order, timed.blocks, strict=True))
        return replace(timed, blocks=tuple(blocks[place] for place in range(len(lengths))))

    def _run(
        self, proposer: Proposer | None, context: Sequence[int], lengths: Sequence[int]
    ) -> "_Timed":
        scripted = replace(self.decoder, verify=_verify_and_overrule)
        warming = WARMING if proposer else (0, 0)
        decoded = scripted.decode(proposer, context, _Script([*warming, *lengths]))
        blocks = decoded.blocks[1:]
        spent_s = sum(block.draft_s + block.verify_s for block in blocks)
        return _Timed(
            blocks=blocks[len(warming) :],
            overhead_s=max(0.0, decoded.decode_s - spent_s) / len(blocks),
        )


def room_for(most: int) -> int:
    """Tokens that the longest session adds to a context."""
    return (MOST_KEPT + 1) * (max(most + 1, NUM_STEPS) + len(WARMING)) + most + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
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
