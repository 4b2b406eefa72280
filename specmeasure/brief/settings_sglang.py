"""An arm in SGLang's words. Names as of SGLang 0.5.23."""

import shlex

from specmeasure.brief.pasting import (
    NO_EXIT,
    NO_HEADS,
    NO_METHOD,
    NO_TYPICAL,
    Code,
    NoSetting,
    dtype_name,
    has_other_vocabulary,
    target_name,
)
from specmeasure.records.plan import Arm, Method
from specmeasure.records.trace import Manifest

_WITHOUT = {
    Method.EARLY_EXIT: NO_EXIT,
    Method.MEDUSA: NO_HEADS,
    Method.SUFFIX: NoSetting(
        why="its n-gram lookup searches what it generated for all requests by rules of its own, "
        "and no prompts"
    ),
}


def sglang_code(manifest: Manifest, arm: Arm) -> Code:
    """The command, or why there is none."""
    method = NO_TYPICAL if arm.lossy is not None else _method(manifest, arm)
    if isinstance(method, NoSetting):
        return method
    return (
        f"python -m sglang.launch_server --model-path {target_name(manifest)} "
        f"--dtype {dtype_name(manifest)} --enable-metrics \\\n  --speculative-algorithm {method}"
    )


def _method(manifest: Manifest, arm: Arm) -> Code:
    num_drafts = arm.num_speculative_tokens
    # SGLang counts the verified tokens, the one before the drafts among them
    num_verified = f"--speculative-num-draft-tokens {num_drafts + 1}"
    match arm:
        case Arm(draft=str()) if has_other_vocabulary(manifest, arm):
            return NoSetting(why="a draft needs the target's own vocabulary there")
        case Arm(draft=str(draft)):
            return (
                f"STANDALONE --speculative-draft-model-path {shlex.quote(draft)} \\\n"
                f"  --speculative-num-steps {num_drafts} --speculative-eagle-topk 1 {num_verified}"
            )
        case Arm(max_ngram=int(longest)):
            # breadth 1: a chain, not a tree; a match and its drafts share the depth of the trie
            return (
                f"NGRAM {num_verified} \\\n  --speculative-ngram-max-bfs-breadth 1 "
                f"--speculative-ngram-max-trie-depth {longest + num_drafts}"
            )
    return _WITHOUT.get(arm.method, NO_METHOD)
