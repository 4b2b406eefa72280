"""What drafts for an arm, and the target that verifies beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from specmeasure.decode.cache import Rollback
from specmeasure.decode.static_model import StaticCausalLM
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

DRAFT_ROWS = (1, 2)  # of a draft model: two after a block that was kept as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """One arm in the loop."""

    target: CachedModel
    proposer: Proposer | None  # None: the baseline
    draft_model: CachedModel | None = None  # that reads one or two tokens at a time

    def prepare(self, rows: Iterable[int], *, first: int, last: int) -> int:
        """Capture what an answer may need. The number of captures, 0 where there are no graphs.

        Args:
            rows: of the target's passes.
            first: tokens that are read after the first of these.
            last: and after the last one, at most.

        Raises:
            RuntimeError: a pass cannot be captured.
        """
        num_captures = 0
        for model, its_rows in ((self.target, rows), (self.draft_model, DRAFT_ROWS)):
            if isinstance(model, StaticCausalLM):
                num_captures += model.prepare(its_rows, first=first, last=last)
        return num_captures

    @torch.inference_mode()
    def read_prompt(self, ids: Sequence[int]) -> None:
        """Read it with every model that is captured, and forget it."""
        for model in (self.target, self.draft_model):
            if isinstance(model, StaticCausalLM):
                model.reset(rolls_back=True)
                model.prefill(ids)
                model.reset(rolls_back=True)


def target_rows(arm: Arm) -> tuple[int, ...]:
    """Rows that an arm's passes of the target may have, while drafts get fewer near the end.

    >>> target_rows(Arm(name="ngram", method=Method.NGRAM, num_speculative_tokens=2, max_ngram=3,
    ...     min_ngram=1))
    (1, 2, 3)
    """
    if arm.tree is None:
        return tuple(range(1, arm.num_speculative_tokens + 2))
    cuts = [arm.tree.down_to(depth) for depth in range(1, arm.tree.depth + 1)]
    return (1, *(1 + cut.num_nodes for cut in cuts if cut is not None))


def longest_read(arm: Arm, num_prompt_tokens: int, max_new_tokens: int) -> int:
    """Tokens that a model has read after an answer's largest pass.

    The answer's last token is read by none. Of a tree, what stands beside the longest path is read
    as well.
    """
    return num_prompt_tokens + max_new_tokens - 1 + arm.num_speculative_tokens - arm.draft_depth


def drafting_for(
    arm: Arm, models: LoadedModels, sampling: Sampling, *, generator: torch.Generator
) -> Drafting:
    """The arm's proposer, its models loaded if need be, for answers sampled like this.

    Raises:
        ModelError: a model that cannot be loaded or does not fit the target.
        ValueError: the arm does not draft in process.
    """
    target, draft_model = models.decoding_target, None
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
            draft_model := models.decoding_draft(arm)
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
    return Drafting(target=target, proposer=proposer, draft_model=draft_model)


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
