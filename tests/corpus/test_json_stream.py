import io
import json

import pytest

from specmeasure.corpus.json_stream import stream_document
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import Row
from specmeasure.errors import UnreadableCorpus

ROWS = [
    {"prompt": f"ask \u2028 é {number}" * 500, "n": [number, {"x": None}]} for number in range(900)
]


def read(content: bytes) -> list[Row]:
    return list(stream_document(io.BytesIO(content), "a.json").rows)


def refuse(content: bytes) -> str:
    with pytest.raises(UnreadableCorpus) as caught:
        read(content)
    return str(caught.value)


@pytest.mark.parametrize("indent", [None, 1])
def test_array_of_many_pieces(indent):
    """Rows that lie across the pieces of a file are read whole, escaped or not."""
    for ascii_only in (True, False):
        content = json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only).encode()

        assert ROWS == [row.value for row in read(content)]


def test_object_of_many_pieces():
    """The rows of an object stand under a known name, wherever that is."""
    content = json.dumps({"version": [1], "data": ROWS, "end": {}}).encode()
    rows = read(content)

    assert ROWS == [row.value for row in rows]
    assert "a.json[899]" == rows[-1].source


def test_rows_come_before_the_file_is_read():
    """Memory holds a piece of the file, not the file."""
    stream = io.BytesIO(json.dumps(ROWS).encode())
    next(stream_document(stream, "a.json").rows)

    assert 0 < stream.tell() < len(stream.getvalue())


def test_what_other_parsers_lose():
    """NaN, lone surrogates and items that are no objects come through."""
    nan, half, number = read(b'\xef\xbb\xbf[{"a": NaN}, {"a": "\\ud800"}, 7]')

    assert nan.value["a"] != nan.value["a"]
    assert {"a": "\ud800"} == half.value
    assert isinstance(number.value, BadRow)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'[{"a": 1},\n{"a": 2}', "a.json:2: not JSON (Expecting ',')"),
        (b'[{"a": 1},\n{"a": ', "a.json:2: not JSON (Expecting value)"),
        (b'[{"a": 1},\n{"a": secret}]', "a.json:2: not JSON (Expecting value)"),
        (b"[{}]\n[{}]", "a.json:2: not JSON (Extra data)"),
        (b'{"a": 1}', "a.json:1: one long object without rows in data or rows or examples"),
        (b'{"data": [{}], "rows": [{}]}', "a.json:1: both data and rows hold rows"),
        (b'[{"a": "\xff"}]', "a.json: not UTF-8 at byte offset 8"),
        (b"[" * 100_000, "a.json:1: not JSON that can be read (nested too deeply)"),
    ],
)
def test_broken_documents(content, found):
    """What breaks is named by line, without a word of the text."""
    assert refuse(content).startswith(f"{found}. ")


def test_wrong_byte_in_a_later_piece():
    """The offset of a wrong byte counts from the start of the file."""
    content = json.dumps(ROWS, ensure_ascii=False).encode()
    place = content.index(b"ask", len(content) - 20_000)
    wrong = content[:place] + b"\xff" + content[place + 1 :]

    assert f"not UTF-8 at byte offset {place}. " in refuse(wrong)
