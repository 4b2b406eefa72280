"""Any bytes under any name: rows, counted drops or one clear error, and never anything else."""

import bz2
import gzip
import io
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specmeasure.corpus import load_corpus
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Corpus, CorpusOptions

PLANTED = "hunter2"
LENIENT = CorpusOptions(skip_bad_lines=True)
SUFFIXES = [".jsonl", ".json", ".ndjson", ".txt", ".csv", ".tsv", ".parquet", ".arrow", ".log", ""]
PACKERS = [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]

fuzz = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def write_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["one", "two"]}), sink)
    return sink.getvalue()


def load_or_refuse(content: bytes, options: CorpusOptions = LENIENT, suffix: str = "") -> object:
    """The corpus of one file or the message with which it is refused."""
    path = Path(f"fuzz{suffix}")
    path.write_bytes(content)
    try:
        return load_corpus([str(path)], options)
    except UnreadableCorpus as error:
        message = str(error)
    assert PLANTED not in message
    assert len(message) < 2000
    return message


def count(corpus: object) -> int:
    """Rows that were kept or counted as dropped."""
    assert isinstance(corpus, Corpus)
    return corpus.num_prompts + sum(row.num_rows for row in corpus.dropped)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
known_fields = st.sampled_from(
    [
        *("prompt", "messages", "turns", "conversations", "text", "question", "instruction"),
        *("input", "output", "body", "category", "id", "tools", "function", "payloads", "system"),
        *("temperature", "max_tokens", "stop", "reference", "response", "role", "content", "1"),
    ]
)
rows = st.dictionaries(known_fields, json_values | st.text(min_size=1), max_size=5) | json_values
messages = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool"]) | json_values,
        "content": st.text(max_size=8) | json_values,
        "tool_calls": json_values,
    },
)
chats = st.fixed_dictionaries({"messages": st.lists(messages | json_values, max_size=4)})


@fuzz
@given(content=st.binary(max_size=400), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes(content, suffix):
    """Bytes that mean nothing are refused, or read as what little text they hold."""
    load_or_refuse(content, suffix=suffix)


@fuzz
@given(text=st.text(max_size=200), suffix=st.sampled_from(SUFFIXES))
def test_any_text(text, suffix):
    """Text that looks like nothing is still prompts or an error."""
    load_or_refuse(text.encode(errors="surrogatepass"), suffix=suffix)


@fuzz
@given(values=st.lists(rows | chats, min_size=1, max_size=5), suffix=st.sampled_from(SUFFIXES[:4]))
def test_any_json_lines(values, suffix):
    """Whatever stands on the lines, each is a prompt, a duplicate or a counted drop."""
    lines = "".join(json.dumps(value) + "\n" for value in values)

    loaded = load_or_refuse(lines.encode(), suffix=suffix)

    assert isinstance(loaded, str | Corpus)


@fuzz
@given(values=st.lists(rows | chats, max_size=4), field=st.sampled_from(["data", "rows", "x"]))
def test_any_json_document(values, field):
    """A document of any shape is rows or an error."""
    load_or_refuse(json.dumps(values, indent=1).encode(), suffix=".json")
    load_or_refuse(json.dumps({field: values}).encode(), suffix=".json")


@fuzz
@given(
    cells=st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=3), max_size=5),
    separator=st.sampled_from([",", ";", "\t"]),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_any_table(cells, separator, suffix):
    """Cells with quotes and newlines where none should be are rows or an error."""
    text = "\n".join(separator.join(row) for row in cells)
    load_or_refuse(("prompt,n\n" + text).encode(errors="replace"), suffix=suffix)


@fuzz
@given(
    packer=st.sampled_from(PACKERS),
    content=st.binary(max_size=200),
    flips=st.lists(st.integers(0, 300), max_size=3),
    num_cut=st.integers(0, 40),
)
def test_any_damage_to_compressed_data(packer, content, flips, num_cut):
    """Compressed data with wrong or missing bytes are an error, or none of it mattered."""
    packed = bytearray(packer(content))
    for place in flips:
        packed[place % len(packed)] ^= 0x55
    load_or_refuse(bytes(packed[: len(packed) - num_cut]), suffix=".jsonl.gz")


@fuzz
@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=3),
    num_cut=st.integers(0, 100),
)
def test_any_damage_to_a_table(flips, num_cut):
    """A parquet file with wrong or missing bytes is an error, or other rows."""
    packed = bytearray(write_parquet())
    for place, change in flips:
        packed[place % len(packed)] ^= change
    load_or_refuse(bytes(packed[: len(packed) - num_cut]), suffix=".parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\r\n\r\n", b" " * 3_000_000])
def test_empty_files(content, suffix):
    """A file without a row is refused under every name."""
    assert isinstance(load_or_refuse(content, suffix=suffix), str)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt", ""])
@pytest.mark.parametrize("opening", ["[", "{", '{"a":', '[{"data":[', '{"data":[{"a":'])
def test_deep_nesting(opening, suffix):
    """A hundred thousand brackets are a bad row or an error, not a crash."""
    load_or_refuse(f'{{"prompt": "{PLANTED}"}}\n'.encode() + opening.encode() * 100_000)
    load_or_refuse(opening.encode() * 100_000, suffix=suffix)


