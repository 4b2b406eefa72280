"""`specmeasure audit` as its user meets it: on a run's folder, and on ids of any engine."""

import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e import command

pytestmark = pytest.mark.slow
JUDGE = ("--target", "embedded:target", "--threads", "1")


def specmeasure(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = command.specmeasure(*arguments)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small greedy run whose ids were kept."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    done = specmeasure(
        *("run", "prompts/", "--limit", "4", "--max-new-tokens", "16", "--threads", "1"),
        *("--include-text", "--out", str(folder)),
    )
    assert 0 == done.returncode, done.stderr
    return folder


@pytest.fixture(scope="module")
def rows(run: Path) -> list[dict[str, object]]:
    """The run's answers as another engine would give them."""
    return [
        {"arm": row["arm"], "prompt_token_ids": row["prompt_ids"], "token_ids": row["token_ids"]}
        for row in pq.read_table(run / "trials.parquet").to_pylist()
    ]


def save(folder: Path, rows: list[dict[str, object]]) -> str:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_run_is_audited_without_models(run: Path):
    """All arms are the target's own; page, numbers, terminal and exit code say so."""
    done = specmeasure("audit", str(run), "--check")
    report = json.loads((run / "audit.json").read_text())["audit"]

    assert 0 == done.returncode, done.stderr
    assert done.stdout.startswith("GO: nothing tells the output of baseline")
    assert (run / "audit.md").read_text().startswith("# GO: ")
    assert 1 == len({arm["losslessness"]["num_checked_tokens"] for arm in report["arms"]})
    assert {0} == {arm["losslessness"]["num_divergent"] for arm in report["arms"]}


def test_one_wrong_token_is_found_among_a_runs_answers(rows, tmp_path: Path):
    """Place, both ids, gap and noise; the arms as the run left them pass; exit code 10."""
    place = next(i for i, row in enumerate(rows) if row["arm"] == "draft k=4")
    ids = rows[place]["token_ids"]
    wrong = {**rows[place], "token_ids": [*ids[:3], (ids[3] + 1) % 300, *ids[4:]]}
    changed = [*rows[:place], wrong, *rows[place + 1 :]]
    done = specmeasure(
        "audit", save(tmp_path, changed), *JUDGE, "--check", "--out", str(tmp_path / "audit")
    )
    report = json.loads((tmp_path / "audit" / "audit.json").read_text())["audit"]
    arms = {arm["name"]: arm for arm in report["arms"]}
    (left,) = arms["draft k=4"]["losslessness"]["first_divergences"]

    assert 10 == done.returncode, done.stderr
    assert {"baseline": "GO", "draft k=4": "NO_GO", "baseline A/A": "GO"} == {
        name: arm["verdict"] for name, arm in arms.items()
    }
    assert left["place"].endswith("token 3")
    assert (ids[3], (ids[3] + 1) % 300) == (left["baseline_token_id"], left["token_id"])
    assert left["gap"] > 2 * left["noise"]


@pytest.mark.parametrize(
    ("row", "arguments", "said"),
    [
        ({}, JUDGE, "answers.jsonl:1: no field prompt_token_ids; this row has arm. Write the ids"),
        ({"prompt_ids": [1], "token_ids": [5]}, (), "name the model with --target"),
    ],
)
def test_what_cannot_be_audited_is_one_line(row, arguments, said, tmp_path: Path):
    """File, line, field and remedy; exit code 2."""
    done = specmeasure("audit", save(tmp_path, [{"arm": "x", **row}]), *arguments)

    assert 2 == done.returncode
    assert said in done.stderr.splitlines()[-1]


def test_a_run_is_audited_by_itself_alone(run: Path):
    """A target beside a run's folder would change nothing, and is refused."""
    done = specmeasure("audit", str(run), *JUDGE)

    assert 2 == done.returncode
    assert "leave out --target, --threads" in done.stderr
