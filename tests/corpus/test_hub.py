import importlib
import json
import os
import subprocess
import sys

import pytest

from specmeasure.corpus.formats import rows_of
from specmeasure.corpus.rows import Row
from specmeasure.corpus.sources import find_sources
from specmeasure.errors import UnreadableCorpus, UsageError
from specmeasure.records.corpus import CorpusOptions

datasets = pytest.importorskip("datasets", reason="hf: sources need the package datasets")

ROWS = [{"prompt": f"ask {number}", "n": number} for number in range(3)]


def read(word: str) -> list[Row]:
    source = find_sources([word]).sources[0]
    with rows_of(source, CorpusOptions()) as stream:
        assert stream.revision is None
        return list(stream.rows)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data_files(in_folder):
    """A folder of json lines, one file a split."""
    for split in ("train", "test"):
        lines = "".join(json.dumps(row) + "\n" for row in ROWS)
        (in_folder / "chats").mkdir(exist_ok=True)
        (in_folder / "chats" / f"{split}.jsonl").write_text(lines)


@pytest.mark.usefixtures("data_files")
def test_split_of_a_folder_of_data_files():
    """One split is read; places name the dataset and the index."""
    rows = read("hf:./chats:test")

    assert ROWS == [row.value for row in rows]
    assert "hf:./chats:test[2]" == rows[-1].source


@pytest.mark.usefixtures("data_files")
def test_several_splits():
    """Which split is meant is never guessed."""
    with pytest.raises(UsageError, match=r"several splits. Add :train or :test"):
        read("hf:./chats")


@pytest.mark.usefixtures("data_files")
def test_unknown_split():
    """A split that is not there says which are."""
    with pytest.raises(UsageError, match=r"no split dev. It has: train, test."):
        read("hf:./chats:dev")


@pytest.mark.parametrize("word", ["hf:./saved", "hf:./saved:train"])
def test_saved_dataset(in_folder, word):
    """What save_to_disk wrote is read back; without splits any name is its own."""
    datasets.Dataset.from_list(ROWS).save_to_disk(str(in_folder / "saved"))

    assert ROWS == [row.value for row in read(word)]


def test_saved_splits(in_folder):
    """A saved dataset with one split needs no name for it."""
    splits = datasets.DatasetDict({"dev": datasets.Dataset.from_list(ROWS)})
    splits.save_to_disk(str(in_folder / "saved"))

    assert ROWS == [row.value for row in read("hf:./saved")]


def test_parquet_folder(in_folder):
    """Data files may be parquet, with nested columns."""
    chats = [{"messages": [{"role": "user", "content": "hi"}]}]
    (in_folder / "chats").mkdir()
    datasets.Dataset.from_list(chats).to_parquet(str(in_folder / "chats" / "train.parquet"))

    assert chats == [row.value for row in read("hf:./chats:train")]


def test_folder_without_data(in_folder):
    """A folder that holds no dataset is one error."""
    (in_folder / "chats").mkdir()

    with pytest.raises(UnreadableCorpus, match="cannot be read as a dataset of data files"):
        read("hf:./chats:train")


@pytest.mark.usefixtures("data_files")
def test_broken_data_file_shows_no_row(in_folder):
    """What the library says about a row it cannot read stays out of the message."""
    (in_folder / "chats/test.jsonl").write_text('{"prompt": secret}\n')

    with pytest.raises(UnreadableCorpus) as caught:
        read("hf:./chats:test")

    assert "secret" not in str(caught.value)


def test_hub_without_a_network():
    """Offline, a dataset of the hub is one line that names the remedy, and nothing else."""
    program = (
        "from specmeasure.corpus.hub import read_dataset\n"
        "from specmeasure.corpus.dataset_names import parse_dataset_name\n"
        "from specmeasure.errors import UsageError\n"
        "try:\n    read_dataset(parse_dataset_name('hf:org/chats:train'))\n"
        "except UsageError as error:\n    print(error)\n"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=offline, capture_output=True, text=True, check=True
    )

    assert ran.stdout.startswith("hf:org/chats:train: the hub cannot be reached (Offline")
    assert "" == ran.stderr


@pytest.mark.usefixtures("data_files")
def test_missing_package(monkeypatch):
    """Without the package the message says how to install it."""
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(UsageError, match=r'Run pip install "specmeasure\[datasets\]"'):
        read("hf:./chats:train")
    monkeypatch.undo()
    importlib.import_module("datasets")
