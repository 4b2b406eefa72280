"""The decoding loop: draft, verify in one target pass, roll back; the baseline is the same loop.

Batch 1, chains and trees. The first block is the prefill; it emits the target's first token without
drafts, so that both arms decode the same tokens after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from specmeasure.decode.clock import Clock
from specmeasure.decode.stopping import Ending
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import BlockRecord, FinishReason
from specmeasure.speculate.placing import put_token
from specmeasure.speculate.proposal import CachedModel, Proposal, Proposer
from specmeasure.speculate.verdict import Verdict
from specmeasure.speculate.verify import verify_strictly

Verify = Callable[..., Verdict]  # verify_strictly's signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One finished answer."""

    blocks: tuple[BlockRecord, ...]
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    ttft_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class _Pass:
    """A target pass before its marks are turned into seconds."""

    verdict: Verdict
    num_emitted: int
    draft_depth: int | None  # of a tree
    context_length: int
    drafting: tuple[Any, Any]  # marks before and after
    verifying: tuple[Any, Any]

    def record(self, clock: Clock) -> BlockRecord:
        num_accepted = min(self.verdict.num_accepted, self.num_emitted)
        return BlockRecord(
            num_draft_tokens=len(self.verdict.draft_tokens),
            num_accepted_tokens=num_accepted,
            num_emitted_tokens=self.num_emitted,
            context_length=self.context_length,
            draft_s=clock.seconds(*self.drafting),
            verify_s=clock.seconds(*self.verifying),
            truncated=self.num_emitted == num_accepted,
            draft_depth=self.draft_depth,
            draft_ids=self.verdict.draft_tokens,
            emitted_ids=self.verdict.tokens[: self.num_emitted],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Decodes with one target; the same loop for every arm."""

    target: CachedModel
    sampling: Sampling
    generator: torch.Generator  # on ``device``
    clock: Clock
    device: torch.device
    verify: Verify = verify_strictly

    @torch.inference_mode()
    def decode(
        self,
        proposer: Proposer | None,  # None: the baseline
        prompt_ids: Sequence[int],
        stopping: Ending,
    ) -> Decoded:
        """Decode one answer and record every block.

        Raises:
            BrokenLogits: the target's logits held NaN.
        """
        target, clock = self.target, self.clock
        nothing = Proposal(tokens=torch.empty(0, dtype=torch.int64, device=self.device))
        target.reset(rolls_back=proposer is not None)
        started = clock.mark()
        verdict = self._verify(nothing, target.prefill(prompt_ids))
        prefilled = clock.mark()
        if proposer:
            proposer.begin(prompt_ids)
            proposer.commit(0, verdict.next_token)
        ready = clock.mark()
        passes = [_Pass(verdict, 1, None, 0, (prefilled, ready), (started, prefilled))]
        emitted = list(verdict.tokens)
        cut = stopping.cut((), emitted)

        while cut.reason is None:
            context_length = len(prompt_ids) + len(emitted) - 1
            begun = clock.mark()
            proposal = proposer.propose(stopping.num_drafts(len(emitted))) if proposer else nothing
            drafted = clock.mark()
            last = put_token(emitted[-1], self.device)
            verdict = self._verify(proposal, _read(target, last, proposal))
            verified = clock.mark()

            _settle(target, proposal, verdict)
            if proposer:
                proposer.commit(verdict.num_accepted, verdict.next_token)
            cut = stopping.cut(emitted, verdict.tokens)
            emitted += verdict.tokens[: cut.num_tokens]
            passes.append(
                _Pass(
                    verdict,
                    cut.num_tokens,
                    None if proposal.parents is None else proposal.depth,
                    context_length,
                    (begun, drafted),
                    (drafted, verified),
                )
            )
        finished = clock.mark()

        return Decoded(
            blocks=tuple(one.record(clock) for one in passes),
            token_ids=tuple(emitted),
            finish_reason=cut.reason,
            ttft_s=clock.seconds(started, ready),
            decode_s=clock.seconds(ready, finished),
        )

    def _verify(self, proposal: Proposal, logits: Tensor) -> Verdict:
        return self.verify(proposal, logits, self.sampling, generator=self.generator)


def _read(target: CachedModel, last: Tensor, proposal: Proposal) -> Tensor:
    """The target's logits [1 + N, V] after the last token and after every draft."""
    rows = last
    if proposal.num_tokens:
        rows = torch.cat([last, proposal.tokens.clamp_min(0)])  # the verifier tells of NaN
    if proposal.parents is None:
        return target.forward(rows)
    return target.forward_tree(rows, (-1, *(1 + parent for parent in proposal.parents)))


def _settle(target: CachedModel, proposal: Proposal, verdict: Verdict) -> None:
    if verdict.path is None:
        target.rollback(proposal.num_tokens - verdict.num_accepted)
    else:
        target.keep_path((0, *(1 + node for node in verdict.path)))
