import gzip
import json

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions


@pytest.fixture(autouse=True)
def _inside_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def save(tmp_path):
    """Write a file from bytes, text, or rows (as json lines); gzipped where the name says so."""

    def write(name, content):
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        raw = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)

    return write


@pytest.fixture
def load_rows(save):
    """The corpus of one json lines file that holds these rows."""

    def load(*rows, **options):
        save("rows.jsonl", list(rows))
        return load_corpus(["rows.jsonl"], CorpusOptions(**options))

    return load


@pytest.fixture
def refusal():
    """The message with which the sources are refused."""

    def message(*sources, **options):
        with pytest.raises(UnreadableCorpus) as caught:
            load_corpus(sources, CorpusOptions(**options))
        return str(caught.value)

    return message


@pytest.fixture
def refuse_row(save, refusal):
    """The message with which a file of one such row is refused."""

    def message(row, **options):
        save("rows.jsonl", [row])
        return refusal("rows.jsonl", **options)

    return message
