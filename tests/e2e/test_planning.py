"""A plan from a pilot, saved, and carried out exactly."""

import json
from pathlib import Path

import pytest

from tests.e2e.command import said, specmeasure

pytestmark = pytest.mark.slow


def test_a_plan_is_carried_out(tmp_path: Path):
    """Pilot, plan file, run: as many prompts and repeats as planned, over the same prompts."""
    path, folder = tmp_path / "plan.toml", tmp_path / "run"
    planned = specmeasure(
        *("plan", "prompts/", "--draft", "embedded:draft", "--target", "embedded:target"),
        *("--detect", "60%", "--pilot", "6", "--max-new-tokens", "16", "--min-prompts", "5"),
        *("--write", str(path)),
    )
    assert 0 == planned.returncode, said(planned)
    done = specmeasure("run", "--plan", str(path), "--out", str(folder))

    assert 0 == done.returncode, said(done)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert f"limit = {manifest['corpus']['num_prompts']}\n" in path.read_text()
    assert 5 == manifest["policy"]["min_prompts"]
    assert "Measured in a pilot of" in said(planned)
    assert f"specmeasure run --plan {path}" in " ".join(said(planned).split())


def test_a_plan_is_for_its_prompts(tmp_path: Path):
    """Other prompts than those planned for are refused; so is anything said beside the file."""
    prompts, path = tmp_path / "p.txt", tmp_path / "plan.toml"
    prompts.write_text("\n".join(f"How far is it to town {n}?" for n in range(40)))
    specmeasure("plan", str(prompts), "--write", str(path))
    beside = specmeasure("run", "--plan", str(path), "--k", "2")
    prompts.write_text("\n".join(f"How far is it to lake {n}?" for n in range(40)))
    changed = specmeasure("run", "--plan", str(path), "--out", str(tmp_path / "run"))

    assert (2, 2) == (beside.returncode, changed.returncode)
    assert "leave out --k" in said(beside)
    assert "the prompts are not those that were planned for" in said(changed)


def test_without_a_pair_the_plan_is_assumed():
    """Assumptions are shown as such, and no model is loaded."""
    done = specmeasure("plan", "prompts/", "--detect", "10%")

    assert 0 == done.returncode, said(done)
    assert "Assumed, not measured" in said(done)
    assert "loading models" not in said(done)
