"""What a llama.cpp server of one arm is told, in the words of both its forms."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specmeasure.errors import UsageError
from specmeasure.records.plan import Arm, DraftSampling, Method, Plan
from specmeasure.servers.launch import HOST, highest_concurrency, num_threads, served_name

SLOTS_OF_OPEN_LOADS = 16  # requests served at once where they arrive at a rate
CONTEXT_OF_A_SLOT = 4096  # tokens; --ctx-size in --engine-args is for all slots together
_CACHE_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, as the binary and as xllamacpp's CommonParams name it."""

    flag: str
    attribute: str
    value: Any
    word: str | None = None  # the binary's word for a truth value; None: the flag alone

    def as_flag(self) -> tuple[str, ...]:
        if isinstance(self.value, bool):
            return (self.flag,) if self.word is None else (self.flag, self.word)
        return (self.flag, str(self.value))

    def as_assignment(self) -> str:
        is_text = isinstance(self.value, str)
        return f"{self.attribute}={self.value if is_text else json.dumps(self.value)}"


def settings_of(plan: Plan, arm: Arm, port: int, files: Mapping[str, Path]) -> Iterator[Setting]:
    slots, threads = highest_concurrency(plan) or SLOTS_OF_OPEN_LOADS, num_threads(plan)
    target = files[plan.target]
    for flag, attribute, value in (
        ("--model", "model.path", str(target)),
        ("--alias", "model_alias", served_name(plan.target)),
        ("--host", "hostnames", HOST),
        ("--port", "port", port),
        ("--parallel", "n_parallel", slots),
        ("--ctx-size", "n_ctx", slots * CONTEXT_OF_A_SLOT),
        ("--threads", "cpuparams.n_threads", threads),
        ("--threads-batch", "cpuparams_batch.n_threads", threads),
        ("--metrics", "endpoint_metrics", True),
        ("--no-cache-prompt", "cache_prompt", False),
        ("--cache-ram", "cache_ram_mib", 0),
    ):
        yield Setting(flag=flag, attribute=attribute, value=value)
    cache_type = _cache_type(plan)
    if cache_type is not None:
        yield Setting(flag="--cache-type-k", attribute="cache_type_k", value=cache_type)
        yield Setting(flag="--cache-type-v", attribute="cache_type_v", value=cache_type)
    if plan.options.device == "cpu":
        yield Setting(flag="--n-gpu-layers", attribute="n_gpu_layers", value=0)
    yield from _speculation(plan, arm, files, cache_type)


def _speculation(
    plan: Plan, arm: Arm, files: Mapping[str, Path], cache_type: str | None
) -> Iterator[Setting]:
    """K drafts in every block: the engine's stop at a draft's low confidence is off."""
    draft, length = "speculative.draft", arm.num_speculative_tokens
    if arm.method is Method.NGRAM:
        simple = "speculative.ngram_simple"
        yield Setting(flag="--spec-type", attribute="speculative.types", value="ngram-simple")
        yield Setting(
            flag="--spec-ngram-simple-size-n", attribute=f"{simple}.size_n", value=arm.min_ngram
        )
        yield Setting(flag="--spec-ngram-simple-size-m", attribute=f"{simple}.size_m", value=length)
    if arm.draft is None:
        return
    draws = arm.draft_sampling is DraftSampling.PROBABILISTIC and not plan.sampling.is_greedy
    yield Setting(flag="--spec-type", attribute="speculative.types", value="draft-simple")
    for flag, attribute, value in (
        ("--spec-draft-model", "mparams.path", str(files[arm.draft])),
        ("--spec-draft-n-max", "n_max", length),
        ("--spec-draft-n-min", "n_min", 1),
        ("--spec-draft-p-min", "p_min", 0.0),
        ("--spec-draft-threads", "cpuparams.n_threads", num_threads(plan)),
        ("--spec-draft-threads-batch", "cpuparams_batch.n_threads", num_threads(plan)),
    ):
        yield Setting(flag=flag, attribute=f"{draft}.{attribute}", value=value)
    if draws:
        yield Setting(
            flag="--spec-draft-sampling",
            attribute=f"{draft}.probabilistic",
            value=True,
            word="probabilistic",
        )
    if cache_type is not None:
        yield Setting(
            flag="--spec-draft-type-k", attribute=f"{draft}.cache_type_k", value=cache_type
        )
        yield Setting(
            flag="--spec-draft-type-v", attribute=f"{draft}.cache_type_v", value=cache_type
        )


def _cache_type(plan: Plan) -> str | None:
    """Keys and values as wide as the plan's numbers; the engine's own where the plan leaves it.

    A folder is converted to float32, and its cache is float32, too.
    """
    wish, is_folder = plan.options.dtype, not plan.target.endswith(".gguf")
    if is_folder and wish not in ("auto", "float32"):
        raise UsageError(
            f"--dtype {wish}: {plan.target} is converted to float32 for llama.cpp. Convert it with "
            "llama.cpp's own script for another type and name the .gguf file."
        )
    return "f32" if is_folder else _CACHE_TYPES.get(wish)