def test_lone_surrogates():
    """Half a character is no text that any tokenizer takes: the row is dropped, counted."""
    lines = b'{"prompt": "\\ud800"}\n{"prompt": "whole"}\n'

    loaded = load_or_refuse(lines, suffix=".jsonl")

    assert isinstance(loaded, Corpus)
    assert (1, 2) == (loaded.num_prompts, count(loaded))


def test_mixed_formats_in_one_file():
    """Rows of several formats, text and rubbish in one file: every line is accounted for."""
    lines = [
        '{"prompt": "one"}',
        '{"messages": [{"role": "user", "content": "two"}]}',
        '{"instruction": "three", "input": "", "output": "x"}',
        "plain text",
        "a,b,c",
        "[1, 2]",
        '{"prompt": 7}',
        '{"prompt": NaN}',
        "\x00\x01",
    ]

    loaded = load_or_refuse("\r\n".join(lines[:-1]).encode(), suffix=".jsonl")

    assert isinstance(loaded, Corpus)
    assert (3, 8) == (loaded.num_prompts, count(loaded))
    assert "binary" in str(load_or_refuse("\r\n".join(lines).encode(), suffix=".jsonl"))


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_nul_bytes_in_json(suffix):
    """NUL bytes are binary, wherever they stand in the first megabyte."""
    message = load_or_refuse(b'{"prompt": "one"}\n{"prompt": "\0"}\n', suffix=suffix)

    assert "a NUL byte at byte offset 30" in str(message)


def test_link_that_points_at_itself():
    """A link that leads nowhere is left out of a folder, and refused by name."""
    Path("in").mkdir()
    Path("in/a.txt").write_text("hello")
    Path("in/b.txt").symlink_to("b.txt")
    Path("in/c").symlink_to("../in")

    left_out = {row.reason: row.places for row in load_corpus(["in"]).left_out}

    assert {
        "a link to a folder is not followed": ("in/c",),
        "not a regular file": ("in/b.txt",),
    } == left_out
    with pytest.raises(UnreadableCorpus, match=r"in/b.txt: (no such file|cannot be read)"):
        load_corpus(["in/b.txt"])


@pytest.mark.parametrize("word", ["in", "in/prompts.jsonl"])
def test_file_that_cannot_be_read(word):
    """A file whose bytes the system refuses, even to root, is one error that names it."""
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("no /proc/self/mem here")
    Path("in").mkdir()
    Path("in/prompts.jsonl").symlink_to(memory)

    with pytest.raises(UnreadableCorpus) as caught:
        load_corpus([word])

    expected = (
        "in/prompts.jsonl: cannot be read (Input/output error). Check the file and its permissions."
    )

    assert expected == str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt", ".csv"])
def test_line_of_70_mib(suffix):
    """A line longer than any prompt is dropped and the next one read."""
    long_line = json.dumps({"prompt": "x" * (70 * 2**20)}).encode()
    content = b'{"prompt": "one"}\n' + long_line + b'\n{"prompt": "two"}\n'
    if suffix in {".txt", ".csv"}:
        content = b"prompt\n" + b"x" * (70 * 2**20) + b"\ntwo\n"

    loaded = load_or_refuse(content, suffix=suffix)

    if suffix == ".csv":
        assert "fuzz.csv:2: a line longer than 64 MiB" in str(loaded)
    else:
        assert (2, 3) == (loaded.num_prompts, count(loaded))
        assert "longer than 64 MiB" in loaded.dropped[0].reason


@pytest.mark.slow
@pytest.mark.parametrize("opening", ["[", '{"data": ['])
@pytest.mark.parametrize("suffix", [".json", ".log"])
def test_document_too_long_to_be_read_whole(opening, suffix):
    """A long document gives the rows that a short one would, on one line or on many."""
    row = json.dumps({"prompt": "x" * 2**20})
    closing = "]" if opening == "[" else "]}"

    for separator in (",", ",\n"):
        content = opening + separator.join([row] * 70) + closing
        loaded = load_or_refuse(content.encode(), suffix=suffix)

        assert (1, 70) == (loaded.num_prompts, count(loaded))


@pytest.mark.slow
def test_line_of_50_mb():
    """A long line that is whole is a prompt like any other."""
    content = json.dumps({"prompt": "x" * 50_000_000}).encode()

    for suffix in (".jsonl", ".json"):
        assert 1 == load_or_refuse(content, suffix=suffix).num_prompts


@pytest.mark.slow
def test_folder_of_100_000_files():
    """Very many files are listed, not hung upon."""
    Path("in").mkdir()
    for number in range(100_000):
        Path(f"in/{number}.md").touch()
    Path("in/a.txt").write_text("hello")

    corpus = load_corpus(["in"])

    assert (1, [100_000]) == (corpus.num_prompts, [row.num_rows for row in corpus.left_out])
