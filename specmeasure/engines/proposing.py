"""What drafts for an arm, and the target that verifies beside it."""

from dataclasses import dataclass

import torch

from specmeasure.engines.models import LoadedModels
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.plan import Arm, Method, Sampling
from specmeasure.speculate.proposal import CachedModel, Proposer


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """One arm in the loop."""

    target: CachedModel
    proposer: Proposer | None  # None: the baseline


def drafting_for(
    arm: Arm, models: LoadedModels, sampling: Sampling, *, generator: torch.Generator
) -> Drafting:
    """The arm's proposer, its models loaded if need be, for answers sampled like this.

    Raises:
        ModelError: a model that cannot be loaded or does not fit the target.
        ValueError: the arm does not draft in process.
    """
    target = models.target
    match arm.method:
        case Method.BASELINE:
            return Drafting(target=target, proposer=None)
        case Method.DRAFT_MODEL | Method.EARLY_EXIT if (
            draft_model := models.drafting(arm)
        ) is not None:
            proposer: Proposer = DraftModelProposer(
                draft_model,
                sampling,
                draft_sampling=arm.draft_sampling,
                generator=generator,
                device=target.device,
            )
        case Method.NGRAM if arm.max_ngram is not None and arm.min_ngram is not None:
            proposer = NgramProposer(
                max_ngram=arm.max_ngram, min_ngram=arm.min_ngram, device=target.device
            )
        case _:
            raise ValueError(f"arm {arm.name!r} does not draft in process")
    return Drafting(target=target, proposer=proposer)
