"""Columns become values: nulls are None, structs records, and equal ones one object."""

from dataclasses import dataclass

import pyarrow as pa
import pytest

from specmeasure.trace.instances import make_instances
from specmeasure.trace.values import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A record within a record."""

    low: float

    def __post_init__(self) -> None:
        if self.low < 0:
            raise ValueError(f"low {self.low}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A record of a column."""

    number: int | None
    is_right: bool | None
    part: Part | None
    parts: tuple[Part, ...] | None


PART = pa.struct([("low", pa.float64())])
WHOLE = pa.struct(
    [("number", pa.int32()), ("is_right", pa.bool_()), ("part", PART), ("parts", pa.list_(PART))]
)
ROWS = [
    {"number": 1, "is_right": True, "part": {"low": 0.5}, "parts": [{"low": 1.0}, {"low": 2.0}]},
    None,
    {"number": None, "is_right": None, "part": None, "parts": None},
    {"number": None, "is_right": False, "part": None, "parts": []},
    {"number": None, "is_right": None, "part": None, "parts": []},
    {"number": 1, "is_right": True, "part": {"low": 0.5}, "parts": []},
    {"number": None, "is_right": None, "part": None, "parts": None},
    {"number": 1, "is_right": True, "part": {"low": 0.5}, "parts": []},
]


def whole(row):
    """The record that a row tells of."""
    if row is None:
        return None
    part, parts = row["part"], row["parts"]
    return Whole(
        number=row["number"],
        is_right=row["is_right"],
        part=None if part is None else Part(**part),
        parts=None if parts is None else tuple(Part(**one) for one in parts),
    )


@pytest.mark.parametrize("start", range(len(ROWS)))
def test_structs_are_records(start):
    """A struct without any value is no null, an empty list neither, also in a part of a column."""
    column = pa.array(ROWS, WHOLE)[start:]

    assert list(map(whole, ROWS[start:])) == values().of(column, "whole")


def test_equal_records_are_one():
    """As are those within them."""
    found = values().of(pa.array(ROWS, WHOLE), "whole")

    assert found[5] is found[7]
    assert found[2] is found[6]
    assert found[0].part is found[5].part


def test_a_record_that_cannot_be_is_refused():
    """Wherever it stands: the distinct ones are all checked."""
    rows = [*ROWS, {**ROWS[0], "parts": [{"low": 3.0}, {"low": -1.0}]}]

    with pytest.raises(ValueError, match=r"low -1\.0"):
        values().of(pa.array(rows, WHOLE), "whole")


@pytest.mark.parametrize("start", range(4))
def test_maps_are_dictionaries(start):
    """Equal ones are one, in whatever order they come, also in a part of a column."""
    rows = [{"a": "x", "b": "y"}, None, {}, {"a": "y"}, {"a": "x", "b": "y"}]
    pairs = [None if row is None else list(row.items()) for row in rows]
    column = pa.array(pairs, pa.map_(pa.string(), pa.string()))[start:]
    found = values().of(column, "labels")

    assert rows[start:] == found
    assert start > 0 or found[0] is found[4]


def test_numbers_keep_their_nulls():
    """Of every type of column, with nulls and without."""
    columns = [
        pa.array([0.5, None, 0.5]),
        pa.array([0.5, 0.0, 0.25]),
        pa.array([7, None, -7], pa.int32()),
        pa.array([2**40, 1, None], pa.int64()),
        pa.array([None, None]),
        pa.array([True, None, False]),
        pa.array(["a", None, "a"]),
    ]

    assert [column.to_pylist() for column in columns] == [
        values().of(column, "number") for column in columns
    ]


def test_instances_equal_what_their_constructor_makes():
    """Field by field or one by one: the records are the same, and frozen."""
    lows = [0.0, 0.5, 1.0]
    made = make_instances(Part, 3, {"low": lows})

    assert [Part(low=low) for low in lows] == made
    with pytest.raises(AttributeError):
        made[0].low = 2.0


def values():
    return Values({"whole": Whole, "part": Part, "parts": Part}, {})
