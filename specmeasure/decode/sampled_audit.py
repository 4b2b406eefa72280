"""The teacher-forced check of a sampled answer: do its tokens follow the target's own law?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from specmeasure.decode.along import HeadsAlong, Origin, Stretch, read_along
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.judged import Judged, judged_drafts
from specmeasure.decode.probs import probs_of
from specmeasure.decode.teacher import Finished
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import Pull, SampledAudit, Score
from specmeasure.speculate.fit import likelihood_ratio, pull, randomised_pit, surprise

NOTHING = Score(excess=0.0, variance=0.0)
NO_PULL = Pull(score=NOTHING, shift=0.0, num_judged=0, total_variation=0.0)


@torch.inference_mode()
def audit_sampled(
    target: CachedCausalLM,
    answer: Finished,
    sampling: Sampling,
    *,
    origin: Origin,
    generator: torch.Generator,  # on the host; not the one that drew the answer
) -> SampledAudit:
    """One pass of the target, or the loop's own again, and one of the model that drafted.

    Memory: their caches, and about ten working copies of a chunk's logits.

    Where drafts were judged, tokens are ranked by draft_probs / target_probs, against which a
    verifier that accepts too much or too little shows; elsewhere by target_probs, likeliest first.
    The law is the first sibling's where it was drawn; of drafts that are point masses it is spread
    evenly over the siblings. Where drafts were drawn from a law that is not known here, no place
    counts as judged.

    Raises:
        BrokenLogits: logits held NaN.
        ValueError: the answer's blocks do not hold their draft ids, or not this arm's tree.
    """
    places = judged_drafts(origin.blocks, origin.tree)
    has_law = [bool(one.drafts) and origin.law_is_known for one in places]
    judged = torch.tensor(has_law, device=target.device)
    tokens = torch.tensor(answer.token_ids, device=target.device)
    transforms: list[float] = []
    num_impossible, nats, pulled = 0, NOTHING, NO_PULL
    drafted_by: CachedCausalLM | HeadsAlong | None = origin.sampled_model
    if origin.sampled_heads is not None:
        drafted_by = HeadsAlong(origin.sampled_heads, places, target.device)
    as_decoded = origin if origin.same_shapes else None
    for stretch in read_along(target, drafted_by, answer, as_decoded=as_decoded):
        within = slice(stretch.start, stretch.start + len(stretch.target_logits))
        here, is_judged = tokens[within], judged[within]
        probs = probs_of(stretch.target_logits, sampling, "target")
        ranking = torch.zeros_like(probs)
        if is_judged.any():
            draft_probs = _draft_probs(stretch, is_judged, places[within], sampling)
            ranking[is_judged] = likelihood_ratio(probs[is_judged], draft_probs)
            pulled = _sum(pulled, here[is_judged], probs[is_judged], draft_probs)
        uniform = torch.rand(len(here), generator=generator).to(probs.device)
        transforms += randomised_pit(here, probs, ranking, uniform).tolist()
        num_impossible += int((probs.gather(1, here[:, None]) == 0).sum())
        nats += surprise(here, probs).total()
    return SampledAudit(
        pit=tuple(transforms),
        num_impossible=num_impossible,
        surprise=nats,
        pull=pulled if pulled.num_judged else None,
    )


def _draft_probs(
    stretch: Stretch, is_judged: Tensor, places: Sequence[Judged], sampling: Sampling
) -> Tensor:
    """The law of the judged drafts, [J, V]; evenly over them where each is a point mass."""
    if stretch.draft_logits is not None:
        return probs_of(stretch.draft_logits[is_judged], sampling, "draft")
    siblings = [one.drafts for one in places if one.drafts]
    rows = [row for row, drafts in enumerate(siblings) for _ in drafts]
    shares = [1 / len(drafts) for drafts in siblings for _ in drafts]
    like = stretch.target_logits
    return like.new_zeros(len(siblings), like.shape[-1]).index_put(
        (
            torch.tensor(rows, device=like.device),
            torch.tensor([one for drafts in siblings for one in drafts], device=like.device),
        ),
        like.new_tensor(shares),
        accumulate=True,
    )


def _sum(so_far: Pull, tokens: Tensor, target_probs: Tensor, draft_probs: Tensor) -> Pull:
    found = pull(tokens, target_probs, draft_probs)
    return Pull(
        score=so_far.score + found.scores.total(),
        shift=so_far.shift + float(found.shift.double().sum()),
        num_judged=so_far.num_judged + len(tokens),
        total_variation=so_far.total_variation + float(found.total_variation.double().sum()),
    )
