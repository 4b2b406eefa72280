import io

import pytest

from specmeasure.corpus.formats import rows_of
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import Row
from specmeasure.corpus.sources import Source
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions


def read(content: str | bytes, format_: str = "csv", **options: str) -> tuple[str, list[Row]]:
    raw = content.encode() if isinstance(content, str) else content
    chosen = CorpusOptions(format=format_, **options)
    with rows_of(Source(), chosen, io.BytesIO(raw)) as stream:
        return stream.format, list(stream.rows)


def values(content: str, format_: str = "csv", **options: str) -> list[object]:
    return [row.value for row in read(content, format_, **options)[1]]


def refuse(content: str | bytes, format_: str = "csv") -> str:
    with pytest.raises(UnreadableCorpus) as caught:
        read(content, format_)
    return str(caught.value)


def found_in(value: object) -> str | None:
    return value.found if isinstance(value, BadRow) else None


def test_header_names_the_cells():
    """A known column name makes the first record a header."""
    assert [{"id": "1", "Prompt": "hi"}] == values("id,Prompt\n1,hi\n")


def test_quoted_cells_hold_anything():
    """Separators, quotes and newlines stand in quoted cells; a row's place is its first line."""
    name, rows = read('prompt,n\r\n"a, ""b""\r\nc",1\r\n\r\nd,2\r\n')

    assert "csv" == name
    assert [{"prompt": 'a, "b"\r\nc', "n": "1"}, {"prompt": "d", "n": "2"}] == [
        row.value for row in rows
    ]
    assert ["stdin:2", "stdin:5"] == [row.source for row in rows]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separator_is_counted(separator):
    """The separator of a csv is the one its header uses most."""
    content = f"question{separator}answer\nhi, you; there{separator}x\n".replace(
        "hi, you; there", '"hi, you; there"'
    )

    assert [{"question": "hi, you; there", "answer": "x"}] == values(content)


def test_table_without_header():
    """Where the first record is data, columns are numbered and nothing is lost."""
    name, rows = read("How many are 2 and 3?\t5\nAnd 4?\t4\n", "tsv")

    assert "tsv without header" == name
    assert [{"1": "How many are 2 and 3?", "2": "5"}, {"1": "And 4?", "2": "4"}] == [
        row.value for row in rows
    ]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("what I ask,b!\nhi,x\n", {"field": "what I ask"}),
        ("what I ask,b!\nhi,x\n", {"category_field": "b!"}),
        ("log!,n?\nhi,x\n", {"response_field": "log!.choices[0].text"}),
        ("Timestamp,Log Type,Request tokens\n1,a,2\n", {}),
    ],
)
def test_header_by_options_or_by_its_looks(content, options):
    """A header is also what the user names, or cells that all look like names."""
    assert "csv" == read(content, **options)[0]


@pytest.mark.parametrize("first", ["hello", "1,2", "a,a", "Write a poem about me,yes"])
def test_data_that_is_no_header(first):
    """A single word, numbers, repeated or long cells name nothing."""
    assert "csv without header" == read(f"{first}\n")[0]


def test_unnamed_column_is_numbered():
    """An index column without a name, as pandas writes it, gets its number."""
    assert [{"1": "0", "prompt": "hi"}] == values(",prompt\n0,hi\n")


def test_columns_of_one_name():
    """Two columns of one name would hide each other."""
    assert refuse("prompt,prompt\na,b\n").startswith("stdin:1: two columns have the same name.")


def test_rows_of_another_width():
    """A row with more or fewer cells is bad; those after it are read."""
    found = [found_in(value) for value in values("prompt,n\na,1\nsecret\nb,2,3\nc,4\n")]
    first = "cells where the first row has 2"

    assert [None, f"a row of 1 {first}", f"a row of 3 {first}", None] == found


def test_quote_that_swallows_the_file():
    """A quote that is never closed is one error at the row where it opens."""
    message = refuse('prompt,n\na,1\nb,"2\nc,3\nd,4\n')

    assert message.startswith("stdin:3: a quoted cell of the row that starts here is never closed.")


def test_quote_that_is_closed_at_the_end_of_the_file():
    """A last line without a newline is whole."""
    assert [{"prompt": "b", "n": "2"}] == values('prompt,n\nb,"2"')


def test_cell_longer_than_the_csv_modules_limit():
    """Prompts longer than 128 KiB are prompts."""
    text = "long " * 100_000

    assert [{"prompt": text}] == values(f"prompt\n{text}\n")


def test_quotes_in_a_tsv_are_text():
    """Tab-separated text often uses quotes as what they are."""
    content = 'prompt\tn\n"Go," he said\t1\nsay "no\t2\n"\t3\n'

    assert ['"Go," he said', 'say "no', '"'] == [row["prompt"] for row in values(content, "tsv")]


def test_quotes_in_a_tsv_enclose_cells():
    """A tsv that is quoted like a csv throughout is read like one."""
    assert [{"prompt": "a\tb\nc", "n": "1"}] == values('prompt\tn\n"a\tb\nc"\t1\n', "tsv")


def test_carriage_returns_alone_end_no_line():
    """Lines that end in a carriage return alone are not run together."""
    assert ["a carriage return in an unquoted cell"] == [
        found_in(value) for value in values("prompt,n\ra,1\rb,2")
    ]


def test_byte_order_mark_before_the_header():
    """A byte order mark, as Excel writes it, is no part of the first name."""
    assert [{"prompt": "hi"}] == values("\ufeffprompt\nhi\n")


def test_encoding_and_nul_are_refused():
    """The first wrong byte is named by its offset in the file."""
    assert refuse(b"prompt\nok\ncaf\xe9\n").startswith("stdin: not UTF-8 at byte offset 13.")
    assert refuse(b"prompt\nok\na\0b\n").startswith("stdin: a NUL byte at byte offset 11:")


@pytest.mark.parametrize("content", ["", "\n\n", "prompt\n"])
def test_table_without_rows(content):
    """A header alone, or nothing, gives no rows."""
    assert [] == values(content)


def test_table_by_its_name(tmp_path):
    """Files are tables by suffix; objects on lines stay json lines."""
    for name, content in (("a.csv", "prompt\nhi\n"), ("b.csv", '{"prompt": "hi"}\n')):
        (tmp_path / name).write_text(content)
        with rows_of(Source(path=tmp_path / name), CorpusOptions()) as stream:
            assert {"a.csv": "csv", "b.csv": "jsonl"}[name] == stream.format
            assert {"prompt": "hi"} == next(stream.rows).value
