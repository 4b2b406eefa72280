"""Settings to paste into an engine that would run the recommended arm, and when to undo them.

Names as of vLLM 0.32, SGLang 0.5.23, llama.cpp of October 2026 (in xllamacpp 2026.10.11549) and
transformers 5.23. This project's run did not test them on those engines.
"""

import json
import shlex
from dataclasses import dataclass

from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import count
from specmeasure.records.estimates import Costs, Unmeasured
from specmeasure.records.plan import Arm, DraftSampling, Method, Sampling
from specmeasure.records.trace import Manifest

_VLLM_METHODS = {Method.DRAFT_MODEL: "draft_model", Method.NGRAM: "ngram"}
# by engine: the prefix of its metrics, and its counter of tokens sent
_COUNTERS = {
    "vLLM": ("vllm", "generation_tokens_total"),
    "llama.cpp": ("llamacpp", "tokens_predicted_total"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What to paste, where, and when to take it back."""

    engine: str
    language: str  # of the code block: "sh" or "python"
    code: str
    watch: str | None  # what the engine reports where it no longer pays; None: costs unmeasured


def write_settings(
    manifest: Manifest, arm: Arm, costs: Costs | Unmeasured | None
) -> tuple[EngineSettings, ...]:
    """The arm in the words of every engine that has its method."""
    return tuple(
        EngineSettings(
            engine=engine,
            language="python" if engine == "transformers" else "sh",
            code=code,
            watch=write_watch(engine, arm.method, costs) if isinstance(costs, Costs) else None,
        )
        for engine, code in code_by_engine(manifest, arm).items()
        if code is not None
    )


def write_caveats(manifest: Manifest, arm: Arm) -> tuple[str, ...]:
    """What a reader must know before pasting."""
    caveats = [
        (
            "These settings were not tested on any of these engines by this run: measure there "
            "before relying."
        ),
        (
            "Break-even is this machine's at concurrency 1: batching makes verifying dearer and "
            "raises it."
        ),
    ]
    if any(model.name.startswith("embedded:") for model in manifest.models):
        caveats.append(
            "This run used the embedded demo pair, which no engine can load by these names: the "
            "settings show the shape only."
        )
    return (
        *caveats,
        *mixture_caveats(manifest),
        *method_caveats(manifest, arm),
        *sampling_caveats(manifest, arm),
    )


def mixture_caveats(manifest: Manifest) -> list[str]:
    """Where prompts asked for settings of their own."""
    if len(manifest.corpus.samplings) <= 1:
        return []
    settings = count(len(manifest.corpus.samplings), "sampling setting")
    return [f"Prompts were decoded with {settings}; shown is that of most: {_sampling(manifest)}."]


def method_caveats(manifest: Manifest, arm: Arm) -> list[str]:
    """Where an engine's method is not quite the one that was measured."""
    codes = code_by_engine(manifest, arm)
    without = [engine for engine, code in codes.items() if code is None]
    if without:
        return [f"{listed(without)} have no {arm.method} drafting."]
    caveats = ["llama.cpp loads no safetensors: its GGUF names stand for the converted models."]
    if arm.method is Method.NGRAM:
        caveats.append(
            f"This run looked up n-grams of {arm.max_ngram} down to {arm.min_ngram} tokens in "
            "prompt and answer. vLLM takes both sizes; transformers goes down to 1; llama.cpp "
            "looks up one size (shown: the longest, but no more than K, or it drafts nothing); "
            "SGLang looks up any size in what it generated for all requests, not in prompts, so "
            "expect other acceptance there."
        )
    return caveats


def sampling_caveats(manifest: Manifest, arm: Arm) -> list[str]:
    """Where an engine's sampling is not quite the one that was measured."""
    if _sampling(manifest).is_greedy:
        return []
    caveats = []
    if arm.method is not Method.EARLY_EXIT:
        caveats.append(
            "With sampling, check the output first: on a CPU vLLM 0.32 samples wrongly under "
            "speculation (its issue 55005), and on CPU, XPU and ROCm SGLang 0.5.23 takes the "
            "target's likeliest token whatever the temperature."
        )
    if arm.method is not Method.NGRAM:
        caveats.append(
            "transformers applies the temperature to the draft twice, so expect fewer accepted "
            "drafts there; its output distribution is unaffected."
            if arm.draft_sampling is DraftSampling.PROBABILISTIC
            else "transformers draws its drafts where this run took the likeliest token, so expect "
            "other acceptance there; its output distribution is unaffected."
        )
    if draws_drafts(manifest, arm) and arm.method is Method.DRAFT_MODEL:
        caveats.append(
            "SGLang takes a draft model's likeliest token where this run drew it, so expect other "
            "acceptance there."
        )
    return caveats


def write_watch(engine: str, method: Method, costs: Costs) -> str:
    """When to turn it off, in PromQL.

    For n-gram lookup vLLM and llama.cpp count no drafts in passes that drafted nothing, so their
    acceptance length says nothing about cost. But every pass, drafted or not, adds one token to
    the accepted ones: passes = generated − accepted. That includes the prefill, which the
    threshold excludes: it reads low by a share of (tokens per pass − 1) / tokens per answer.
    """
    if engine == "transformers":
        return "transformers reports no acceptance: run specmeasure again when the traffic changes."
    is_ngram = method is Method.NGRAM
    note = ""
    if engine == "SGLang":
        observed = "avg_over_time(sglang:spec_accept_length[5m])"
        if is_ngram:
            note = "; SGLang does above it, since it verifies K drafts even where none matched"
    else:
        prefix, generated_tokens = _COUNTERS[engine]
        accepted = f"rate({prefix}:spec_decode_num_accepted_tokens_total[5m])"
        generated = f"rate({prefix}:{generated_tokens}[5m])"
        observed = f"1 + {accepted} / rate({prefix}:spec_decode_num_drafts_total[5m])"
        if is_ngram:
            observed = f"{generated} / ({generated} - {accepted})"
            note = " (its count of drafts cannot tell: passes that drafted nothing are left out)"
    return (
        f"Turn it off when {observed} stays below {costs.break_even_tokens_per_pass:.2f}: "
        f"there this machine broke even{note}."
    )


def code_by_engine(manifest: Manifest, arm: Arm) -> dict[str, str | None]:
    """What to paste; None where the engine has no such method."""
    return {
        "vLLM": _vllm(manifest, arm),
        "SGLang": _sglang(manifest, arm),
        "llama.cpp": _llamacpp(manifest, arm),
        "transformers": _transformers(manifest, arm),
    }


def vllm_config(manifest: Manifest, arm: Arm) -> dict[str, object] | None:
    """Of vLLM's ``--speculative-config``; None where it has no such method."""
    if arm.method not in _VLLM_METHODS:
        return None
    fields = {
        "method": _VLLM_METHODS[arm.method],
        "model": arm.draft,
        "num_speculative_tokens": arm.num_speculative_tokens,
        "prompt_lookup_max": arm.max_ngram,
        "prompt_lookup_min": arm.min_ngram,
        # vLLM drafts greedily unless told
        "draft_sample_method": "probabilistic" if draws_drafts(manifest, arm) else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _vllm(manifest: Manifest, arm: Arm) -> str | None:
    config = vllm_config(manifest, arm)
    if config is None:
        return None
    return (
        f"vllm serve {target_name(manifest)} --dtype {dtype_name(manifest)} \\\n"
        f"  --speculative-config {shlex.quote(json.dumps(config))}"
    )


def _sglang(manifest: Manifest, arm: Arm) -> str | None:
    num_drafts = arm.num_speculative_tokens
    # SGLang counts the verified tokens, the one before the drafts among them
    num_verified = f"--speculative-num-draft-tokens {num_drafts + 1}"
    match arm:
        case Arm(draft=str(draft)):
            method = (
                f"STANDALONE --speculative-draft-model-path {shlex.quote(draft)} \\\n"
                f"  --speculative-num-steps {num_drafts} --speculative-eagle-topk 1 {num_verified}"
            )
        case Arm(max_ngram=int(longest)):
            # breadth 1: a chain, not a tree; a match and its drafts share the depth of the trie
            method = (
                f"NGRAM {num_verified} \\\n  --speculative-ngram-max-bfs-breadth 1 "
                f"--speculative-ngram-max-trie-depth {longest + num_drafts}"
            )
        case _:
            return None
    return (
        f"python -m sglang.launch_server --model-path {target_name(manifest)} "
        f"--dtype {dtype_name(manifest)} --enable-metrics \\\n  --speculative-algorithm {method}"
    )


def _llamacpp(manifest: Manifest, arm: Arm) -> str | None:
    num_drafts = arm.num_speculative_tokens
    match arm:
        case Arm(draft=str()):
            # like vLLM, it drafts greedily unless told
            sampled = " --spec-draft-sampling probabilistic" if draws_drafts(manifest, arm) else ""
            return (
                "llama-server -m target.gguf -md draft.gguf --metrics \\\n  --spec-type "
                f"draft-simple --spec-draft-n-max {num_drafts} --spec-draft-n-min 1{sampled}"
            )
        case Arm(max_ngram=int(longest)):
            # with N above M, ngram-simple never drafts: seen in xllamacpp 2026.10.11549
            return (
                "llama-server -m target.gguf --metrics \\\n  --spec-type ngram-simple "
                f"--spec-ngram-simple-size-n {min(longest, num_drafts)} "
                f"--spec-ngram-simple-size-m {num_drafts}"
            )
    return None


def _transformers(manifest: Manifest, arm: Arm) -> str:
    sampling = _generate_arguments(_sampling(manifest))
    if arm.method is Method.NGRAM:
        return (
            f"target.generate(**inputs, {sampling}, "
            f"prompt_lookup_num_tokens={arm.num_speculative_tokens}, "
            f"max_matching_ngram_size={arm.max_ngram})"
        )
    loading: list[str] = []
    if arm.method is Method.EARLY_EXIT:
        drafter, assisted = "target", f"assistant_early_exit={arm.exit_layer}"
    else:
        drafter, assisted = "assistant", "assistant_model=assistant"
        draft, dtype = json.dumps(arm.draft), json.dumps(dtype_name(manifest))
        loading = [
            "from transformers import AutoModelForCausalLM",
            "",
            f"assistant = AutoModelForCausalLM.from_pretrained({draft}, dtype={dtype})",
        ]
    return "\n".join(
        [
            *loading,
            f"{drafter}.generation_config.num_assistant_tokens = {arm.num_speculative_tokens}",
            f'{drafter}.generation_config.num_assistant_tokens_schedule = "constant"',
            f"{drafter}.generation_config.assistant_confidence_threshold = 0.0",
            f"target.generate(**inputs, {sampling}, {assisted})",
        ]
    )


def target_name(manifest: Manifest) -> str:
    """The target, quoted for a shell."""
    loaded = [model.name for model in manifest.models[:1]]  # none by a run on servers
    return shlex.quote(next(iter(loaded), manifest.plan.target))


def draws_drafts(manifest: Manifest, arm: Arm) -> bool:
    """Whether this run drew its model's drafts by chance, as the target its tokens."""
    is_probabilistic = arm.draft_sampling is DraftSampling.PROBABILISTIC
    is_model = arm.method is not Method.NGRAM
    return is_model and is_probabilistic and not _sampling(manifest).is_greedy


def _sampling(manifest: Manifest) -> Sampling:
    """How most prompts were decoded: rows may ask for their own."""
    used = manifest.corpus.samplings or ((manifest.plan.sampling, 1),)
    return max(used, key=lambda pair: pair[1])[0]


def dtype_name(manifest: Manifest) -> str:
    """As engines call it: "auto" where servers were left to choose."""
    loaded = [model.dtype for model in manifest.models[:1]]
    return plain(next(iter(loaded), manifest.plan.options.dtype)).removeprefix("torch.")


def _generate_arguments(sampling: Sampling) -> str:
    if sampling.is_greedy:
        return "do_sample=False"
    limits = [("top_k", sampling.top_k), ("top_p", sampling.top_p)]
    said = [f"{name}={value:g}" for name, value in limits if value is not None]
    return ", ".join(["do_sample=True", f"temperature={sampling.temperature:g}", *said])
