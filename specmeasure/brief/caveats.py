"""Where an engine would not do quite what was measured, and where it cannot do it at all."""

from collections.abc import Mapping

from specmeasure.brief.names import listed
from specmeasure.brief.numbers import count
from specmeasure.brief.pasting import (
    Code,
    NoSetting,
    draws_drafts,
    has_other_vocabulary,
    sampling_of,
)
from specmeasure.records.plan import Arm, DraftSampling, Method, NgramPick
from specmeasure.records.trace import Manifest

_OF_EXITS = (
    "transformers gives an early exit a cache of its own, and its verification computes the first "
    "layers again, which this run did not where the model allowed it: expect less of a gain there."
)


def mixture_caveats(manifest: Manifest) -> list[str]:
    """Where prompts asked for settings of their own."""
    if len(manifest.corpus.samplings) <= 1:
        return []
    settings = count(len(manifest.corpus.samplings), "sampling setting")
    return [
        f"Prompts were decoded with {settings}; shown is that of most: {sampling_of(manifest)}."
    ]


def method_caveats(manifest: Manifest, arm: Arm, codes: Mapping[str, Code]) -> list[str]:
    """Where engines cannot draft like this, and where their method is another."""
    caveats = _without_setting(codes)
    if isinstance(codes["llama.cpp"], str):
        caveats.append(
            "llama.cpp loads no safetensors: its GGUF names stand for the converted models."
        )
    match arm.method:
        case Method.NGRAM if isinstance(codes["llama.cpp"], str):
            caveats.append(_of_ngrams(arm))
        case Method.SUFFIX if isinstance(codes["vLLM"], str):
            caveats.append(_of_suffixes(arm))
        case Method.MEDUSA if isinstance(codes["vLLM"], str):
            caveats += _of_heads(arm)
        case Method.EARLY_EXIT if isinstance(codes["transformers"], str):
            caveats.append(_OF_EXITS)
    if has_other_vocabulary(manifest, arm) and arm.lossy is None:
        caveats.append(_of_vocabularies(manifest))
    return caveats


def sampling_caveats(manifest: Manifest, arm: Arm) -> list[str]:
    """Where an engine's sampling is not quite the one that was measured."""
    if sampling_of(manifest).is_greedy or arm.lossy is not None:
        return []
    caveats = []
    if arm.method is not Method.EARLY_EXIT:
        caveats.append(
            "With sampling, check the output first: on a CPU vLLM 0.32 samples wrongly under "
            "speculation (its issue 55005), and on CPU, XPU and ROCm SGLang 0.5.23 takes the "
            "target's likeliest token whatever the temperature."
        )
    if arm.method in (Method.DRAFT_MODEL, Method.EARLY_EXIT):
        caveats.append(
            "transformers applies the temperature to the draft twice, so expect fewer accepted "
            "drafts there; its output distribution is unaffected."
            if arm.draft_sampling is DraftSampling.PROBABILISTIC
            else "transformers draws its drafts where this run took the likeliest token, so expect "
            "other acceptance there; its output distribution is unaffected."
        )
    if draws_drafts(manifest, arm):
        caveats += _of_drawn_drafts(manifest, arm)
    return caveats


def _of_drawn_drafts(manifest: Manifest, arm: Arm) -> list[str]:
    """Engines that take the likeliest token where this run drew one."""
    takes = []
    if arm.method is Method.DRAFT_MODEL:
        takes = ["vLLM"] if has_other_vocabulary(manifest, arm) else ["SGLang"]
    elif arm.method is Method.MEDUSA:
        takes = ["vLLM"]
    what = "the heads'" if arm.method is Method.MEDUSA else "a draft model's"
    return [
        f"{engine} takes {what} likeliest token where this run drew it, so expect other acceptance "
        "there."
        for engine in takes
    ]


def _without_setting(codes: Mapping[str, Code]) -> list[str]:
    """Engines with the same reason in one sentence."""
    engines: dict[str, list[str]] = {}
    for engine, code in codes.items():
        if isinstance(code, NoSetting):
            engines.setdefault(code.why, []).append(engine)
    return [f"No setting for {listed(names)}: {why}." for why, names in engines.items()]


def _of_ngrams(arm: Arm) -> str:
    sizes = f"n-grams of {arm.max_ngram} down to {arm.min_ngram} tokens in prompt and answer"
    if arm.ngram_pick is NgramPick.LATEST:
        return (
            f"This run looked up {sizes} and went on from the latest occurrence. Which one "
            "llama.cpp takes was not looked into, and it looks up one size (shown: the longest, "
            "but no more than K, or it drafts nothing); SGLang looks up any size in what it "
            "generated for all requests, not in prompts, so expect other acceptance there."
        )
    return (
        f"This run looked up {sizes}. vLLM takes both sizes; transformers goes down to 1; "
        "llama.cpp looks up one size (shown: the longest, but no more than K, or it drafts "
        "nothing); SGLang looks up any size in what it generated for all requests, not in prompts, "
        "so expect other acceptance there."
    )


def _of_suffixes(arm: Arm) -> str:
    said = (
        "vLLM's suffix decoding needs the package arctic-inference beside it. Its matches end at "
        "the depth shown, this run's have any length, and it weighs matches by K drafts, so expect "
        "slightly other acceptance there."
    )
    if arm.past_outputs is None:
        return f"{said} No cached requests: this run looked up prompt and answer alone."
    return (
        f"{said} It can be given no file of past answers: its cache begins empty and fills with "
        "what it answers itself, so acceptance grows as it serves."
    )


def _of_heads(arm: Arm) -> list[str]:
    caveats = [
        (
            "vLLM reads heads in a format of its own, which heads that were trained here are saved "
            "in, too. TensorRT-LLM drafts with heads on its TensorRT backend alone, and names of "
            "its options change between releases: check them against yours."
        )
    ]
    if arm.tree is not None:
        caveats.append(
            f"vLLM drafts a chain of {arm.draft_depth} with these heads, no tree: what the tree's "
            f"{arm.num_speculative_tokens} nodes gained here it will not give. Measure the chain."
        )
    return caveats


def _of_vocabularies(manifest: Manifest) -> str:
    said = (
        "The draft has a vocabulary of its own. vLLM drafts tokens that both know and takes the "
        "draft's likeliest one; "
    )
    if sampling_of(manifest).is_greedy:
        said += "transformers matches the text of greedy drafts; "
    else:
        said += "transformers draws among tokens that both know; "
    return said + (
        "llama.cpp carries drafts over as text where its release still does. Expect other "
        "acceptance on each of them."
    )
