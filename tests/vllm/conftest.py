"""Runs against a real vLLM for CPUs, only where SPECMEASURE_VLLM_PYTHON names its interpreter.

``make test-vllm`` prepares one and names it. Each server takes half a minute or more to come up.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from tests.e2e.command import ROOT, said, specmeasure

FIXED = (
    *("--engine", "vllm", "--k", "4", "--dtype", "float32", "--threads", "1"),
    *("--concurrency", "1,4", "--windows", "2", "--include-text"),
    *("--engine-args", "--enforce-eager --max-model-len 512"),
)

Measure = Callable[..., Path]


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter that has vLLM."""
    given = os.environ.get("SPECMEASURE_VLLM_PYTHON")
    if not given:
        pytest.skip("SPECMEASURE_VLLM_PYTHON is not set; make test-vllm prepares a vLLM")
    return given


@pytest.fixture(scope="session")
def measured(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """The folder of a finished run over these rows of prompts."""

    def measure(rows: Iterable[Mapping[str, object]], *options: str) -> Path:
        folder = tmp_path_factory.mktemp("vllm")
        prompts, out = folder / "prompts.jsonl", folder / "run"
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        asked = ("run", str(prompts), *FIXED, "--vllm-python", vllm_python, "--out", str(out))
        done = specmeasure(*asked, *options)
        assert 0 == done.returncode, said(done)
        return out

    return measure


@pytest.fixture(scope="session")
def questions() -> list[str]:
    """Of the prompts about code in this repository."""
    lines = (ROOT / "prompts" / "code.jsonl").read_text().splitlines()
    return [json.loads(line)["turns"][0] for line in lines]
