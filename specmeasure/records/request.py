"""What a user asks to be run: everything that a run depends on but the machine."""

from dataclasses import dataclass

from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.decision import Policy
from specmeasure.records.machine import Fleet
from specmeasure.records.plan import Plan

_OPTIONS, _POLICY = CorpusOptions(), Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One run."""

    plan: Plan
    sources: tuple[str, ...]  # files, folders, globs, datasets, or "-"
    options: CorpusOptions = _OPTIONS
    policy: Policy = _POLICY
    until_decided: bool = False  # stop at the first look that decides; the limit is the most
    argv: tuple[str, ...] = ()
    fleet: Fleet | None = None  # None: in this process
    corpus_fingerprint: str | None = None  # set: a run over other prompts is refused
