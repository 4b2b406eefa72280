"""Where the real models and corpora are, and one thread for everything."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # spinning threads on a busy machine cost minutes

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def stories() -> tuple[str, str]:
    """Folders of a real 260K-parameter story model and a weak draft of it."""
    folder = SHARED / "models"
    if not (folder / "stories260K").is_dir():
        pytest.skip("the stories260K models are not beside this checkout")
    return str(folder / "stories260K"), str(folder / "stories260K-draft")


@pytest.fixture(scope="session")
def spec_bench() -> Path:
    """Spec-Bench's questions."""
    path = SHARED / "prompts" / "spec_bench" / "question.jsonl"
    if not path.is_file():
        pytest.skip("Spec-Bench's questions are not beside this checkout")
    return path
