"""Whether a draft's token ids mean the same text to the target, read from both folders."""

import json
from pathlib import Path
from typing import Any

from specmeasure.demo import embedded_folder
from specmeasure.errors import TokenizerMismatch
from specmeasure.records.plan import Plan


def refuse_other_vocabularies(plan: Plan) -> None:
    """Check the drafts that lie in folders with a tokenizer.json, as the target does.

    Engines compare sizes alone. Of hub ids and GGUF files nothing is known here.

    Raises:
        TokenizerMismatch: names the draft and how many tokens differ.
    """
    ours = _vocabulary(plan.target)
    for draft in dict.fromkeys(arm.draft for arm in plan.arms if arm.draft is not None):
        theirs = _vocabulary(draft)
        if ours is None or theirs is None or ours == theirs:
            continue
        differing = [one for one in ours.keys() | theirs.keys() if ours.get(one) != theirs.get(one)]
        raise TokenizerMismatch(
            f"draft {draft}: its tokenizer differs from the target's in {len(differing)} tokens. "
            "Draft ids would mean other text to the target; use a draft trained with the target's "
            "tokenizer."
        )


def _vocabulary(model: str) -> dict[str, int] | None:
    """Token → id; None: there is no tokenizer.json to read, or not of the known form."""
    path = (embedded_folder(model) or Path(model)) / "tokenizer.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _tokens(document["model"]["vocab"]) | {
            added["content"]: added["id"] for added in document.get("added_tokens", [])
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _tokens(vocabulary: Any) -> dict[str, int]:
    """Of byte-pair models a table; of unigram models a list of tokens with their scores."""
    if isinstance(vocabulary, dict):
        return vocabulary
    return {entry[0]: place for place, entry in enumerate(vocabulary)}
