import datetime as dt
import decimal
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specmeasure.corpus.formats import rows_of
from specmeasure.corpus.rows import Row
from specmeasure.corpus.sources import Source
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions

CHATS = [
    {"id": number, "messages": [{"role": "user", "content": f"ask {number}"}], "tag": None}
    for number in range(700)
]


def pack(table: pa.Table, kind: str) -> bytes:
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with new(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def read(content: bytes) -> list[Row]:
    with rows_of(Source(), CorpusOptions(), io.BytesIO(content)) as stream:
        return list(stream.rows)


@pytest.fixture(params=["parquet", "arrow", "arrow stream"])
def kind(request):
    return request.param


def test_rows_of_a_table(kind, tmp_path):
    """Nested columns become dicts and lists; places are indices over all batches."""
    path = tmp_path / "a.bin"
    path.write_bytes(pack(pa.Table.from_pylist(CHATS), kind))

    with rows_of(Source(path=path), CorpusOptions()) as stream:
        rows = list(stream.rows)

    assert kind == stream.format
    assert CHATS == [row.value for row in rows]
    assert f"{path}[699]" == rows[-1].source


def test_table_from_stdin_or_compressed(kind):
    """What cannot be sought in is copied first; stdin stays open."""
    content = pack(pa.Table.from_pylist(CHATS), kind)

    assert CHATS == [row.value for row in read(content)]
    assert CHATS == [row.value for row in read(gzip.compress(content))]


def test_values_that_json_does_not_know(kind):
    """Dates become text, decimals numbers, binary its text or null, maps objects."""
    day = dt.date(2024, 2, 29)
    table = pa.table(
        {
            "day": pa.array([day]),
            "cost": pa.array([decimal.Decimal("1.50")]),
            "text": pa.array(["hé".encode()]),
            "image": pa.array([b"\xff\xd8"]),
            "tags": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "kind": pa.array(["x"]).dictionary_encode(),
        }
    )
    expected = {"day": "2024-02-29", "cost": 1.5, "text": "hé", "image": None}

    assert [{**expected, "tags": {"a": 1}, "kind": "x"}] == [
        row.value for row in read(pack(table, kind))
    ]


def test_columns_of_one_name(kind):
    """Two columns of one name would hide each other."""
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])

    with pytest.raises(UnreadableCorpus, match="two columns of one name"):
        read(pack(table, kind))


def test_damaged_table(kind):
    """A table that is cut off is one error without a word of its values."""
    content = pack(pa.Table.from_pylist(CHATS), kind)

    with pytest.raises(UnreadableCorpus) as caught:
        read(content[: len(content) // 2])

    assert str(caught.value).startswith("stdin: the ")
    assert "ask" not in str(caught.value)


def test_column_that_is_not_utf8(kind):
    """Text that is no UTF-8 inside a table is refused."""
    wrong = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())

    with pytest.raises(UnreadableCorpus, match="UTF-8"):
        read(pack(pa.table({"prompt": wrong}), kind))


def test_table_without_rows(kind):
    """An empty table gives no rows."""
    assert [] == read(pack(pa.Table.from_pylist(CHATS).slice(0, 0), kind))
