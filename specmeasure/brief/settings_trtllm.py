"""Medusa heads in TensorRT-LLM's words: of the servers here, the one that drafts their trees.

Names as in the LLM API's own Medusa example, which runs on the TensorRT backend alone.
"""

import json

from specmeasure.brief.pasting import NO_TYPICAL, Code, target_of
from specmeasure.records.plan import Arm
from specmeasure.records.trace import Manifest
from specmeasure.records.tree import TokenTree


def trtllm_code(manifest: Manifest, arm: Arm) -> Code:
    """The Python for a medusa arm; a chain is a tree of first choices."""
    if arm.lossy is not None:
        return NO_TYPICAL
    tree = arm.tree or TokenTree.chain(arm.num_speculative_tokens)
    choices = json.dumps([list(path) for path in tree.paths])
    return "\n".join(
        [
            "from tensorrt_llm._tensorrt_engine import LLM",
            "from tensorrt_llm.llmapi import MedusaDecodingConfig",
            "",
            "heads = MedusaDecodingConfig(",
            f"    speculative_model={json.dumps(arm.heads)},",
            f"    num_medusa_heads={tree.depth},",
            f"    max_draft_len={tree.num_nodes},",
            f"    medusa_choices={choices},",
            ")",
            f"llm = LLM(model={json.dumps(target_of(manifest))}, speculative_config=heads)",
        ]
    )
