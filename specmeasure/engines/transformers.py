"""In-process decoding of transformers models: our loop, their forwards."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import psutil
import torch

from specmeasure.decode.cache import CachedCausalLM, check_rollback
from specmeasure.decode.clock import clock_for
from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping, StopTexts
from specmeasure.decode.teacher import audit_greedy
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.loading import (
    fingerprint,
    load_model,
    load_tokenizer,
    pick_device,
    refuse_cut_head,
    refuse_other_vocabulary,
)
from specmeasure.engines.threads import pick_num_threads
from specmeasure.errors import OutOfMemory
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, DecodeSettings, Plan, Sampling
from specmeasure.records.trace import Audit, ModelFacts, Observation
from specmeasure.speculate.proposal import Proposer


class TransformersEngine:
    """One target, its drafts, one tokenizer, batch 1."""

    def __init__(
        self,
        plan: Plan,
        tokenizer: Any,
        target: CachedCausalLM,
        drafts: dict[str, CachedCausalLM],  # by name
    ) -> None:
        self._plan = plan
        self._chat = ChatTokenizer(tokenizer)
        self._target = target
        self._drafts = drafts
        self._device = self._target.device
        self._generator = torch.Generator(self._device)
        self._decoder = Decoder(
            target=target,
            sampling=plan.sampling,
            generator=self._generator,
            clock=clock_for(self._device),
            device=self._device,
        )
        self._eos_ids = _eos_ids(self._target.model, tokenizer)
        self.models = (
            _facts(plan.target, target),
            *(_facts(name, draft) for name, draft in drafts.items()),
        )
        self.warnings = self._set_up_warnings()
        self.num_threads = torch.get_num_threads()

    @classmethod
    def load(cls, plan: Plan, *, most_threads: int = 1) -> Self:
        """Load, check tokenizers and cache rollback, and warm nothing up yet.

        Args:
            plan: names models and options.
            most_threads: CPU threads to try, where the plan does not fix their number.

        Raises:
            ModelError: with what to do.
        """
        options = plan.options
        torch.set_num_threads(options.num_threads or most_threads)
        device = pick_device(options.device)
        tokenizer, loaded = _load_models(plan, device)
        vocab_size = min(max(tokenizer.get_vocab().values()) + 1, _width(loaded[plan.target]))
        names = (plan.target, *_drafts_of(plan))
        cached = [CachedCausalLM(loaded[name], vocab_size=vocab_size) for name in names]
        if plan.speculative_arms:
            for name, model in zip(names, cached, strict=True):
                refuse_cut_head(name, _width(model.model), vocab_size)
                check_rollback(model, name)
        target, *drafts = cached
        if options.num_threads is None and device.type == "cpu":
            pick_num_threads(target, most_threads)
        return cls(plan, tokenizer, target, dict(zip(_drafts_of(plan), drafts, strict=True)))

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
        limits = [
            getattr(used.model.config.get_text_config(), "max_position_embeddings", None)
            for used in self._models_of(arm)
        ]
        return min((limit for limit in limits if limit), default=None)

    def observe(
        self, context_ids: Sequence[int], arm: Arm, settings: DecodeSettings
    ) -> Observation:
        """Decode once with the arm's proposer.

        Raises:
            OutOfMemory: with the context length that did not fit.
        """
        self._generator.manual_seed(settings.seed)
        if self._device.type == "cuda":
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)
        try:
            decoded = replace(self._decoder, sampling=settings.sampling).decode(
                self._proposer(arm, settings.sampling), context_ids, self._stopping(arm, settings)
            )
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{arm.name}: a prompt of {len(context_ids)} tokens with up to "
                f"{settings.max_new_tokens} new ones does not fit: {str(error).splitlines()[0]} "
                "Lower --max-new-tokens or the dtype, or leave long prompts out."
            ) from error
        used = self._models_of(arm)
        return Observation(
            blocks=decoded.blocks,
            token_ids=decoded.token_ids,
            num_prompt_tokens=len(context_ids),
            finish_reason=decoded.finish_reason,
            ttft_s=decoded.ttft_s,
            decode_s=decoded.decode_s,
            model_bytes=sum(_weight_bytes(model.model) for model in used),
            cache_bytes=sum(model.cache_bytes for model in used),
            peak_memory_bytes=self._peak_memory_bytes(),
        )

    def audit(self, context_ids: Sequence[int], token_ids: Sequence[int]) -> Audit:
        """See ``audit_greedy``."""
        return audit_greedy(self._target, context_ids, token_ids, device=self._device)

    def _models_of(self, arm: Arm) -> list[CachedCausalLM]:
        return [self._target, *([self._drafts[arm.draft]] if arm.draft else [])]

    def _stopping(self, arm: Arm, settings: DecodeSettings) -> Stopping:
        texts = settings.stop
        return Stopping(
            max_new_tokens=settings.max_new_tokens,
            stop_texts=(
                StopTexts(texts=texts, detokenise=self._chat.plain_text) if texts else None
            ),
            eos_ids=frozenset() if self._plan.ignore_eos else self._eos_ids,
            num_speculative_tokens=arm.num_speculative_tokens,
        )

    def _proposer(self, arm: Arm, sampling: Sampling) -> Proposer | None:
        if arm.is_baseline:
            return None
        if arm.draft is not None:
            return DraftModelProposer(
                self._drafts[arm.draft],
                sampling,
                generator=self._generator,
                device=self._device,
            )
        if arm.max_ngram is not None and arm.min_ngram is not None:
            return NgramProposer(
                max_ngram=arm.max_ngram, min_ngram=arm.min_ngram, device=self._device
            )
        raise ValueError(f"arm {arm.name!r} has no way to draft")

    def _peak_memory_bytes(self) -> int:
        if self._device.type == "cuda":
            devices = range(torch.cuda.device_count())
            return sum(int(torch.cuda.max_memory_allocated(index)) for index in devices)
        return int(psutil.Process().memory_info().rss)

    def _set_up_warnings(self) -> tuple[str, ...]:
        warnings = []
        if not self._chat.has_chat_template:
            warnings.append(
                "The target's tokenizer has no chat template: messages of chats are joined by "
                "newlines."
            )
        if not self._eos_ids and not self._plan.ignore_eos:
            warnings.append("The target names no end-of-sequence token: only the budget ends it.")
        return tuple(warnings)


def _drafts_of(plan: Plan) -> list[str]:
    return list(dict.fromkeys(arm.draft for arm in plan.arms if arm.draft))


def _load_models(plan: Plan, device: torch.device) -> tuple[Any, dict[str, Any]]:
    """The target's tokenizer, and each model once, a draft beside the target's first layers."""
    tokenizer = load_tokenizer(plan.target, plan.options)
    for draft in _drafts_of(plan):
        refuse_other_vocabulary(tokenizer, load_tokenizer(draft, plan.options), draft)
    target = load_model(plan.target, plan.options, device=device, role="target")
    loaded = {plan.target: target}
    for draft in _drafts_of(plan):
        if draft not in loaded:
            loaded[draft] = load_model(draft, plan.options, device=target.device, role="draft")
    return tokenizer, loaded


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All ids that end an answer: generation_config's, or else the tokenizer's."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids if isinstance(ids, list) else [ids])


def _width(model: Any) -> int:
    """Rows of the output head, vocabulary padding included."""
    return int(model.get_output_embeddings().weight.shape[0])


def _weight_bytes(model: Any) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _facts(name: str, cached: CachedCausalLM) -> ModelFacts:
    return ModelFacts(
        name=name,
        fingerprint=fingerprint(name, cached.model),
        num_parameters=sum(weight.numel() for weight in cached.model.parameters()),
        dtype=str(cached.model.dtype).removeprefix("torch."),
        device=str(cached.device),
        cache=cached.rollback_kind,
        vocab_size=cached.vocab_size,
    )
