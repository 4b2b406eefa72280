"""Chances of an answer's tokens under target and draft, for a reader who looks at one answer."""

import torch
from torch import Tensor

from specmeasure.decode.along import Origin, first_rejected, read_along
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.teacher import Finished, probs_of
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
    how near they were.

    Raises:
        BrokenLogits: logits held NaN.
    """
    has_drafts = any(block.num_draft_tokens for block in origin.blocks)
    blocks = origin.blocks if has_drafts else ()
    rejected = {  # place in the answer → the draft that was not kept there
        place: block.draft_ids[block.num_accepted_tokens]
        for place, block in zip(first_rejected(blocks), blocks, strict=True)
        if place is not None and block.draft_ids is not None
    }
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
    turned_down = [place if place in rejected else None for place in first_rejected(blocks)]
    return TokenProbs(
        target=tuple(target_own),
        draft=None if draft_own is None else tuple(draft_own),
        rejected_target=_at(turned_down, target_other),
        rejected_draft=_at(turned_down, draft_other),
    )


def _at(places: list[int | None], chances: list[float] | None) -> tuple[float | None, ...]:
    return tuple(None if place is None or chances is None else chances[place] for place in places)
