import gzip
import io
import json
import pickle

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.corpus.json_rows import read_json_lines
from specmeasure.records.corpus import CorpusOptions

REPAIR = "Write one JSON object on each line, or one array of objects"


def load_texts(name: str) -> list[str | None]:
    return [prompt.text for prompt in load_corpus([name]).prompts]


def load_sources(name: str) -> list[str]:
    return [prompt.source for prompt in load_corpus([name]).prompts]


def load_format(name: str) -> str:
    return load_corpus([name]).files[0].format


def test_json_lines_skip_blank_lines_and_count_them(save):
    """Blank lines and CR LF mean nothing, but lines keep their numbers."""
    save("a.jsonl", '\r\n{"prompt": "one"}\r\n\n{"prompt": "two"}')

    assert ["one", "two"] == load_texts("a.jsonl")
    assert ["a.jsonl:2", "a.jsonl:4"] == load_sources("a.jsonl")
    assert "jsonl, field prompt" == load_format("a.jsonl")


def test_json_lines_are_streamed():
    """A row is there as soon as its line is: the rest of the file is not read yet."""
    stream = io.BytesIO(b'{"prompt": "one"}\n{"prompt": "two"}\n')

    assert {"prompt": "one"} == next(read_json_lines(stream, "a.jsonl")).value
    assert b'{"prompt": "two"}\n' == stream.readline()


def test_json_lines_end_at_newlines_only(save):
    """A line separator inside a string, legal in JSON, does not end a line."""
    save("a.jsonl", '{"prompt": "one\u2028two\u0085"}\n')

    assert ["one\u2028two\u0085"] == load_texts("a.jsonl")


@pytest.mark.parametrize("name", ["a.json", "a.txt", "a.log", "a.jsonl.gz"])
def test_json_lines_under_any_name(save, name):
    """Content decides: objects on lines are json lines."""
    save(name, [{"prompt": "one"}, {"prompt": "two"}])

    assert ["one", "two"] == load_texts(name)
    assert "jsonl, field prompt" == load_format(name)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.log"])
def test_json_array(save, name, indent):
    """An array of objects is read on one line or on many; places are indices from 0."""
    save(name, json.dumps([{"prompt": "one"}, {"prompt": "two"}], indent=indent))

    assert ["one", "two"] == load_texts(name)
    assert [f"{name}[0]", f"{name}[1]"] == load_sources(name)
    assert "json array, field prompt" == load_format(name)


def test_single_pretty_object(save):
    """A file that is one object over several lines is one row."""
    save("a.json", json.dumps({"prompt": "one"}, indent=2))

    assert ["one"] == load_texts("a.json")
    assert "json object, field prompt" == load_format("a.json")


def test_text_lines(save):
    """Without blank lines between them, each line is a prompt with its indentation."""
    save("a.txt", "one\r\n  two \nthree\n\n")

    assert ["one", "  two ", "three"] == load_texts("a.txt")
    assert ["a.txt:1", "a.txt:2", "a.txt:3"] == load_sources("a.txt")
    assert "text, one prompt per line" == load_format("a.txt")


def test_text_paragraphs(save):
    """Blank lines separate prompts that keep their newlines; the place is the first line."""
    save("a.txt", "\n  def f():\n    pass\n \t\n\ntwo\r\nlines\n")

    assert ["  def f():\n    pass", "two\nlines"] == load_texts("a.txt")
    assert ["a.txt:2", "a.txt:6"] == load_sources("a.txt")
    assert "text, one prompt per paragraph" == load_format("a.txt")


@pytest.mark.parametrize("line", ["[INST] hi [/INST]", "{name}, hello", "[1, 2, 3]", '"quoted"'])
def test_text_that_starts_like_json(save, line):
    """A text file whose first prompt opens a bracket is still text."""
    save("a.txt", f"{line}\nsecond\n")

    assert [line, "second"] == load_texts("a.txt")


@pytest.mark.parametrize("content", ['{"prompt": "hi"}\n', '[{"prompt": "hi"}]', "hi\n"])
def test_byte_order_mark_is_accepted(save, content):
    """A UTF-8 byte order mark is no part of the first prompt."""
    save("a.txt", "\ufeff" + content)

    assert ["hi"] == load_texts("a.txt")


def test_wrong_line_is_one_error_with_place(save, refusal):
    """The first line that is not JSON is named by file, line and column."""
    save("a.jsonl", '{"prompt": "one"}\n{"prompt": secret}\n{"prompt": ')
    expected = (
        f"a.jsonl:2: not JSON (Expecting value, column 12). {REPAIR}, or pass --skip-bad-lines."
    )

    assert expected == refusal("a.jsonl")


def test_wrong_lines_can_be_skipped(save):
    """With skip_bad_lines each bad line is listed with its reason."""
    save("a.jsonl", b'oops\n{"prompt": "one"}\n[1]\n"s"\n{"prompt": "\xff"}\n' + b"[" * 100_000)

    corpus = load_corpus(["a.jsonl"], CorpusOptions(skip_bad_lines=True))

    assert ["one"] == [prompt.text for prompt in corpus.prompts]
    assert [
        ("a.jsonl:1", "not JSON (Expecting value, column 1)"),
        ("a.jsonl:3", "a list where an object is expected"),
        ("a.jsonl:4", "a string where an object is expected"),
        ("a.jsonl:5", "not UTF-8 at byte offset 43"),
        ("a.jsonl:6", "not JSON that can be read (nested too deeply)"),
    ] == [(place, row.reason) for row in corpus.dropped for place in row.places]


