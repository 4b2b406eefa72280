"""Checkpoints that draft but are neither a language model nor Medusa heads: refused by name.

EAGLE, MTP and their kin read the target's features and feed their own forward inside a block;
transformers would load some of them as a broken language model, without a word.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specmeasure.engines.locating import location
from specmeasure.engines.weights import read_config, safe_keys
from specmeasure.errors import UnsupportedModel

_FORWARD = "and feeds its own features forward inside a block"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    names: str  # a pattern; by what its config calls it
    what: str
    drafts: str  # how
    method: str  # vLLM's name for it


_EAGLE_3 = _Kind(
    names=r"eagle_?-?3|peagle|p-eagle",
    what="an EAGLE-3 drafter",
    drafts=f"from features of three of the target's layers, {_FORWARD}",
    method="eagle3",
)
_EAGLE = _Kind(
    names=r"eagle(?!2_5)",
    what="an EAGLE drafter",
    drafts=f"from the target's last features, {_FORWARD}",
    method="eagle",
)
_MTP = _Kind(
    names=r"mtp",
    what="a set of multi-token prediction (MTP) layers",
    drafts=f"from the target's last features, {_FORWARD}",
    method="mtp",
)
_MLP = _Kind(
    names=r"mlp_?speculator",
    what="an MLP speculator",
    drafts=f"from the target's last features, {_FORWARD}",
    method="mlp_speculator",
)
_DFLASH = _Kind(
    names=r"dflash|dspark",
    what="a DFlash drafter",
    drafts="whole blocks from features of several of the target's layers",
    method="dflash",
)
_KINDS = (_EAGLE_3, _EAGLE, _MTP, _MLP, _DFLASH)


def refuse_foreign(name: str, role: str) -> None:
    """Look at config and weight headers; weights that are not on this machine are not fetched.

    Raises:
        UnsupportedModel: it is none that drafts here; says what it is and what to do.
        ModelNotFound: there is no such model.
    """
    if name.lower() == "mtp" and not Path(name).exists():
        raise UnsupportedModel(_said("mtp", role, _MTP, {}))
    config = read_config(name, role)
    kind = _kind_by_config(config) or _kind_by_keys(safe_keys(name, role))
    if kind is not None:
        raise UnsupportedModel(_said(name, role, kind, config))
    other = config.get("speculators_model_type")
    if other is not None:
        raise UnsupportedModel(
            f"{role} {name}: a speculator of the kind {other!r}, which is not known here. Where "
            f"vLLM knows it, measure it there: specmeasure run --engine vllm --target {name}."
        )
    if role == "draft" and _is_medusa(config):
        raise UnsupportedModel(
            f"draft {name}: these are Medusa heads, not a language model. Name them with --medusa."
        )


def _said(name: str, role: str, kind: _Kind, config: Mapping[str, Any]) -> str:
    own = {} if kind is _MTP else {"model": location(name)}
    settings = json.dumps({"method": kind.method, **own, "num_speculative_tokens": 3})
    not_a = "no Medusa heads" if role == "heads" else "no language model"
    depth = config.get("num_hidden_layers")
    layers = f" of {depth} layer{'s' * (depth != 1)}" if isinstance(depth, int) else ""
    return (
        f"{role} {name}: this is {kind.what}{layers}, {not_a}. It drafts {kind.drafts}; that needs "
        "its layers run on the target's hidden states, which is not done here. Measure it on a "
        f"server: specmeasure run --engine vllm --speculative-config '{settings}'."
    )


def _kind_by_config(config: Mapping[str, Any]) -> _Kind | None:
    named = [*(config.get("architectures") or []), config.get("model_type")]
    named += [config.get("speculators_model_type")]
    for kind in _KINDS:
        if any(re.search(kind.names, str(one), re.IGNORECASE) for one in named if one):
            return kind
    if "draft_vocab_size" in config:
        return _EAGLE_3
    return _EAGLE if "eagle_config" in config else None


def _kind_by_keys(keys: Iterable[str]) -> _Kind | None:
    known = set(keys)
    if known & {"d2t", "t2d"} or any(key.startswith("midlayer.") for key in known):
        return _EAGLE_3
    if "fc.weight" in known:
        return _EAGLE
    return _MLP if any(re.match(r"(speculator\.)?emb\.0\.weight", key) for key in known) else None


def _is_medusa(config: Mapping[str, Any]) -> bool:
    model_type = config.get("model_type")
    return model_type == "medusa" or (model_type is None and "medusa_num_heads" in config)
