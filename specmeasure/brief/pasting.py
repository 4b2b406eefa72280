"""What engines' settings have in common: names of models, sampling, and why there may be none."""

import shlex
from dataclasses import dataclass

from specmeasure.brief.names import plain
from specmeasure.records.plan import Arm, DraftSampling, Method, Sampling
from specmeasure.records.trace import Manifest

_LOOKUPS = (Method.NGRAM, Method.SUFFIX)  # without a model; their drafts know no chance


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSetting:
    """An engine cannot be told to draft like an arm."""

    why: str  # goes on after "No setting for vLLM and SGLang: "


Code = str | NoSetting
NO_TYPICAL = NoSetting(why="typical acceptance with these thresholds is no option there")
NO_HEADS = NoSetting(why="Medusa heads are not among the ways to draft there")
NO_EXIT = NoSetting(why="early exit is not among the ways to draft there")
NO_METHOD = NoSetting(why="this method is not among the ways to draft there")


def is_lookup(arm: Arm) -> bool:
    """Whether it drafts from text alone."""
    return arm.method in _LOOKUPS


def target_name(manifest: Manifest) -> str:
    """The target, quoted for a shell."""
    return shlex.quote(target_of(manifest))


def target_of(manifest: Manifest) -> str:
    """The target as the user named it."""
    loaded = [model.name for model in manifest.models[:1]]  # none by a run on servers
    return next(iter(loaded), manifest.plan.target)


def dtype_name(manifest: Manifest) -> str:
    """As engines call it: "auto" where servers were left to choose."""
    loaded = [model.dtype for model in manifest.models[:1]]
    return plain(next(iter(loaded), manifest.plan.options.dtype)).removeprefix("torch.")


def sampling_of(manifest: Manifest) -> Sampling:
    """How most prompts were decoded: rows may ask for their own."""
    used = manifest.corpus.samplings or ((manifest.plan.sampling, 1),)
    return max(used, key=lambda pair: pair[1])[0]


def draws_drafts(manifest: Manifest, arm: Arm) -> bool:
    """Whether this run drew its model's drafts by chance, as the target its tokens."""
    is_probabilistic = arm.draft_sampling is DraftSampling.PROBABILISTIC
    return not is_lookup(arm) and is_probabilistic and not sampling_of(manifest).is_greedy


def has_other_vocabulary(manifest: Manifest, arm: Arm) -> bool:
    """Whether the arm's draft has a tokenizer of its own."""
    drafts = [model for model in manifest.models if model.name == arm.draft]
    return any(model.other_vocabulary is not None for model in drafts)
