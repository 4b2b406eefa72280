"""`specmeasure heads train` as its user types it."""

import json
import signal
import subprocess

import pytest

from tests.e2e.command import COMMAND, ROOT, specmeasure

WEIGHTS = "medusa_lm_head.safetensors"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """A file of six questions."""
    path = tmp_path_factory.mktemp("corpus") / "prompts.jsonl"
    rows = [{"prompt": f"Book a table for {people} people."} for people in range(2, 8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def arguments(prompts, folder, epochs):
    return (
        *("heads", "train", str(prompts), "--chat", "chat", "--target", "embedded:target"),
        *("--num-heads", "2", "--epochs", str(epochs), "--max-new-tokens", "10"),
        *("--answers-per-step", "2", "--threads", "1", "--out", str(folder)),
    )


def test_the_command_trains_and_says_what_the_heads_know(prompts, tmp_path):
    """A table by head on stdout, progress on stderr, both layouts in the folder."""
    done = specmeasure(*arguments(prompts, tmp_path / "heads", 2))

    assert 0 == done.returncode, done.stderr.decode()
    assert b"2 heads for embedded:target" in done.stdout
    assert b"Held-out prompts" in done.stdout
    assert b"step 6 of 6: loss" in done.stderr
    assert (tmp_path / "heads" / WEIGHTS).is_file()
    assert (tmp_path / "heads" / "vllm" / "model.safetensors").is_file()


def test_a_finished_training_prints_its_record(prompts, tmp_path):
    """--json prints one document, the folder's own, also when asked again."""
    folder = tmp_path / "heads"
    first = specmeasure(*arguments(prompts, folder, 1), "--json", "--quiet")
    again = specmeasure("heads", "train", "--resume", str(folder), "--json")

    assert (0, 0) == (first.returncode, again.returncode)
    assert json.loads((folder / "training.json").read_text()) == json.loads(first.stdout)
    assert first.stdout == again.stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ((), b"no prompts"),
        (("nowhere.jsonl", "--held-out", "1.5"), b"held_out_share"),
        (("--resume", "nowhere", "--epochs", "3"), b"leave out --epochs"),
        (("--resume", "nowhere"), b"no training.json there"),
    ],
)
def test_what_cannot_be_trained_is_a_usage_error(typed, said):
    """Exit code 2 and one clear message, before any model is loaded."""
    refused = specmeasure("heads", "train", *typed)

    assert 2 == refused.returncode
    assert said in b" ".join(refused.stderr.split())


@pytest.mark.slow
def test_kill_9_loses_nothing_that_matters(prompts, tmp_path):
    """Killed while training and gone on with: the weights of a training in one piece."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert 0 == specmeasure(*arguments(prompts, whole, 200), "--quiet").returncode
    with subprocess.Popen(
        [COMMAND, *arguments(prompts, killed, 200)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        next(line for line in process.stderr if line.startswith(b"step 210 of 600"))
        process.kill()
    assert -signal.SIGKILL == process.returncode
    assert (killed / "checkpoint.safetensors").is_file()
    resumed = specmeasure("heads", "train", "--resume", str(killed))

    assert 0 == resumed.returncode, resumed.stderr.decode()
    assert b"going on after step 200" in resumed.stderr
    assert (whole / WEIGHTS).read_bytes() == (killed / WEIGHTS).read_bytes()
