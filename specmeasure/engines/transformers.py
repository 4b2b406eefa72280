"""In-process decoding of transformers models: our loop, their forwards."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import torch

from specmeasure.decode.along import Origin, wants_same_shapes
from specmeasure.decode.audit import audit_greedy
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.clock import clock_for
from specmeasure.decode.head_board import Heads
from specmeasure.decode.loop import Decoder, Verify
from specmeasure.decode.sampled_audit import audit_sampled
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.decode.stopping import Stopping, StopTexts
from specmeasure.decode.teacher import Finished
from specmeasure.decode.token_probs import token_probs
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.heads import facts_of_heads, heads_bytes, heads_notes
from specmeasure.engines.models import (
    LoadedModels,
    drafts_of,
    heads_of,
    peak_memory_bytes,
    smallest_context,
    weight_bytes,
)
from specmeasure.engines.past_outputs import past_notes
from specmeasure.engines.proposing import Drafting, drafting_for, longest_read, target_rows
from specmeasure.engines.rendering import NO_TEMPLATE
from specmeasure.engines.shortage import explained_answer
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, DecodeSettings, DraftSampling, Plan, Sampling
from specmeasure.records.trace import Audit, Divergence, Observation, SampledAudit, TokenProbs
from specmeasure.speculate.lossy import verify_typically
from specmeasure.speculate.verify import verify_strictly


class TransformersEngine:
    """One target, its drafts, one tokenizer, batch 1."""

    def __init__(self, plan: Plan, models: LoadedModels) -> None:
        self._plan = plan
        self._loaded = models
        self._chat = ChatTokenizer(models.tokenizer)
        self._target = models.target
        self._drafts = models.drafts
        self._device = self._target.device
        self._generator = torch.Generator(self._device)
        self._decoder = Decoder(
            target=self._target,
            sampling=plan.sampling,
            generator=self._generator,
            clock=clock_for(self._device),
            device=self._device,
        )
        self._eos_ids = eos_ids(self._target.model, models.tokenizer)
        self.models = (
            models.target_facts(),
            *map(models.draft_facts, drafts_of(plan.arms)),
            *(facts_of_heads(name, models.heads[name]) for name in heads_of(plan.arms)),
        )
        self.warnings = (
            *set_up_warnings(self._chat, self._eos_ids, plan),
            *models.graph_warnings(plan.arms),
            *models.exit_warnings(plan.arms),
            *models.vocabulary_warnings(plan),
            *past_notes(models.pasts.items()),
            *(note for name in heads_of(plan.arms) for note in heads_notes(name, plan.options)),
        )
        self.num_threads = torch.get_num_threads()

    @classmethod
    def load(
        cls,
        plan: Plan,
        *,
        most_threads: int = 1,
        loaded: LoadedModels | None = None,
        samplings: Collection[Sampling] = (),
    ) -> Self:
        """Load, check tokenizers and cache rollback, and warm nothing up yet.

        Args:
            plan: names models and options.
            most_threads: CPU threads to try, where the plan does not fix their number.
            loaded: the plan's target, where it is in memory already.
            samplings: see ``LoadedModels.load``.

        Raises:
            ModelError: with what to do.
        """
        models = loaded or LoadedModels.load(plan, most_threads=most_threads, samplings=samplings)
        for arm in plan.arms:
            models.drafting(arm)
            models.heads_for(arm)
            models.past(arm)
        return cls(plan, models)

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """See ``ChatTokenizer``."""
        return self._chat.context_ids(prompt, replies)

    def reply_text(self, token_ids: Sequence[int]) -> str:
        """The answer without its end-of-sequence token, other special tokens kept."""
        ids = list(token_ids)
        if ids and ids[-1] in self._eos_ids:
            ids.pop()
        return self._chat.text(ids)

    def context_limit(self, arm: Arm) -> int | None:
        """The smallest ``max_position_embeddings`` of the arm's models."""
        return smallest_context([used.model.config for used in self._models_of(arm)])

    def observe(
        self, context_ids: Sequence[int], arm: Arm, settings: DecodeSettings
    ) -> Observation:
        """Decode once with the arm's proposer.

        Raises:
            OutOfMemory: with the length that did not fit, what it needs and what to lower.
        """
        self._generator.manual_seed(settings.seed)
        if self._device.type == "cuda":
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)
        with explained_answer(self._plan, arm, len(context_ids), settings):
            drafting = drafting_for(arm, self._loaded, settings.sampling, generator=self._generator)
            capture_s = self._prepare(drafting, arm, context_ids, settings.max_new_tokens)
            decoder = replace(
                self._decoder,
                target=drafting.target,
                sampling=settings.sampling,
                verify=verify_rule(arm),
            )
            decoded = decoder.decode(drafting.proposer, context_ids, self._stopping(arm, settings))
        used = self._models_of(arm)
        return Observation(
            blocks=decoded.blocks,
            token_ids=decoded.token_ids,
            num_prompt_tokens=len(context_ids),
            finish_reason=decoded.finish_reason,
            ttft_s=decoded.ttft_s,
            decode_s=decoded.decode_s,
            model_bytes=sum(map(weight_bytes, used if arm.exit_layer is None else used[:1]))
            + self._loaded.past_bytes(arm)
            + heads_bytes(self._loaded.heads_for(arm)),
            cache_bytes=sum(model.cache_bytes for model in used),
            peak_memory_bytes=peak_memory_bytes(self._device),
            capture_s=capture_s,
        )

    def _prepare(
        self, drafting: Drafting, arm: Arm, context_ids: Sequence[int], max_new_tokens: int
    ) -> float | None:
        """Seconds spent on graphs that the answer may need; None: all of them are there.

        Caches that audits left behind, and that the loop does not use, are emptied. After captures
        the prompt is read once, so that the answer's own prefill is no slower than others'.
        """
        num_prompt_tokens = len(context_ids)
        for model in (self._target, *self._drafts.values()):
            model.reset(rolls_back=False)
        clock = self._decoder.clock
        begun = clock.mark()
        num_captures = drafting.prepare(
            target_rows(arm),
            first=num_prompt_tokens + 1,
            last=longest_read(arm, num_prompt_tokens, max_new_tokens),
        )
        if not num_captures:
            return None
        capture_s = clock.seconds(begun, clock.mark())
        drafting.read_prompt(context_ids)
        return capture_s

    def audit(
        self,
        context_ids: Sequence[int],
        token_ids: Sequence[int],
        divergence: Divergence | None = None,
    ) -> Audit:
        """See ``audit_greedy``."""
        as_long = DecodeSettings(max_new_tokens=len(token_ids))
        with explained_answer(self._plan, None, len(context_ids), as_long):
            return audit_greedy(
                self._target, context_ids, token_ids, divergence=divergence, device=self._device
            )

    def audit_sampled(
        self, context_ids: Sequence[int], seen: Observation, arm: Arm, settings: DecodeSettings
    ) -> SampledAudit:
        """See ``decode.sampled_audit``."""
        with explained_answer(self._plan, arm, len(context_ids), settings):
            return audit_sampled(
                self._target,
                Finished(context_ids=context_ids, token_ids=seen.token_ids),
                settings.sampling,
                origin=self._origin(arm, seen, settings.sampling),
                generator=torch.Generator().manual_seed(settings.seed),
            )

    def token_probs(
        self, context_ids: Sequence[int], seen: Observation, arm: Arm, sampling: Sampling
    ) -> TokenProbs:
        """See ``decode.token_probs``."""
        answer = Finished(context_ids=context_ids, token_ids=seen.token_ids)
        origin = self._origin(arm, seen, sampling)
        return token_probs(self._target, answer, sampling, origin=origin)

    def _origin(self, arm: Arm, seen: Observation, sampling: Sampling) -> Origin:
        is_readable = self._loaded.other_vocabulary(arm.draft) is None  # in the target's ids
        return Origin(
            blocks=seen.blocks,
            draft_model=self._loaded.drafting(arm) if is_readable else None,
            heads=self._heads_along(arm),
            shared_exit=self._loaded.shared_exit(arm),
            draft_sampling=arm.draft_sampling,
            tree=arm.tree,
            law_is_known=is_readable or arm.draft_sampling is DraftSampling.GREEDY,
            same_shapes=wants_same_shapes(self._target, seen.blocks, sampling),
            read_by=self._loaded.decoding_target,
        )

    def _heads_along(self, arm: Arm) -> Heads | None:
        """The heads that draft for an arm, to be asked again along its answers."""
        heads = self._loaded.heads_for(arm)
        if heads is None:
            return None
        num_heads = min(heads.num_heads, arm.draft_depth)
        return Heads(num_heads=num_heads, read=partial(heads, num_heads=num_heads))

    def _models_of(self, arm: Arm) -> list[CachedCausalLM | StaticCausalLM]:
        """Those that have a cache, as the loop reads them."""
        if self._loaded.shared_exit(arm) is not None:
            return [self._target]
        drafting = self._loaded.decoding_draft(arm)
        return [self._loaded.decoding_target, *([] if drafting is None else [drafting])]

    def _stopping(self, arm: Arm, settings: DecodeSettings) -> Stopping:
        ends = frozenset[int]() if self._plan.ignore_eos else self._eos_ids
        return replace(
            stopping_for(settings, ends, self._chat),
            num_speculative_tokens=arm.draft_depth,
        )


def verify_rule(arm: Arm) -> Verify:
    """The lossless rule, unless the arm names another."""
    return verify_strictly if arm.lossy is None else partial(verify_typically, rule=arm.lossy)


def stopping_for(settings: DecodeSettings, ends: frozenset[int], chat: ChatTokenizer) -> Stopping:
    """When an answer ends, without drafts."""
    texts = settings.stop
    return Stopping(
        max_new_tokens=settings.max_new_tokens,
        stop_texts=StopTexts(texts=texts, detokenise=chat.plain_text) if texts else None,
        eos_ids=ends,
    )


def eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All ids that end an answer: generation_config's, or else the tokenizer's."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids if isinstance(ids, list) else [ids])


def set_up_warnings(chat: ChatTokenizer, ends: frozenset[int], plan: Plan) -> tuple[str, ...]:
    """What a reader of the brief should know of tokenizer and target."""
    warnings = []
    if not chat.has_chat_template:
        warnings.append(NO_TEMPLATE)
    if not ends and not plan.ignore_eos:
        warnings.append("The target names no end-of-sequence token: only the budget ends it.")
    return tuple(warnings)
