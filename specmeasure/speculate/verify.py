"""Lossless verification of a chain of drafts: greedy, and by rejection sampling.

Trees have rules of their own, see ``tree``. Nothing lossy belongs here. The rules know nothing of
end-of-sequence tokens or budgets: the loop cuts what a user does not receive.
"""

import torch
from torch import Tensor

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
    both = torch.cat([draft_tokens, target_tokens]) if len(draft_tokens) else target_tokens
    host = both.tolist()  # the block's one sync
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
    device, num_drafts = target_probs.device, len(draft_tokens)
    num_accepted = torch.zeros(1, dtype=torch.int64, device=device)
    wanted = left = target_probs
    if num_drafts:
        drafted = draft_tokens.clamp_min(0)[:, None]
        law = 1 if draft_probs is None else draft_probs.gather(1, drafted)
        coin = torch.rand(num_drafts, 1, generator=generator, device=device)
        keep = coin * law < target_probs[:-1].gather(1, drafted)
        num_accepted = keep.long().cumprod(0).sum(0)  # [1], still on the device
        wanted = target_probs.index_select(0, num_accepted)
        left = _left_over(wanted, draft_probs, drafted, num_accepted)
    next_token = draw(left, generator=generator).masked_fill_(wanted.sum(-1).isnan(), NOT_A_TOKEN)
    host = torch.cat([num_accepted, next_token, draft_tokens]).tolist()  # the block's one sync
    refuse_broken(host[1:2], host[2:])
    return Verdict(num_accepted=host[0], next_token=host[1], draft_tokens=tuple(host[2:]))


def _left_over(
    wanted: Tensor,  # [1, V] the target's law after the last kept draft
    draft_probs: Tensor | None,  # [K, V]
    drafted: Tensor,  # [K, 1]
    num_accepted: Tensor,  # [1]
) -> Tensor:
    """What the draft that was rejected leaves of the target's law [1, V]; all, if none was."""
    num_drafts = len(drafted)
    rejected = num_accepted.clamp_max(num_drafts - 1)  # any, where none was
    if draft_probs is None:
        residual = wanted.scatter(1, drafted.index_select(0, rejected), 0.0)
    else:
        residual = (wanted - draft_probs.index_select(0, rejected)).clamp_min_(0)
    counts = (residual.sum(-1) > 0) & (num_accepted < num_drafts)
    return torch.where(counts[:, None], residual, wanted)


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
