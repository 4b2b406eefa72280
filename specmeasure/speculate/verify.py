"""Lossless verification of a chain of drafts: greedy, and by rejection sampling.

Trees have rules of their own, see ``tree``. Nothing lossy belongs here. The rules know nothing of
end-of-sequence tokens or budgets: the loop cuts what a user does not receive.
"""

import torch
from torch import Tensor
from torch.nn import functional

from specmeasure.records.plan import Sampling
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import NOT_A_TOKEN, draw, greedy_tokens, sampling_probs
from specmeasure.speculate.tree import verify_tree_greedy, verify_tree_rejection
from specmeasure.speculate.verdict import Verdict, refuse_broken


def verify_greedy(
    draft_tokens: Tensor,  # [K]
    target_tokens: Tensor,  # [K + 1] the target's argmax after each draft
) -> Verdict:
    """Keep drafts while they equal the target's argmax, then emit the target's argmax.

    Raises:
        BrokenLogits: the target's or the draft's logits held NaN.
    """
    host = torch.cat([draft_tokens, target_tokens]).tolist()  # the block's one sync
    drafts, targets = host[: len(draft_tokens)], host[len(draft_tokens) :]
    num_accepted = 0
    while num_accepted < len(drafts) and drafts[num_accepted] == targets[num_accepted]:
        num_accepted += 1
    refuse_broken(targets[: num_accepted + 1], drafts)
    return Verdict(
        num_accepted=num_accepted, next_token=targets[num_accepted], draft_tokens=tuple(drafts)
    )


def verify_rejection(
    draft_tokens: Tensor,  # [K]
    draft_probs: Tensor | None,  # [K, V]; None: each draft is a point mass
    target_probs: Tensor,  # [K + 1, V]
    *,
    generator: torch.Generator,
) -> Verdict:
    """Keep the longest accepted prefix, then draw one token from what the target has left.

    Lossless: emitted tokens follow the target's own distribution (Leviathan et al. 2023,
    arXiv:2211.17192, Algorithm 1; Chen et al. 2023, arXiv:2302.01318, Theorem 1). Where the
    residual rounds to all zeros the two laws are equal, and the draw is from the target's.

    Raises:
        BrokenLogits: the target's probabilities held NaN.
    """
    num_drafts, vocab_size = len(draft_tokens), target_probs.shape[-1]
    if draft_probs is None:
        draft_probs = functional.one_hot(draft_tokens.clamp_min(0), vocab_size).to(
            target_probs.dtype
        )
    drafted = draft_tokens.clamp_min(0)[:, None]
    coin = torch.rand(num_drafts, 1, generator=generator, device=target_probs.device)
    keep = coin * draft_probs.gather(1, drafted) < target_probs[:-1].gather(1, drafted)
    num_accepted = keep.long().cumprod(0).sum(0)  # [1], still on the device

    draft_probs = functional.pad(draft_probs, (0, 0, 0, 1))  # the bonus row subtracts nothing
    wanted = target_probs.index_select(0, num_accepted)
    residual = (wanted - draft_probs.index_select(0, num_accepted)).clamp_min(0)
    residual = torch.where(residual.sum(-1, keepdim=True) > 0, residual, wanted)
    next_token = draw(residual, generator=generator).masked_fill(
        wanted.sum(-1).isnan(), NOT_A_TOKEN
    )
    host = torch.cat([num_accepted, next_token, draft_tokens]).tolist()  # the block's one sync
    refuse_broken(host[1:2], host[2:])
    return Verdict(num_accepted=host[0], next_token=host[1], draft_tokens=tuple(host[2:]))


def verify_strictly(
    proposal: Proposal,
    logits: Tensor,  # [N + 1, V] of the target, the first row before all drafts
    sampling: Sampling,
    *,
    generator: torch.Generator,
) -> Verdict:
    """The lossless rule for these sampling settings, of a chain or of a tree."""
    if sampling.is_greedy:
        target_tokens = greedy_tokens(logits)
        if proposal.parents is None:
            return verify_greedy(proposal.tokens, target_tokens)
        return verify_tree_greedy(proposal.tokens, proposal.parents, target_tokens)
    target_probs = sampling_probs(logits, sampling)
    if proposal.parents is None:
        return verify_rejection(proposal.tokens, proposal.probs, target_probs, generator=generator)
    return verify_tree_rejection(proposal, target_probs, generator=generator)
