"""Blocks as they are read from a journal: columns that grow, for a table or for arrays."""

from array import array
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from specmeasure.records.blocks import BlockColumns
from specmeasure.trace.lines import Blocks
from specmeasure.trace.lists import KeptLists
from specmeasure.trace.tables import BLOCK_SCHEMA, IDS

_NO_TREE = -1  # depth of a chain


class BlockBuffer:
    """Blocks of several trials, one after the other."""

    def __init__(self) -> None:
        self._ints = {name: array("i") for name in (*_COUNTS, "num_emitted_tokens", "depth")}
        self._seconds = {name: array("d") for name in _SECONDS}
        self._truncated = array("b")
        self._ids = {name: _Ids() for name in ("draft_ids", "emitted_ids")}

    def __len__(self) -> int:
        return len(self._truncated)

    def add(self, blocks: Blocks) -> None:
        """Take in one trial's."""
        start = len(self)
        for name in _COUNTS:
            self._ints[name].fromlist(getattr(blocks, name))
        for name in _SECONDS:
            self._seconds[name].fromlist(getattr(blocks, name))
        emitted = [accepted + 1 for accepted in blocks.num_accepted_tokens]
        self._truncated.frombytes(bytes(len(blocks)))
        for place in blocks.truncated:
            emitted[place] -= 1
            self._truncated[start + place] = 1
        self._ints["num_emitted_tokens"].fromlist(emitted)
        depths = blocks.draft_depth or repeat(None, len(blocks))
        self._ints["depth"].extend(_NO_TREE if one is None else one for one in depths)
        for name, ids in self._ids.items():
            ids.add(getattr(blocks, name), len(blocks))

    def columns(self) -> BlockColumns:
        """All blocks; nothing may be added afterwards."""
        arrays, depth = self._arrays(), np.asarray(self._ints["depth"])
        drafted, is_tree = arrays["num_draft_tokens"], depth != _NO_TREE
        return BlockColumns(
            **arrays,
            most_accepted=np.where(is_tree, depth, drafted) if is_tree.any() else drafted,
            is_tree=is_tree,
            draft_ids=self._ids["draft_ids"].lists(),
            emitted_ids=self._ids["emitted_ids"].lists(),
        )

    def table(self, trial_index: "np.ndarray[Any, np.dtype[np.int32]]") -> pa.Table:
        """All blocks as rows of the sealed table."""
        depth = np.asarray(self._ints["depth"])
        found = {name: pa.array(values) for name, values in self._arrays().items()}
        found |= {name: ids.column() for name, ids in self._ids.items()}
        found["draft_depth"] = pa.array(depth, mask=depth == _NO_TREE)
        found["trial_index"] = pa.array(trial_index, pa.int32())
        return pa.table([found[name] for name in BLOCK_SCHEMA.names], schema=BLOCK_SCHEMA)

    def _arrays(self) -> dict[str, Any]:
        numbers = {**self._ints, **self._seconds}
        del numbers["depth"]
        arrays = {name: np.asarray(values) for name, values in numbers.items()}
        return arrays | {"truncated": np.asarray(self._truncated).view(np.bool_)}


_COUNTS = ("num_draft_tokens", "num_accepted_tokens", "context_length")
_SECONDS = ("draft_s", "verify_s")


class _Ids:
    """A column of lists of ids, some of them missing."""

    def __init__(self) -> None:
        self._values = array("i")
        self._stops = array("i", [0])
        self._missing = array("b")

    def add(self, lists: Sequence[Sequence[int] | None] | None, size: int) -> None:
        """Take in one trial's lists; None: all are missing."""
        if lists is None:
            self._missing.frombytes(b"\1" * size)
            self._stops.extend(repeat(len(self._values), size))
            return
        for ids in lists:
            self._missing.append(ids is None)
            self._values.extend(ids or ())
            self._stops.append(len(self._values))

    def lists(self) -> KeptLists | None:
        """For columns of records; None where all are missing."""
        return None if all(self._missing) else KeptLists(self.column())

    def column(self) -> pa.ListArray:
        return pa.ListArray.from_arrays(
            pa.array(np.asarray(self._stops)),
            pa.array(np.asarray(self._values)),
            type=IDS,
            mask=pa.array(np.asarray(self._missing).view(np.bool_)),
        )
