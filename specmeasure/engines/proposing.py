"""What drafts for an arm, and the target that verifies beside it."""

from dataclasses import dataclass

import torch

from specmeasure.decode.cache import Rollback
from specmeasure.engines.models import LoadedModels, smallest_context
from specmeasure.engines.vocabularies import ComparedVocabularies, sized
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.early_exit import EarlyExitProposer
from specmeasure.proposers.medusa import MedusaProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.proposers.other_vocabulary import SharedTokensProposer, TextMatchProposer
from specmeasure.proposers.suffix import SuffixProposer
from specmeasure.records.plan import GREEDY, Arm, DraftSampling, Method, Sampling
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
        case Method.DRAFT_MODEL if (other := models.other_vocabulary(arm.draft)) is not None:
            translated = _translating(arm, models, other, sampling, generator=generator)
            return Drafting(target=target, proposer=translated)
        case Method.EARLY_EXIT if (shared := models.shared_exit(arm)) is not None:
            own = EarlyExitProposer(
                shared,
                sampling,
                draft_sampling=arm.draft_sampling,
                generator=generator,
                device=target.device,
            )
            return Drafting(target=shared, proposer=own)
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
                max_ngram=arm.max_ngram,
                min_ngram=arm.min_ngram,
                pick=arm.ngram_pick,
                device=target.device,
            )
        case Method.MEDUSA if (heads := models.heads_for(arm)) is not None:
            is_sampled = arm.draft_sampling is DraftSampling.PROBABILISTIC
            proposer = MedusaProposer(
                heads,
                target,
                sampling if is_sampled else GREEDY,
                tree=arm.tree,
                generator=generator,
            )
        case Method.SUFFIX:
            proposer = SuffixProposer(past=models.past(arm), device=target.device)
        case _:
            raise ValueError(f"arm {arm.name!r} does not draft in process")
    return Drafting(target=target, proposer=proposer)


def _translating(
    arm: Arm,
    models: LoadedModels,
    other: ComparedVocabularies,
    sampling: Sampling,
    *,
    generator: torch.Generator,
) -> Proposer:
    """A draft model with another tokenizer: by text for greedy answers, else by shared tokens."""
    other.refuse_strangers(sampling)
    draft_model, target = models.add_draft(other.draft_name), models.target
    longest = smallest_context([draft_model.model.config])
    forgets_any = draft_model.rollback_kind is Rollback.CROP
    vocabularies = sized(other, draft_model.vocab_size, target.vocab_size)
    if other.matches_text(sampling):
        return TextMatchProposer(
            draft_model,
            vocabularies,
            longest=longest,
            forgets_any=forgets_any,
            device=target.device,
        )
    return SharedTokensProposer(
        draft_model,
        vocabularies,
        sampling,
        draft_sampling=arm.draft_sampling,
        longest=longest,
        forgets_any=forgets_any,
        generator=generator,
        device=target.device,
    )
