from pathlib import Path

import pytest
from typer.testing import CliRunner

from specmeasure.cli.main import app
from specmeasure.trace import store
from tests.fakes import FakeEngine, make_plan, make_prompts, record_into


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """A run that kept its text, on a machine that has no target."""
    engine = FakeEngine(plan=make_plan(target="embedded:gone", include_text=True))
    record_into(tmp_path, engine, make_prompts(8))
    store.seal_run(tmp_path)
    return tmp_path


def test_a_report_without_its_tokenizer_shows_ids(moved: Path):
    """The brief is written all the same; stderr and the page say that ids stand for text."""
    done = CliRunner().invoke(app, ["brief", str(moved)])
    page = (moved / "report.html").read_text(encoding="utf-8")

    assert 0 == done.exit_code
    assert "report.html shows ids in place of text: embedded:gone" in done.stderr
    assert "ids stand for text" in page
