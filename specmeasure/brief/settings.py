"""Settings to paste into an engine that would run the recommended arm.

Names as of vLLM 0.32 and transformers 5.23. This project's run did not test them on those engines.
"""

import json
import shlex
from dataclasses import dataclass

from specmeasure.brief.names import plain
from specmeasure.brief.numbers import count
from specmeasure.records.plan import Arm, Method, Sampling
from specmeasure.records.trace import Manifest

_VLLM_METHODS = {Method.DRAFT_MODEL: "draft_model", Method.NGRAM: "ngram"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What to paste, and where."""

    engine: str
    language: str  # of the code block: "sh" or "python"
    code: str


def write_settings(manifest: Manifest, arm: Arm) -> tuple[EngineSettings, ...]:
    """The arm as vLLM's command line and as a transformers call."""
    return (
        EngineSettings(engine="vLLM", language="sh", code=_vllm(manifest, arm)),
        EngineSettings(engine="transformers", language="python", code=_transformers(manifest, arm)),
    )


def write_caveats(manifest: Manifest, arm: Arm) -> tuple[str, ...]:
    """What a reader must know before pasting."""
    caveats = [
        "These settings were not tested on either engine by this run: measure there before relying."
    ]
    if any(model.name.startswith("embedded:") for model in manifest.models):
        caveats.append(
            "This run used the embedded demo pair, which no engine can load by these names: the "
            "settings show the shape only."
        )
    if len(manifest.corpus.samplings) > 1:
        caveats.append(
            f"Prompts were decoded with {count(len(manifest.corpus.samplings), 'sampling setting')}"
            f"; shown is that of most: {_sampling(manifest)}."
        )
    if arm.method is Method.DRAFT_MODEL and not _sampling(manifest).is_greedy:
        caveats.append(
            "transformers applies the temperature to the draft twice, so expect fewer accepted "
            "drafts there; its output distribution is unaffected."
        )
    return tuple(caveats)


def _vllm(manifest: Manifest, arm: Arm) -> str:
    is_sampled_draft = arm.method is Method.DRAFT_MODEL and not _sampling(manifest).is_greedy
    fields = {
        "method": _VLLM_METHODS[arm.method],
        "model": arm.draft,
        "num_speculative_tokens": arm.num_speculative_tokens,
        "prompt_lookup_max": arm.max_ngram,
        "prompt_lookup_min": arm.min_ngram,
        # vLLM drafts greedily unless told; this run sampled its drafts
        "draft_sample_method": "probabilistic" if is_sampled_draft else None,
    }
    config = {name: value for name, value in fields.items() if value is not None}
    target = manifest.models[0]
    return (
        f"vllm serve {shlex.quote(target.name)} --dtype {_dtype(manifest)} \\\n"
        f"  --speculative-config {shlex.quote(json.dumps(config))}"
    )


def _transformers(manifest: Manifest, arm: Arm) -> str:
    sampling = _generate_arguments(_sampling(manifest))
    if arm.method is Method.NGRAM:
        return (
            f"target.generate(**inputs, {sampling}, "
            f"prompt_lookup_num_tokens={arm.num_speculative_tokens}, "
            f"max_matching_ngram_size={arm.max_ngram})"
        )
    draft, dtype = json.dumps(arm.draft), json.dumps(_dtype(manifest))
    return "\n".join(
        [
            "from transformers import AutoModelForCausalLM",
            "",
            f"assistant = AutoModelForCausalLM.from_pretrained({draft}, dtype={dtype})",
            f"assistant.generation_config.num_assistant_tokens = {arm.num_speculative_tokens}",
            'assistant.generation_config.num_assistant_tokens_schedule = "constant"',
            "assistant.generation_config.assistant_confidence_threshold = 0.0",
            f"target.generate(**inputs, {sampling}, assistant_model=assistant)",
        ]
    )


def _sampling(manifest: Manifest) -> Sampling:
    """How most prompts were decoded: rows may ask for their own."""
    used = manifest.corpus.samplings or ((manifest.plan.sampling, 1),)
    return max(used, key=lambda pair: pair[1])[0]


def _dtype(manifest: Manifest) -> str:
    return plain(manifest.models[0].dtype).removeprefix("torch.")


def _generate_arguments(sampling: Sampling) -> str:
    if sampling.is_greedy:
        return "do_sample=False"
    limits = [("top_k", sampling.top_k), ("top_p", sampling.top_p)]
    said = [f"{name}={value:g}" for name, value in limits if value is not None]
    return ", ".join(["do_sample=True", f"temperature={sampling.temperature:g}", *said])
