"""An arm in the words of transformers' generate. Names as of transformers 5.23."""

import json

from specmeasure.brief.pasting import (
    NO_HEADS,
    NO_METHOD,
    NO_TYPICAL,
    Code,
    NoSetting,
    dtype_name,
    has_other_vocabulary,
    sampling_of,
    target_of,
)
from specmeasure.records.plan import Arm, Method, NgramPick, Sampling
from specmeasure.records.trace import Manifest


def transformers_code(manifest: Manifest, arm: Arm) -> Code:
    """The Python, or why there is none."""
    if arm.lossy is not None:
        return NO_TYPICAL
    match arm.method:
        case Method.NGRAM:
            return _lookup(manifest, arm)
        case Method.SUFFIX:
            return NoSetting(why="prompt lookup stops at a given size there")
        case Method.MEDUSA:
            return NO_HEADS
        case Method.DRAFT_MODEL | Method.EARLY_EXIT:
            return _assisted(manifest, arm)
    return NO_METHOD


def _lookup(manifest: Manifest, arm: Arm) -> Code:
    if arm.ngram_pick is NgramPick.LATEST:
        return NoSetting(
            why="prompt lookup goes on from the earliest occurrence there, in this run from the "
            "latest"
        )
    return (
        f"target.generate(**inputs, {_arguments(sampling_of(manifest))}, "
        f"prompt_lookup_num_tokens={arm.num_speculative_tokens}, "
        f"max_matching_ngram_size={arm.max_ngram})"
    )


def _assisted(manifest: Manifest, arm: Arm) -> str:
    loading: list[str] = []
    if arm.method is Method.EARLY_EXIT:
        drafter, assisted = "target", f"assistant_early_exit={arm.exit_layer}"
    else:
        drafter, assisted = "assistant", "assistant_model=assistant"
        loading = _loading(manifest, arm)
        if has_other_vocabulary(manifest, arm):
            assisted += ", tokenizer=tokenizer, assistant_tokenizer=assistant_tokenizer"
    return "\n".join(
        [
            *loading,
            f"{drafter}.generation_config.num_assistant_tokens = {arm.num_speculative_tokens}",
            f'{drafter}.generation_config.num_assistant_tokens_schedule = "constant"',
            f"{drafter}.generation_config.assistant_confidence_threshold = 0.0",
            f"target.generate(**inputs, {_arguments(sampling_of(manifest))}, {assisted})",
        ]
    )


def _loading(manifest: Manifest, arm: Arm) -> list[str]:
    draft, dtype = json.dumps(arm.draft), json.dumps(dtype_name(manifest))
    model = f"assistant = AutoModelForCausalLM.from_pretrained({draft}, dtype={dtype})"
    if not has_other_vocabulary(manifest, arm):
        return ["from transformers import AutoModelForCausalLM", "", model]
    return [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        model,
        f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(target_of(manifest))})",
        f"assistant_tokenizer = AutoTokenizer.from_pretrained({draft})",
    ]


def _arguments(sampling: Sampling) -> str:
    if sampling.is_greedy:
        return "do_sample=False"
    limits = [("top_k", sampling.top_k), ("top_p", sampling.top_p)]
    said = [f"{name}={value:g}" for name, value in limits if value is not None]
    return ", ".join(["do_sample=True", f"temperature={sampling.temperature:g}", *said])
