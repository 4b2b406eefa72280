"""Chances of an answer's tokens under target and draft, for a reader who looks at one answer."""

import torch
from torch import Tensor

from specmeasure.decode.along import Origin, read_along
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.judged import first_rejected, judged_drafts
from specmeasure.decode.probs import probs_of
from specmeasure.decode.teacher import Finished
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import TokenProbs


@torch.inference_mode()
def token_probs(
    target: CachedCausalLM,
    answer: Finished,
    sampling: Sampling,
    *,
    origin: Origin,
) -> TokenProbs:
    """At the answer's own sampling settings; of a greedy one at temperature 1.

    A model that drafts greedily has its chances, too: those of the drafts that it did not pick tell
    how near they were. Of siblings that were all rejected the one that was tried first counts.

    Raises:
        BrokenLogits: logits held NaN.
    """
    has_drafts = any(block.num_draft_tokens for block in origin.blocks)
    blocks = origin.blocks if has_drafts else ()
    judged = judged_drafts(blocks, origin.tree)
    turned_down = first_rejected(blocks, judged)
    rejected = {place: judged[place].drafts[0] for place in turned_down if place is not None}
    own = torch.tensor(answer.token_ids, device=target.device)
    other = own.clone()
    if rejected:
        other[list(rejected)] = torch.tensor(list(rejected.values()), device=target.device)
    of_target: list[Tensor] = []  # each [C, 2]: of the emitted token, and of the rejected draft
    of_draft: list[Tensor] = []
    for stretch in read_along(target, origin.draft_model, answer):
        places = slice(stretch.start, stretch.start + len(stretch.target_logits))
        pair = torch.stack([own[places], other[places]], dim=-1)
        target_probs = probs_of(stretch.target_logits, sampling, "target")
        of_target.append(target_probs.gather(1, pair).cpu())
        if stretch.draft_logits is not None:
            draft_probs = probs_of(stretch.draft_logits, sampling, "draft")
            of_draft.append(draft_probs.gather(1, pair).cpu())
    target_own, target_other = torch.cat(of_target).T.tolist()
    draft_own, draft_other = torch.cat(of_draft).T.tolist() if of_draft else (None, None)
    return TokenProbs(
        target=tuple(target_own),
        draft=None if draft_own is None else tuple(draft_own),
        rejected_target=_at(turned_down, target_other),
        rejected_draft=_at(turned_down, draft_other),
    )


def _at(places: list[int | None], chances: list[float] | None) -> tuple[float | None, ...]:
    return tuple(None if place is None or chances is None else chances[place] for place in places)
