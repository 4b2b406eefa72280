"""The product as its user meets it: the installed command, on the embedded pair."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from specmeasure.brief.figures import FIGURE_FILES
from tests.e2e.command import COMMAND, ROOT, installed, said, specmeasure

pytestmark = pytest.mark.slow
SMALL = (
    *("run", "prompts/", "--limit", "6", "--max-new-tokens", "16", "--k", "2,4"),
    *("--threads", "1", "--include-text"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small greedy run with text kept."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    done = installed(*SMALL, "--out", str(folder))
    assert 0 == done.returncode, said(done)
    return folder


def test_run_leaves_a_complete_folder(finished: Path):
    """Manifest, sealed tables, estimates, decision, pages and figures; no journal."""
    files = {path.name for path in finished.iterdir()}
    figures = {name for name in files if name.endswith((".svg", ".png"))}

    assert {
        "manifest.json",
        "sealed.json",
        "trials.parquet",
        "blocks.parquet",
        "estimates.json",
        "decision.json",
        "brief.md",
        "details.md",
        "glossary.md",
        "report.html",
    } == files - figures
    assert {"speedup.svg", "speedup.png", "speedup_by_k.svg"} <= figures <= set(FIGURE_FILES)


def test_every_planned_trial_is_there_once_and_audited(finished: Path):
    """Rows are unique by key, none failed, all identical to the target in fp32."""
    rows = pq.read_table(finished / "trials.parquet").to_pylist()
    keys = {(row["prompt_id"], row["turn"], row["repeat"], row["arm"]) for row in rows}
    planned = json.loads((finished / "manifest.json").read_text())["num_planned_trials"]

    assert planned == len(rows) == len(keys)
    assert {None} == {row["error"] for row in rows}
    assert {()} == {tuple(row["checks"]["audit"]["suspects"]) for row in rows}
    assert {None} == {row["checks"]["audit"]["divergence"] for row in rows}


def test_all_arms_emit_the_same_tokens(finished: Path):
    """Greedy in fp32: one hash per context over all arms."""
    rows = pq.read_table(finished / "trials.parquet").to_pylist()
    contexts = {(row["prompt_id"], row["turn"]) for row in rows}

    assert len(contexts) == len({(r["prompt_id"], r["turn"], r["ids_hash"]) for r in rows})


def test_brief_is_rendered_again_without_models(finished: Path):
    """`brief` reproduces what `run` wrote, byte for byte, and does not touch the trace."""
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    done = specmeasure("brief", str(finished))

    assert 0 == done.returncode, said(done)
    assert before == {path.name: path.read_bytes() for path in finished.iterdir()}


def test_check_exits_by_the_verdict(finished: Path):
    """A policy that nothing meets exits 10; too few prompts exit 20."""
    assert 10 == specmeasure("brief", str(finished), "--min-speedup", "50", "--check").returncode
    assert (
        20
        == specmeasure(
            *("brief", str(finished), "--min-speedup", "0.1", "--min-slice-speedup", "0"),
            *("--min-prompts", "1000", "--check"),
        ).returncode
    )
    specmeasure("brief", str(finished))


def test_json_is_one_document(finished: Path):
    """stdout parses as it stands."""
    document = json.loads(specmeasure("brief", str(finished), "--json").stdout)

    assert {"decision", "estimates"} == set(document)


def test_show_prints_the_blocks_of_a_prompt(finished: Path):
    """With kept ids the answer's text is shown; the list names every prompt."""
    prompt_id = pq.read_table(finished / "trials.parquet").to_pylist()[0]["prompt_id"]
    listed = specmeasure("show", str(finished))
    shown = specmeasure("show", str(finished), "--prompt", prompt_id, "--arm", "draft k=4")

    assert prompt_id in listed.stdout.decode()
    assert 0 == shown.returncode, said(shown)
    assert "kept" in shown.stdout.decode()
    assert "recovered" in shown.stdout.decode()


def test_resume_of_a_sealed_run_changes_nothing(finished: Path):
    """There is nothing to do, and nothing is done to the trace."""
    before = (finished / "trials.parquet").read_bytes()
    done = specmeasure("run", "--resume", str(finished))

    assert 0 == done.returncode, said(done)
    assert before == (finished / "trials.parquet").read_bytes()


def test_kill_and_resume_equals_an_uninterrupted_run(finished: Path, tmp_path: Path):
    """kill -9 in the middle; --resume ends with the same tokens, block for block."""
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        [COMMAND, *SMALL, "--out", str(broken)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = broken / "journal.jsonl"
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > 9:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.01)
    assert -signal.SIGKILL == process.returncode
    half = specmeasure("brief", str(broken))
    done = specmeasure("run", "--resume", str(broken))

    assert 0 == half.returncode, said(half)
    assert 0 == done.returncode, said(done)
    assert counts(finished) == counts(broken)


