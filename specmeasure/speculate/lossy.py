"""Verification that changes what the target says, for speed. Never a default.

Knows nothing of how much it changes: that is measured from the finished answers.
"""

import torch
from torch import Tensor
from torch.nn import functional

from specmeasure.records.plan import Sampling, TypicalAcceptance
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import NOT_A_TOKEN, draw, greedy_tokens, sampling_probs
from specmeasure.speculate.tree import lineage, parent_rows, path_to
from specmeasure.speculate.verdict import Verdict, refuse_broken

AS_IT_IS = Sampling(temperature=1.0)  # a greedy target's own distribution


def verify_typically(
    proposal: Proposal,
    logits: Tensor,  # [N + 1, V] of the target, the first row before all drafts
    sampling: Sampling,
    *,
    rule: TypicalAcceptance,
    generator: torch.Generator,
) -> Verdict:
    """Keep the longest run of drafts that the target finds typical, then add its own token.

    A chain's run starts at its first draft, a tree's at a child of the root; of equally long ones
    the one that stands first is kept. Lossy: a kept draft is neither the argmax nor a draw from the
    target (Cai et al. 2024, arXiv:2401.10774, section 3.3.1). The law that drafts were drawn from
    plays no part. Only drafts are kept so: the token after them is the target's own, its argmax
    where it is greedy, else a plain draw, not one from a residual. Every block emits such a token,
    which is the paper's first token, always accepted, of the next block.

    Formula: keep x if target_probs(x) > min(ε, δ · exp(−H)), H the entropy of target_probs in
    nats; target_probs after temperature, top-k and top-p, at temperature 1 where it is greedy.

    Raises:
        BrokenLogits: the target's or the draft's logits held NaN.
    """
    drafts, parents = proposal.tokens, proposal.parents
    target_probs = sampling_probs(logits, AS_IT_IS if sampling.is_greedy else sampling)
    before = (
        target_probs[:-1]
        if parents is None
        else target_probs[parent_rows(parents, target_probs.device)]
    )
    drafted = before.gather(1, drafts.clamp_min(0)[:, None])[:, 0]
    keep = drafted > typical_thresholds(before, rule)
    if parents is None:
        last_row = keep.long().cumprod(0).sum(0, keepdim=True)  # [1], still on the device
    else:
        last_row = _longest_path(keep, lineage(parents, keep.device))

    if sampling.is_greedy:
        next_token = greedy_tokens(logits.index_select(0, last_row))
    else:
        wanted = target_probs.index_select(0, last_row)
        next_token = draw(wanted, generator=generator).masked_fill(
            wanted.sum(-1).isnan(), NOT_A_TOKEN
        )
    host = torch.cat([last_row, next_token, drafts]).tolist()  # the block's one sync
    refuse_broken(host[1:2], host[2:])
    path = None if parents is None else path_to(host[0] - 1, parents)
    return Verdict(
        num_accepted=host[0] if path is None else len(path),
        next_token=host[1],
        draft_tokens=tuple(host[2:]),
        path=path,
    )


def _longest_path(keep: Tensor, is_lineage: Tensor) -> Tensor:
    """The row [1] after the first of the deepest nodes that are kept with their ancestors."""
    is_whole = (keep | ~is_lineage).all(-1)
    depths = is_lineage.sum(-1) * is_whole
    return functional.pad(depths, (1, 0)).argmax(0, keepdim=True)  # the first of equals


def typical_thresholds(probs: Tensor, rule: TypicalAcceptance) -> Tensor:
    """What a draft's chance must pass, [N], under each row of probabilities [N, V].

    Formula: min(ε, δ · exp(−H))
    """
    entropy: Tensor = torch.special.entr(probs).sum(-1)
    return (rule.delta * (-entropy).exp()).clamp_max(rule.epsilon)
