"""An arm in vLLM's words. Names as of vLLM 0.32."""

import json
import shlex

from specmeasure.brief.pasting import (
    NO_EXIT,
    NO_METHOD,
    NO_TYPICAL,
    Code,
    NoSetting,
    draws_drafts,
    dtype_name,
    has_other_vocabulary,
    target_name,
)
from specmeasure.records.plan import Arm, Method, NgramPick
from specmeasure.records.suffix import vllm_suffix
from specmeasure.records.trace import Manifest


def vllm_code(manifest: Manifest, arm: Arm) -> Code:
    """The command, or why there is none."""
    config = vllm_setting(manifest, arm)
    if isinstance(config, NoSetting):
        return config
    return (
        f"vllm serve {target_name(manifest)} --dtype {dtype_name(manifest)} \\\n"
        f"  --speculative-config {shlex.quote(json.dumps(config))}"
    )


def vllm_config(manifest: Manifest, arm: Arm) -> dict[str, object] | None:
    """Of ``--speculative-config``; None where vLLM cannot draft like the arm."""
    config = vllm_setting(manifest, arm)
    return None if isinstance(config, NoSetting) else config


def vllm_setting(manifest: Manifest, arm: Arm) -> dict[str, object] | NoSetting:
    """The configuration, or why there is none."""
    return NO_TYPICAL if arm.lossy is not None else _strict(manifest, arm)


def _strict(manifest: Manifest, arm: Arm) -> dict[str, object] | NoSetting:
    match arm.method:
        case Method.DRAFT_MODEL:
            return _draft_model(manifest, arm)
        case Method.NGRAM:
            return _ngram(arm)
        case Method.SUFFIX:
            return vllm_suffix(
                arm.num_speculative_tokens, caches_answers=arm.past_outputs is not None
            )
        case Method.MEDUSA:
            return {
                "method": "medusa",
                "model": arm.heads,
                "num_speculative_tokens": arm.draft_depth,
            }
    return NO_EXIT if arm.method is Method.EARLY_EXIT else NO_METHOD


def _draft_model(manifest: Manifest, arm: Arm) -> dict[str, object]:
    fields: dict[str, object] = {
        "method": "draft_model",
        "model": arm.draft,
        "num_speculative_tokens": arm.num_speculative_tokens,
    }
    if has_other_vocabulary(manifest, arm):
        return {**fields, "use_heterogeneous_vocab": True}  # it then drafts greedily alone
    if draws_drafts(manifest, arm):
        return {**fields, "draft_sample_method": "probabilistic"}  # it drafts greedily unless told
    return fields


def _ngram(arm: Arm) -> dict[str, object] | NoSetting:
    if arm.ngram_pick is NgramPick.LATEST:
        return NoSetting(
            why="prompt lookup goes on from the earliest occurrence there, in this run from the "
            "latest"
        )
    return {
        "method": "ngram",
        "num_speculative_tokens": arm.num_speculative_tokens,
        "prompt_lookup_max": arm.max_ngram,
        "prompt_lookup_min": arm.min_ngram,
    }
