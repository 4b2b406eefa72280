"""`run --until-decided` as its user meets it, killed on the way and not."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.command import COMMAND, ROOT, said, specmeasure

pytestmark = pytest.mark.slow
HOPELESS = (  # no draft decodes fifty times as fast: NO_GO at the first look
    *("run", "prompts/", "--until-decided", "--max-prompts", "40", "--max-new-tokens", "12"),
    *("--k", "2", "--threads", "1", "--min-prompts", "8", "--min-speedup", "50"),
)


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """A run that ends at its first look, asked to be quiet and to print JSON."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    return folder, specmeasure(*HOPELESS, "--quiet", "--json", "--check", "--out", str(folder))


def keys(folder: Path) -> list[tuple[object, ...]]:
    rows = pq.read_table(folder / "trials.parquet").to_pylist()
    return [
        tuple(row[name] for name in ("prompt_id", "turn", "repeat", "arm", "ids_hash"))
        for row in rows
    ]


def test_it_ends_at_the_first_look(decided):
    """The looks stand in the manifest; what is recorded is the first of them."""
    folder, done = decided
    manifest = json.loads((folder / "manifest.json").read_text())
    first, *_, last = manifest["looks"]

    assert 10 == done.returncode, said(done)
    assert (8, 40) == (first["num_prompts"], last["num_prompts"])
    assert manifest["num_planned_trials"] == last["num_trials"]
    assert first["num_trials"] == len(keys(folder))
    assert 2 < len({str(key[0]).partition("-")[0] for key in keys(folder)})  # files are mixed


def test_json_says_at_which_look(decided):
    """Standard output is one document; quiet, standard error holds warnings alone."""
    _, done = decided
    document = json.loads(done.stdout)
    lines = done.stderr.decode().splitlines()

    assert 1 == document["estimates"]["stopping"]["look"]
    assert "NO_GO" == document["decision"]["verdict"]
    assert all(line.startswith("warning: ") for line in lines), lines


def test_a_pipe_gets_no_control_codes(decided):
    """Neither the result nor a list of trials nor a walk through one answer has any."""
    folder, _ = decided
    prompt_id = str(keys(folder)[0][0])
    shown = [
        specmeasure("brief", str(folder)),
        specmeasure("show", str(folder), "--arm", "draft k=2"),
        specmeasure("show", str(folder), "--prompt", prompt_id),
    ]

    assert [0, 0, 0] == [done.returncode for done in shown]
    assert [] == [said(done)[:99] for done in shown if "\x1b" in said(done)]
    assert "baseline" not in shown[1].stdout.decode()


def test_killed_and_resumed_it_ends_alike(decided, tmp_path: Path):
    """kill -9 before the look; --resume ends with the same trials at the same look."""
    whole, _ = decided
    process = subprocess.Popen(
        [COMMAND, *HOPELESS, "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = tmp_path / "journal.jsonl"
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > 5:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.01)
    done = specmeasure("run", "--resume", str(tmp_path), "--check")

    assert -signal.SIGKILL == process.returncode
    assert 10 == done.returncode, said(done)
    assert "look 1 of 5, 8 prompts: NO_GO, the run ends here" in said(done)
    assert keys(whole) == keys(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "prompts/", "--max-prompts", "9"), "--max-prompts is for --until-decided"),
        (
            ("run", "prompts/", "--until-decided", "--max-prompts", "9", "--limit", "9"),
            "leave out --limit",
        ),
        (("run", "--resume", "x", "--until-decided"), "leave out --until-decided"),
        (("run", "--plan", "x", "--max-prompts", "9"), "leave out --max-prompts"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: tuple[str, ...], message: str):
    """Exit code 2, and what to do."""
    done = specmeasure(*arguments)

    assert 2 == done.returncode, said(done)
    assert message in " ".join(said(done).split())
