"""Any corpus an engineer has, through the installed command."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.command import said, specmeasure

pytestmark = pytest.mark.slow
PLANTED = "zanzibar7731"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five formats, every prompt, response, system message and stop text with a planted secret."""
    folder = tmp_path_factory.mktemp("mixed")
    ask = [f"I need a table for {n} on day {n}, {PLANTED}." for n in range(1, 26)]
    rows = [
        {
            "id": f"log-{n}",
            "messages": [
                {"role": "system", "content": f"You are {PLANTED}."},
                {"role": "user", "content": text},
                {"role": "assistant", "content": f"Done, {PLANTED}."},
            ],
        }
        for n, text in enumerate(ask[:5])
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    batch = [
        {
            "custom_id": f"batch-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "messages": [{"role": "user", "content": text}],
                "temperature": 0.8,
                "max_tokens": 12,
                "stop": [f"{PLANTED}!"],
            },
        }
        for n, text in enumerate(ask[5:10])
    ]
    with gzip.open(folder / "batch.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, batch)))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "answer"], *[[t, PLANTED] for t in ask[10:15]]])
    (folder / "plain.txt").write_text("\n".join(ask[15:20]))
    columns = {"instruction": ask[20:25], "output": [PLANTED] * 5}
    pq.write_table(pa.table(columns), folder / "alpaca.parquet")
    return folder


@pytest.fixture(scope="module")
def finished(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("runs") / "mixed"
    done = specmeasure(
        *("run", str(mixed), "--max-new-tokens", "12", "--threads", "1", "--out", str(folder))
    )
    assert 0 == done.returncode, said(done)
    return folder, said(done)


def test_five_formats_are_sliced(finished: tuple[Path, str]):
    """A slice for each file and each sampling setting, with its number of prompts."""
    arm = json.loads((finished[0] / "estimates.json").read_text())["arms"][0]
    sizes = {(one["axis"], one["name"]): one["num_prompts"] for one in arm["slices"]}

    assert {5} == {sizes["category", n] for n in ("log", "batch", "table", "plain", "alpaca")}
    assert {"greedy": 20, "temperature 0.8": 5} == {
        name: size for (axis, name), size in sizes.items() if axis == "sampling"
    }


def test_a_run_says_how_files_were_understood(finished: tuple[Path, str]):
    """Format and number of prompts of each, before anything is measured."""
    for said_of_file in (
        "log.jsonl: jsonl, OpenAI chat, 5 prompts",
        "batch.jsonl.gz: jsonl, OpenAI batch, 5 prompts",
        "table.csv: csv, field question, 5 prompts",
        "alpaca.parquet: parquet, field instruction, 5 prompts",
    ):
        assert said_of_file in finished[1]


def test_nothing_says_what_was_asked(finished: tuple[Path, str]):
    """Planted words are in no file of the run, and in nothing that was printed."""
    folder, printed = finished
    shown = [
        said(specmeasure("brief", str(folder), "--json")),
        said(specmeasure("show", str(folder))),
        said(specmeasure("show", str(folder), "--prompt", "log-1")),
    ]
    # parquet pages are compressed: what they hold is read, not grepped
    tables = [str(pq.read_table(path).to_pylist()) for path in folder.glob("*.parquet")]
    files = [path.read_bytes().decode(errors="replace") for path in folder.iterdir()]

    assert [] == [text[:99] for text in (printed, *shown, *tables, *files) if PLANTED in text]


@pytest.mark.parametrize("arguments", [(), ("--tokenizer", "embedded:target"), ("--json",)])
def test_a_look_says_what_was_read(mixed: Path, arguments: tuple[str, ...]):
    """Formats and counts, and none of the words."""
    done = specmeasure("corpus", str(mixed), *arguments)

    assert 0 == done.returncode, said(done)
    assert PLANTED not in said(done)
    assert "batch.jsonl.gz" in said(done)


@pytest.mark.parametrize(
    "content",
    [
        b'{"prompt": "%s"}\n{"prompt": 7}',
        b'{"prompt": "%s"}\n{"prompt": "%s',
        b'{"messages": [{"role": "%s", "content": "%s"}, {"role": "user", "content": 7}]}',
        b'{"body": {"prompt": "%s", "temperature": "%s"}}',
        b'{"%s": 1}',
        b'{"prompt": "%s \xff"}',
        b'{"timestamp": 1, "input_length": 2, "output_length": 3, "hash_ids": ["%s"]}',
    ],
)
def test_an_error_does_not_quote_the_file(tmp_path: Path, content: bytes):
    """One clear line with file and row, whatever is wrong, and none of its values."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content.replace(b"%s", PLANTED.encode()))
    done = specmeasure("run", str(path), "--out", str(tmp_path / "run"))

    assert 2 == done.returncode, said(done)
    assert f"{path}:" in said(done)
    assert "Traceback" not in said(done)
    if content != b'{"%s": 1}':  # names of fields are shown
        assert PLANTED not in said(done)