def counts(folder: Path) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Everything in a trace that does not depend on time."""
    trials = pq.read_table(folder / "trials.parquet").to_pylist()
    blocks = pq.read_table(folder / "blocks.parquet").to_pylist()
    trial_names = (
        "prompt_id",
        "turn",
        "arm",
        "num_prompt_tokens",
        "num_emitted_tokens",
        "ids_hash",
    )
    block_names = (
        "trial_index",
        "num_draft_tokens",
        "num_accepted_tokens",
        "num_emitted_tokens",
        "context_length",
        "truncated",
    )
    return (
        [tuple(row[name] for name in trial_names) for row in trials],
        [tuple(row[name] for name in block_names) for row in blocks],
    )


def test_interrupt_says_how_to_go_on(tmp_path: Path):
    """Ctrl-C exits 130 with the command that resumes."""
    folder = tmp_path / "run"
    process = subprocess.Popen(
        # a test suite that was started in the background ignores Ctrl-C, and so would the command
        ["env", "--default-signal=INT", COMMAND, "run", "prompts/", "--out", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not (folder / "journal.jsonl").exists():
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert 130 == process.returncode
    assert f"specmeasure run --resume {folder}" in re.sub(r"\s+", " ", stderr.decode())


def test_default_traces_hold_no_text(tmp_path: Path):
    """Neither prompt, nor answer, nor ids: a marked prompt leaves no mark in the folder."""
    folder = tmp_path / "run"
    done = specmeasure(
        *("run", "-", "--max-new-tokens", "8", "--threads", "1", "--chat", "chat"),
        *("--out", str(folder)),
        stdin=b"My secret is xylophone1234\nAnother secret is marimba5678\n",
    )

    assert 0 == done.returncode, said(done)
    assert b"xylophone1234" not in b"".join(p.read_bytes() for p in folder.iterdir())
    for column in ("token_ids", "prompt_ids"):
        table = pq.read_table(folder / "trials.parquet")
        assert {None} == set(table.column(column).to_pylist())


def test_same_model_twice_is_no_go(stories: tuple[str, str], tmp_path: Path):
    """A target that drafts for itself accepts all, and does not get four times as fast."""
    target, _ = stories
    folder = tmp_path / "run"
    prompts = tmp_path / "stories.txt"
    names = ["Tom", "Lily", "Ben", "Sue", "Max", "Anna", "Sam", "Mia"]
    things = ["a dog", "a red ball", "a boat"]
    prompts.write_text(
        "\n".join(f"One day, {name} found {thing}. " for name in names for thing in things)
    )
    done = specmeasure(
        *("run", str(prompts), "--target", target, "--draft", target, "--out", str(folder)),
        *("--max-new-tokens", "32", "--threads", "1", "--check", "--min-speedup", "4"),
    )
    estimates = json.loads((folder / "estimates.json").read_text())["arms"][0]

    assert 10 == done.returncode, said(done)
    assert [1.0] * 4 == [one["value"] for one in estimates["acceptance_survival"]]
    assert "# NO_GO" in (folder / "brief.md").read_text()


def test_spec_bench_slices_are_its_categories(spec_bench: Path, tmp_path: Path):
    """A sample of Spec-Bench ends with a brief by its thirteen categories."""
    folder = tmp_path / "run"
    done = specmeasure(
        *("run", str(spec_bench), "--limit", "13", "--max-new-tokens", "4", "--threads", "1"),
        *("--out", str(folder)),
    )
    slices = json.loads((folder / "estimates.json").read_text())["arms"][0]["slices"]

    assert 0 == done.returncode, said(done)
    categories = {one["name"] for one in slices if one["axis"] == "category"}
    assert 13 == len(categories)
    assert {"translation", "math_reasoning", "coding"} <= categories


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run"], 2, "no prompts: name files"),
        (["run", "/no/such/file"], 2, "/no/such/file"),
        (["run", "prompts/", "--k", "0"], 2, "--k takes whole numbers from 1"),
        (["run", "prompts/", "--k", "a"], 2, "--k a: use whole numbers"),
        (["run", "prompts/", "--top-p", "0.9"], 2, "need a --temperature above 0"),
        (
            ["run", "prompts/", "--target", "/no/such/model", "--ngram"],
            1,
            "there is no such folder",
        ),
        (
            ["run", "prompts/", "--target", "embedded:target"],
            2,
            "name a --draft, --medusa, --early-exit, --ngram or --suffix",
        ),
        (["run", "--resume", "/no/such/run"], 2, "no manifest.json there"),
        (["run", "--resume", "/x", "--k", "2"], 2, "leave out --k"),
        (["brief", "/no/such/run"], 2, "no manifest.json there"),
        (["run", "prompts/", "--policy", "/no/policy.toml"], 2, "--policy /no/policy.toml"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], code: int, message: str):
    """No traceback: one line that says what was asked, what was found and what to do."""
    done = specmeasure(*arguments)
    stderr = re.sub(r"\s+", " ", done.stderr.decode())

    assert code == done.returncode, stderr
    assert message in stderr
    assert "Traceback" not in stderr


def test_existing_run_is_not_overwritten(finished: Path):
    """--out of an existing run is refused before models load; --force is named."""
    done = specmeasure("run", "prompts/", "--out", str(finished))

    assert 2 == done.returncode
    assert "--force" in done.stderr.decode()


def test_environment_can_be_quiet():
    """The command runs where no terminal is attached."""
    done = subprocess.run(
        [COMMAND, "--version"],
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        check=False,
    )

    assert b"specmeasure 0.1.0" in done.stdout
