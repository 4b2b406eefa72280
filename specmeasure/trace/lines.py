"""Journal lines: one JSON object each; a trial's blocks stand in it by columns, as lists."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter, ge
from pathlib import Path
from typing import Annotated, Any

import msgspec

from specmeasure.records.plan import TrialKey
from specmeasure.records.trace import BlockRecord, Checks, TrialRecord, WindowRecord

Count = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]  # fits a column of the tables
Ids = tuple[Count, ...]
BEGUN = b'{"begun"'  # how the line of a group's beginning starts


class Blocks(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One trial's blocks. A block emits its accepted drafts plus one token, or, cut, these alone.

    Raises:
        ValueError: a block that cannot be, or columns of different lengths.
    """

    num_draft_tokens: list[Count]
    num_accepted_tokens: list[Count]
    context_length: list[Count]
    draft_s: list[float]
    verify_s: list[float]
    truncated: list[int] = []  # places of the blocks that were cut
    draft_depth: list[Count | None] | None = None  # None: chains all
    draft_ids: list[Ids | None] | None = None  # None: no text is kept
    emitted_ids: list[Ids | None] | None = None

    def __post_init__(self) -> None:
        columns = [getattr(self, name) for name in self.__struct_fields__ if name != "truncated"]
        lengths = {len(column) for column in columns if column is not None}
        if len(lengths) > 1 or not all(0 <= place < len(self) for place in self.truncated):
            raise ValueError(f"columns of blocks have different lengths: {sorted(lengths)}")
        if self.draft_depth is not None or not self._are_chains():
            for _ in self.records():
                pass

    def __len__(self) -> int:
        return len(self.num_draft_tokens)

    def _are_chains(self) -> bool:
        accepted = self.num_accepted_tokens
        return min(accepted, default=0) >= 0 and all(map(ge, self.num_draft_tokens, accepted))

    def records(self) -> Iterator[BlockRecord]:
        """One by one."""
        cut = frozenset(self.truncated)
        for place, accepted in enumerate(self.num_accepted_tokens):
            yield BlockRecord(
                num_draft_tokens=self.num_draft_tokens[place],
                num_accepted_tokens=accepted,
                num_emitted_tokens=accepted + (place not in cut),
                context_length=self.context_length[place],
                draft_s=self.draft_s[place],
                verify_s=self.verify_s[place],
                truncated=place in cut,
                draft_depth=None if self.draft_depth is None else self.draft_depth[place],
            )


class Begun(msgspec.Struct, forbid_unknown_fields=True):
    """A worker begins a turn of a prompt; what was told of it before, by any worker, is void."""

    number: int  # in the order of the run, over all workers
    prompt_id: str
    turn: int


class Window(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A window, and the trials that ran in it with their checks."""

    record: WindowRecord
    trials: tuple[TrialRecord, ...]
    blocks: tuple[Blocks | None, ...] | None = None  # of each trial; None: of none


class Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One journal line: a trial, a window, checks of trials in lines above, or a beginning."""

    begun: Begun | None = None
    trial: TrialRecord | None = None
    blocks: Blocks | None = None  # of the trial
    checks: tuple[tuple[TrialKey, Checks], ...] | None = None
    window: Window | None = None

    def __post_init__(self) -> None:
        if [self.begun, self.trial, self.checks, self.window].count(None) != 3:
            raise ValueError("a line holds a trial, a window or checks")


class _KeyAlone(msgspec.Struct):
    key: TrialKey


class Skimmed(msgspec.Struct):
    """What a line is about."""

    begun: Begun | None = None
    trial: _KeyAlone | None = None


_FIELDS = [one.name for one in fields(TrialRecord) if one.name != "blocks"]
LINE, SKIMMED = msgspec.json.Decoder(Line), msgspec.json.Decoder(Skimmed)


def trial_line(trial: TrialRecord) -> bytes:
    """The line of one finished trial."""
    blocks = _columns(trial.blocks)
    return _encoded({"trial": _known_of(trial)} | ({} if blocks is None else {"blocks": blocks}))


def checks_line(checks: Mapping[TrialKey, Checks]) -> bytes:
    """The line of one turn's checks."""
    return _encoded(Line(checks=tuple(checks.items())))


def window_line(window: WindowRecord, trials: Sequence[TrialRecord]) -> bytes:
    """The line of a finished window and its trials."""
    blocks = tuple(_columns(trial.blocks) for trial in trials)
    told: dict[str, Any] = {"record": window, "trials": [_known_of(trial) for trial in trials]}
    return _encoded({"window": told | ({"blocks": blocks} if any(blocks) else {})})


def begun_line(number: int, prompt_id: str, turn: int) -> bytes:
    """The line of a turn that is begun, for the first time or anew."""
    return _encoded(Line(begun=Begun(number=number, prompt_id=prompt_id, turn=turn)))


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; a torn last one is as if never written."""
    if path.is_file():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield number, line


def _encoded(line: Any) -> bytes:
    return msgspec.json.encode(line, enc_hook=tuple) + b"\n"


def _known_of(trial: TrialRecord) -> dict[str, Any]:
    """A trial's fields but its blocks, without those that are unknown: most are, and names long."""
    told = ((name, getattr(trial, name)) for name in _FIELDS)
    return {name: value for name, value in told if value is not None}


def _columns(blocks: Sequence[BlockRecord]) -> Blocks | None:
    if not blocks:
        return None
    rows = list(blocks)
    return Blocks(
        num_draft_tokens=_values(rows, "num_draft_tokens"),
        num_accepted_tokens=_values(rows, "num_accepted_tokens"),
        context_length=_values(rows, "context_length"),
        draft_s=_values(rows, "draft_s"),
        verify_s=_values(rows, "verify_s"),
        truncated=[place for place, block in enumerate(rows) if block.truncated],
        draft_depth=_known(_values(rows, "draft_depth")),
        draft_ids=_known(_values(rows, "draft_ids")),
        emitted_ids=_known(_values(rows, "emitted_ids")),
    )


def _values(blocks: Iterable[BlockRecord], name: str) -> list[Any]:
    return list(map(attrgetter(name), blocks))


def _known(values: list[Any]) -> list[Any] | None:
    """The values, or None where there are none."""
    return None if values.count(None) == len(values) else values