def test_wrong_item_of_an_array(save, refusal):
    """An item that is not an object is named by its index."""
    save("a.json", '[{"prompt": "one"}, 7]')
    expected = (
        f"a.json[1]: a number where an object is expected. {REPAIR}, or pass --skip-bad-lines."
    )

    assert expected == refusal("a.json")


@pytest.mark.parametrize("content", ['[\n{"prompt": "one"},\n}', '{\n"prompt": "one",\n}'])
def test_broken_document(save, refusal, content):
    """A document that cannot be parsed is refused at the line where it breaks."""
    save("a.json", content)

    message = refusal("a.json", skip_bad_lines=True)

    assert message.startswith("a.json:3: not JSON (")
    assert message.endswith(f"{REPAIR}.")


def test_lines_of_arrays_are_bad_lines(save, refusal):
    """Several arrays on lines are json lines of the wrong type."""
    save("a.jsonl", "[1]\n[2]\n")

    assert refusal("a.jsonl").startswith("a.jsonl:1: a list where an object is expected.")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.jsonl", b'{"prompt": "ab"}\n{"prompt": "\xe9"}\n', ":2: not UTF-8 at byte offset 29"),
        ("a.json", b'[\n{"prompt": "\xe9"}]', ": not UTF-8 at byte offset 14"),
        ("a.txt", b"caf\xe9\n", ": not UTF-8 at byte offset 3"),
        ("a.txt.gz", b"\xef\xbb\xbfcaf\xe9\n", ": not UTF-8 at byte offset 6"),
    ],
)
def test_wrong_encoding_names_the_byte(save, refusal, name, content, found):
    """Only UTF-8 is read; the first wrong byte is named by its offset in the unzipped file."""
    save(name, content)

    assert refusal(name).startswith(f"{name}{found}. Convert it, e.g. iconv -f LATIN1 -t UTF-8")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (pickle.dumps({"prompt": "x"}), "a pickle, which could run code when loaded"),
        (b"PK\x03\x04\x14", "a zip archive"),
        (pickle.dumps({"prompt": "x"}, protocol=2), "a pickle, which could run code when loaded"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"\x93NUMPY\x01", "a numpy array"),
        (b"%PDF-1.7", "a PDF"),
        ("hello".encode("utf-32"), "UTF-32 text"),
        ("hello".encode("utf-16"), "UTF-16 text"),
        (gzip.compress(gzip.compress(b"hello", mtime=0), mtime=0), "gzip inside a compressed file"),
    ],
)
def test_foreign_bytes_are_refused(save, refusal, content, found):
    """Files that are no text are refused by their first bytes, whatever their name."""
    save("a.jsonl", content)

    assert refusal("a.jsonl").startswith(f"a.jsonl: this is {found}. ")


@pytest.mark.parametrize("field", ["data", "rows", "examples"])
@pytest.mark.parametrize("indent", [None, 2])
def test_object_that_holds_the_rows(save, field, indent):
    """One list of objects under a known name is the rows, on one line or on many."""
    document = {"version": 1, field: [{"prompt": "one"}, {"prompt": "two"}]}
    save("a.json", json.dumps(document, indent=indent))

    assert ["one", "two"] == load_texts("a.json")
    assert ["a.json[0]", "a.json[1]"] == load_sources("a.json")
    assert load_format("a.json").startswith(f"json object with rows in {field}, ")


def test_rows_field_on_one_of_many_lines_is_a_field(save):
    """Objects on several lines are rows themselves, whatever their fields are called."""
    save("a.jsonl", [{"prompt": "one", "data": [{"x": 1}]}, {"prompt": "two"}])

    assert ["a.jsonl:1", "a.jsonl:2"] == load_sources("a.jsonl")


def test_forced_format(save):
    """The user's word beats what the content looks like."""
    save("a.log", '{"prompt": "one"}\n')
    corpus = load_corpus(["a.log"], CorpusOptions(format="text"))

    assert ['{"prompt": "one"}'] == [prompt.text for prompt in corpus.prompts]


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        ("line", ["one", "two", "three"]),
        ("blank", ["one\ntwo", "three"]),
        ("file", ["one\ntwo\n\nthree"]),
        ("auto", ["one\ntwo", "three"]),
    ],
)
def test_text_split(save, split, texts):
    """The user says where a text's prompts end."""
    save("a.txt", "\ufeffone\r\ntwo\r\n\r\nthree\r\n")
    corpus = load_corpus(["a.txt"], CorpusOptions(text_split=split))

    assert texts == [prompt.text for prompt in corpus.prompts]


def test_nul_byte_far_into_a_text(save, refusal):
    """Binary that starts like text is told where it is none."""
    save("a.txt", b"hello\n" * 200_000 + b"\0")

    assert refusal("a.txt").startswith("a.txt: a NUL byte at byte offset 1200000: this is binary")


def test_nul_bytes_are_refused(save, refusal):
    """Bytes with NUL are binary."""
    save("a.txt", b"hello\0world")

    assert refusal("a.txt").startswith("a.txt: a NUL byte at byte offset 5: this is binary")
