"""What keeps the code as it is meant to be: linter, types, import direction, start-up time."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def output_of(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("mypy",),
        ("lint-imports",),
    ],
    ids=" ".join,
)
def test_checker_is_content(command: tuple[str, ...]):
    """ruff, mypy strict and the import contracts find nothing."""
    code, said = output_of(str(BIN / command[0]), *command[1:])

    assert 0 == code, said


def test_help_needs_no_heavy_import():
    """--help imports neither torch nor transformers nor scipy: it answers at once."""
    program = (
        "import sys\n"
        "from specmeasure.cli.main import main\n"
        "sys.argv = ['specmeasure', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'pyarrow') if m in sys.modules])\n"
    )
    code, said = output_of(sys.executable, "-c", program)

    assert 0 == code, said
    assert "[]" == said.splitlines()[-1]


def test_estimating_needs_no_torch(tmp_path: Path):
    """A trace is read, estimated, decided and rendered on a machine without torch."""
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'transformers'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from pathlib import Path\n"
        "from specmeasure import api\n"
        "from specmeasure.errors import UnreadableTrace\n"
        "from specmeasure.run import environment\n"
        "import specmeasure.brief.markdown, specmeasure.brief.plots, specmeasure.brief.console\n"
        f"try:\n    api.read_trace(Path({str(tmp_path)!r}))\n"
        "except UnreadableTrace as error:\n    print(error)\n"
    )
    code, said = output_of(sys.executable, "-c", program)

    assert 0 == code, said
    assert "no manifest.json there" in said
