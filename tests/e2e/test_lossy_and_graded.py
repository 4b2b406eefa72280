"""Lossy arms and graded answers, as a user asks for them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.test_command_line import said, specmeasure

pytestmark = pytest.mark.slow
OPENINGS = ["Once upon a time, there was a", "Lily and Ben went to the", "The sun was hot and the"]


@pytest.fixture(scope="module")
def stories_with_answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Completion prompts whose answers hold some references and not others."""
    path = tmp_path_factory.mktemp("corpus") / "stories.jsonl"
    rows = [
        {"prompt": f"{opening} {word}", "answer": reference}
        for opening in OPENINGS
        for word, reference in [("dog", "e"), ("cat", "no story says this"), ("ball", "a")]
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_lossy_arm_is_measured_and_told_of(stories_with_answers: Path, tmp_path: Path):
    """Strict and lossy side by side, a warning, its drift, and grades for every arm."""
    folder = tmp_path / "run"
    done = specmeasure(
        *("run", str(stories_with_answers), "--max-new-tokens", "24", "--threads", "1"),
        *("--lossy", "typical", "--check-answers", "contains", "--out", str(folder)),
    )
    assert 0 == done.returncode, said(done)
    strict, lossy = json.loads((folder / "estimates.json").read_text())["arms"]
    rows = pq.read_table(folder / "trials.parquet").to_pylist()

    assert "lossy arms (draft k=4 typical)" in " ".join(said(done).split())
    assert "lossy arms (draft k=4 typical)" in (folder / "manifest.json").read_text()
    assert ("draft k=4", None) == (strict["name"], strict["drift"])
    assert lossy["drift"]["nats_per_token"]["value"] > 0
    assert {True, False} == {row["checks"]["is_correct"] for row in rows}
    assert 9 == strict["accuracy"]["num_answers"] == lossy["accuracy"]["num_answers"]
    assert 0 == strict["accuracy"]["difference"]["value"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check-answers", "python-tests"], "--run-code allows it"),
        (["--check-answers", "python-tests", "--run-code"], "--response-field test"),
        (["--check-answers", "number"], "no prompt has an answer to compare with"),
        (["--check-answers", "taste"], "use one of exact, contains, number, python-tests"),
        (["--lossy", "loose"], "--lossy loose: use typical"),
    ],
)
def test_what_cannot_be_done_is_refused_before_models_load(
    stories_with_answers: Path, arguments: list[str], message: str
):
    """Each with the way on."""
    done = specmeasure("run", str(stories_with_answers), *arguments)

    assert 2 == done.returncode, said(done)
    assert message in " ".join(said(done).split())
    assert "loading models" not in said(done)
