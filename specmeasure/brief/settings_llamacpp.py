"""An arm in llama.cpp's words. Names as of October 2026 (in xllamacpp 2026.10.11549)."""

from specmeasure.brief.pasting import (
    NO_EXIT,
    NO_HEADS,
    NO_METHOD,
    NO_TYPICAL,
    Code,
    NoSetting,
    draws_drafts,
)
from specmeasure.records.plan import Arm, Method
from specmeasure.records.trace import Manifest

_WITHOUT = {
    Method.EARLY_EXIT: NO_EXIT,
    Method.MEDUSA: NO_HEADS,
    Method.SUFFIX: NoSetting(why="its lookups have n-grams of fixed sizes"),
}


def llamacpp_code(manifest: Manifest, arm: Arm) -> Code:
    """The command, or why there is none."""
    num_drafts = arm.num_speculative_tokens
    match arm:
        case Arm(lossy=rule) if rule is not None:
            return NO_TYPICAL
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
    return _WITHOUT.get(arm.method, NO_METHOD)
