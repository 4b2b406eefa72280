"""How much memory a run will need, from configs alone.

Every model is built without weights and carried out on the meta device: once over the longest
prompt, once over each arm's last block, once over the largest pass of the audit. So what is counted
is what the models' own code and our loop hold at once. Weights, keys and values and tensors are
seen; an allocator's rounding and gaps are not, nor the host memory of past answers' indexes.
Early exits are taken to share the target's cache, as they do unless the model cannot.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from specmeasure.decode.audit import ROWS_AT_ONCE
from specmeasure.decode.cache import TAKE_ANY_MASK
from specmeasure.decode.static_check import unfit
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.decode.teacher import LOGIT_BYTES
from specmeasure.engines.ahead import ModelsAhead
from specmeasure.engines.bare_models import BareModel
from specmeasure.engines.dry_passes import DryModel, Rows
from specmeasure.engines.head_files import HeadsCheckpoint
from specmeasure.engines.loading import pick_device
from specmeasure.engines.models import drafts_of, heads_of
from specmeasure.engines.proposing import DRAFT_ROWS, longest_read, target_rows
from specmeasure.engines.room import free_bytes, workspace_bytes
from specmeasure.errors import UnsupportedModel
from specmeasure.records.memory import MemoryNeed, MemoryPrediction
from specmeasure.records.plan import Arm, DraftSampling, Method, ModelOptions, Plan, Sampling
from specmeasure.speculate.sampling import greedy_tokens, sampling_probs

FLOAT_BYTES = 4  # of logits that are sampled from or audited, whatever the model's dtype
AUDIT_COPIES = 6  # of a chunk's logits in the audit of a sampled answer, beside the logits
_UNTOLD = (  # of a model that looks at what it computes, or that is refused once it is loaded
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    UnsupportedModel,
    ValueError,
)
LAW_COPIES = 3  # more, where drafts were drawn from laws of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Longest:
    """The largest that a run has to hold."""

    num_prompt_tokens: int  # of the longest prompt
    num_new_tokens: int  # of the longest answer
    num_context_tokens: int  # of the longest prompt with its answer
    samplings: tuple[Sampling, ...]  # that answers are decoded with


def predict_memory(
    ahead: ModelsAhead, longest: Longest, *, held_bytes: int = 0
) -> MemoryPrediction | None:
    """What each arm needs for the longest answer, beside what is free now.

    None where it cannot be told: models spread over devices, with code of their own or quantised
    and not on this machine, or whose code asks for values that only weights give.

    Args:
        ahead: the run's models.
        longest: prompt and answer.
        held_bytes: weights of these models that are in memory already.
    """
    options = ahead.plan.options
    models = None if options.device_map else ahead.bare_models()
    if models is None:
        return None
    device = pick_device(options.device)
    has_graphs = options.graphs and device.type == "cuda"
    try:
        reckoning = _Reckoning(ahead.plan, models, longest, has_graphs=has_graphs)
        num_streams = 2 if reckoning.is_captured else 1  # cuBLAS has a workspace for each
        workspace = num_streams * workspace_bytes(device)
        needs = tuple(reckoning.need(arm, workspace) for arm in ahead.plan.arms)
    except _UNTOLD:
        return None
    return MemoryPrediction(
        device=str(device),
        num_prompt_tokens=longest.num_prompt_tokens,
        num_context_tokens=longest.num_context_tokens,
        needs=needs,
        free_bytes=free_bytes(device) + held_bytes,
    )


class _Held:
    """What one model holds beside its weights while it decodes the longest answer.

    Args:
        bare: the model.
        longest: prompt and answer.
        room: tokens that it has to have room for if that is set aside; None: its cache grows.
    """

    def __init__(self, bare: BareModel, longest: Longest, *, room: int | None) -> None:
        self.vocab_size = bare.cached.vocab_size
        self.is_static = is_static = room is not None
        self._own = DryModel(
            model=bare.cached, weights=bare.tensors, num_tokens=longest.num_context_tokens
        )
        self._decoding = self._own
        self._logits_bytes = FLOAT_BYTES  # each, as a pass leaves them
        if room is not None:
            static = StaticCausalLM(bare.cached)
            self._decoding = replace(self._own, model=static, num_tokens=room)
            self._logits_bytes = static.logits_dtype.itemsize
        self.prompt = self._decoding.read_prompt(longest.num_prompt_tokens)
        self.cache_bytes = (
            self.prompt.cache_bytes
            if is_static
            else self._own.read_prompt(longest.num_context_tokens).cache_bytes
        )
        self.idle_bytes = self.cache_bytes if is_static else 0  # while another model's arm decodes

    def decoding(self, passes: Sequence[Rows], pick: Callable[[Tensor], Tensor]) -> list[int]:
        """See ``DryModel.read_rows``."""
        return self._decoding.read_rows(passes, pick)

    def reading_again(self, num_prompt_tokens: int, num_rows: int) -> tuple[int, int]:
        """Most of a prefill and of rows at the end in float32, with the cache that grows."""
        (rows,) = self._own.read_rows([Rows(number=num_rows)], Tensor.float)
        prompt = self._own.read_prompt(num_prompt_tokens) if self.is_static else self.prompt
        return prompt.peak_bytes, rows

    def logit_bytes(self, num_rows: int) -> int:
        """Of rows over the vocabulary, in float32."""
        return num_rows * self.vocab_size * FLOAT_BYTES

    def left_bytes(self, rows: Iterable[int]) -> int:
        """Logits that captured passes of so many rows leave, each in tensors of their own."""
        return sum(rows) * self.vocab_size * self._logits_bytes


class _Reckoning:
    """All arms of one run, whose models are read once each."""

    def __init__(
        self,
        plan: Plan,
        models: Mapping[str, BareModel],
        longest: Longest,
        *,
        has_graphs: bool,
    ) -> None:
        self._longest = longest
        self._sampling = max(longest.samplings, key=_makes_most)
        self._heads = {
            name: HeadsCheckpoint.open(name, plan.options) for name in heads_of(plan.arms)
        }
        target = models[plan.target]
        room = max(longest_read(arm, 0, longest.num_context_tokens) for arm in plan.arms)
        self.is_captured = has_graphs and _is_fit(target, plan.options)
        self._target = _Held(target, longest, room=room if self.is_captured else None)
        self._drafts = {
            name: _Held(
                models[name],
                longest,
                room=room if self.is_captured and _is_fit(models[name], plan.options) else None,
            )
            for name in drafts_of(plan.arms)
        }
        self._steps = {  # the last draft of a block that was kept whole was not read yet
            name: one.decoding([Rows(number=2)], self._pick)[0]
            for name, one in self._drafts.items()
        }
        shapes = list(dict.fromkeys(map(_verified, plan.arms)))
        self._blocks = dict(zip(shapes, self._target.decoding(shapes, self._pick), strict=True))
        self._any_is_drawn = any(map(self._is_drawn, plan.arms))
        self._graph_bytes = self._captured(plan.arms) if self.is_captured else 0
        self._audit_bytes = max(self._audits())
        width = target.cached.model.dtype.itemsize
        self._model_bytes = sum(one.weight_bytes for one in models.values()) + sum(
            width * one.num_parameters for one in self._heads.values()
        )

    def need(self, arm: Arm, workspace: int) -> MemoryNeed:
        """See ``MemoryNeed``; the workspace is the kernels' own."""
        own = 0 if arm.draft is None else self._drafts[arm.draft].cache_bytes
        cache_bytes = self._target.cache_bytes + own + self._idle_bytes(arm)
        decoding = max(self._moments(arm)) + self._idle_bytes(arm)
        return MemoryNeed(
            arm=arm.name,
            model_bytes=self._model_bytes,
            cache_bytes=cache_bytes,
            working_bytes=decoding - cache_bytes + workspace,
            checking_bytes=max(0, self._audit_bytes - decoding),
        )

    def _idle_bytes(self, arm: Arm) -> int:
        """Room of drafts of other arms."""
        return sum(one.idle_bytes for name, one in self._drafts.items() if name != arm.draft)

    def _moments(self, arm: Arm) -> Iterator[int]:
        """What is held beside weights, and beside other arms' drafts, when an answer is fullest."""
        target, draft = self._target, self._drafts.get(arm.draft or "")
        laws = target.logit_bytes(arm.num_speculative_tokens) if self._is_drawn(arm) else 0
        in_block = laws + (0 if draft is None else draft.cache_bytes)
        graphs = self._graph_bytes
        yield target.prompt.peak_bytes + (0 if draft is None else draft.idle_bytes) + graphs
        yield max(self._blocks[_verified(arm)], target.cache_bytes + graphs) + in_block
        if draft is not None and arm.draft is not None:
            yield target.prompt.cache_bytes + draft.prompt.peak_bytes + graphs
            yield target.cache_bytes + self._steps[arm.draft] + laws
        if arm.heads is not None:
            num_heads = self._heads[arm.heads].num_heads
            yield target.cache_bytes + graphs + 2 * target.logit_bytes(num_heads) + laws

    def _captured(self, arms: Sequence[Arm]) -> int:
        """What graphs keep: the working memory of the largest pass, and the results of all."""
        beyond = [most - self._target.cache_bytes for most in self._blocks.values()]
        beyond += [most - self._drafts[name].cache_bytes for name, most in self._steps.items()]
        left = self._target.left_bytes({rows for arm in arms for rows in target_rows(arm)})
        left += sum(one.left_bytes(DRAFT_ROWS) for one in self._drafts.values() if one.is_static)
        return max(beyond) + left

    def _audits(self) -> Iterator[int]:
        """The most that audits of this run's answers hold beside weights.

        A draft's cache is held until the next answer, and there is no telling which arm was last.
        """
        target, longest = self._target, self._longest
        beside = self._graph_bytes + target.idle_bytes
        beside += max((one.cache_bytes for one in self._drafts.values()), default=0)
        num_new = longest.num_new_tokens
        if any(one.is_greedy for one in longest.samplings):
            num_rows = min(ROWS_AT_ONCE, num_new)
            prompt, rows = target.reading_again(longest.num_prompt_tokens, num_rows)
            before = target.logit_bytes(num_rows) if num_new > num_rows else 0
            yield max(prompt, rows + before) + beside
        if not self._sampling.is_greedy:
            num_rows = min(max(1, LOGIT_BYTES // target.logit_bytes(1)), num_new)
            prompt, rows = target.reading_again(longest.num_prompt_tokens, num_rows)
            copies = AUDIT_COPIES + (LAW_COPIES if self._any_is_drawn else 0)
            yield max(prompt, rows + copies * target.logit_bytes(num_rows)) + beside

    def _is_drawn(self, arm: Arm) -> bool:
        """Whether its drafts' laws are kept until they are verified."""
        is_drawn = arm.draft_sampling is DraftSampling.PROBABILISTIC and not (
            self._sampling.is_greedy
        )
        return is_drawn and arm.method in (Method.DRAFT_MODEL, Method.EARLY_EXIT, Method.MEDUSA)

    def _pick(self, logits: Tensor) -> Tensor:
        if self._sampling.is_greedy:
            return greedy_tokens(logits)
        return sampling_probs(logits, self._sampling)


def _is_fit(bare: BareModel, options: ModelOptions) -> bool:
    """Whether its passes can be captured, as far as is known without weights.

    Attention that takes no mask is not what a model without weights attends with.
    """
    return options.attn in (None, *TAKE_ANY_MASK) and unfit(bare.cached) is None


def _verified(arm: Arm) -> Rows:
    """The target's pass over a block of this arm."""
    number = 1 + arm.num_speculative_tokens
    if arm.tree is None:
        return Rows(number=number)
    return Rows(number=number, parents=(-1, *(1 + parent for parent in arm.tree.parents)))


def _makes_most(sampling: Sampling) -> tuple[bool, bool, bool]:
    """Rises with the copies of a row of logits that picking from it makes."""
    return not sampling.is_greedy, sampling.top_p is not None, sampling.top_k is not None
