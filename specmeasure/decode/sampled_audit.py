"""The teacher-forced check of a sampled answer: do its tokens follow the target's own law?"""

import torch
from torch import Tensor
from torch.nn import functional

from specmeasure.decode.along import Origin, Stretch, judged_drafts, read_along
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.teacher import Finished, probs_of
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import Pull, SampledAudit, Score
from specmeasure.speculate.fit import likelihood_ratio, pull, randomised_pit, surprise

NOTHING = Score(excess=0.0, variance=0.0)
NO_PULL = Pull(score=NOTHING, shift=0.0, num_judged=0, total_variation=0.0)
NOT_JUDGED = -1


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

    Where a draft was judged, tokens are ranked by draft_probs / target_probs, against which a
    verifier that accepts too much or too little shows; elsewhere by target_probs, likeliest first.

    Raises:
        BrokenLogits: logits held NaN.
        ValueError: the answer's blocks do not hold their draft ids.
    """
    drafted_ids = [NOT_JUDGED if one is None else one for one in judged_drafts(origin.blocks)]
    judged = torch.tensor(drafted_ids, device=target.device)
    tokens = torch.tensor(answer.token_ids, device=target.device)
    transforms: list[float] = []
    num_impossible, nats, pulled = 0, NOTHING, NO_PULL
    as_decoded = origin.blocks if origin.same_shapes else None
    for stretch in read_along(target, origin.sampled_model, answer, as_decoded=as_decoded):
        places = slice(stretch.start, stretch.start + len(stretch.target_logits))
        here, drafted = tokens[places], judged[places]
        probs = probs_of(stretch.target_logits, sampling, "target")
        ranking = torch.zeros_like(probs)
        is_judged = drafted != NOT_JUDGED
        if is_judged.any():
            draft_probs = _draft_probs(stretch, is_judged, drafted, sampling)
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
    stretch: Stretch, is_judged: Tensor, drafted: Tensor, sampling: Sampling
) -> Tensor:
    """The law of the judged drafts, [J, V]; a point mass where it is not a model's sample."""
    if stretch.draft_logits is not None:
        return probs_of(stretch.draft_logits[is_judged], sampling, "draft")
    vocab_size = stretch.target_logits.shape[-1]
    return functional.one_hot(drafted[is_judged], vocab_size).to(stretch.target_logits.dtype)


def _sum(so_far: Pull, tokens: Tensor, target_probs: Tensor, draft_probs: Tensor) -> Pull:
    found = pull(tokens, target_probs, draft_probs)
    return Pull(
        score=so_far.score + found.scores.total(),
        shift=so_far.shift + float(found.shift.double().sum()),
        num_judged=so_far.num_judged + len(tokens),
        total_variation=so_far.total_variation + float(found.total_variation.double().sum()),
    )
