import os
from pathlib import Path

import psutil
import pytest

from specmeasure.run.sandbox import Limits, describe_isolation, runs_to_the_end

SHORT = Limits(wall_s=2.0, cpu_s=1)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("assert 1 + 1 == 2", True),
        ("", True),
        ("assert 1 + 1 == 3", False),
        ("raise SystemExit(0)", False),
        ("import os\nos._exit(0)", False),
        ("def f(:", False),
        ("x = '\x00'", False),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\nA(1)", True),
        ("assert __name__ != '__main__'", True),
        ("print('é' * 100)", True),
    ],
)
def test_a_program_passes_if_it_runs_to_its_end(program, expected):
    """Raising, exiting early, whatever the code, and not being Python are no pass."""
    assert expected == runs_to_the_end(program)


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "x = bytearray(4 << 30)",
        "open('big', 'wb').write(bytes(8 << 20))",
        "files = [open(f'f{n}', 'w') for n in range(100)]",
    ],
)
def test_what_goes_beyond_the_limits_fails(program):
    """Processor time, waiting, memory, file size and open files are bounded."""
    assert not runs_to_the_end(program, SHORT)


def test_nothing_is_inherited(monkeypatch, tmp_path: Path):
    """No variable of ours, no open file, no argument, no input; a folder of its own."""
    monkeypatch.setenv("PLANTED_SECRET", "swordfish")
    with (tmp_path / "open.txt").open("w") as file:
        os.set_inheritable(file.fileno(), 1)
        program = (
            "import os, sys\n"
            "assert 'PLANTED_SECRET' not in os.environ\n"
            "assert len(sys.argv) == 1\n"
            "assert sys.stdin.read() == ''\n"
            "assert os.listdir() == ['program.py']\n"
            f"try:\n    os.fstat({file.fileno()})\nexcept OSError:\n    pass\n"
            "else:\n    assert False\n"
        )

        assert runs_to_the_end(program)


def test_nothing_is_left_behind():
    """A child that would outlive its program ends with it."""
    program = (
        "import os, sys\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(write, b'x')\n"
        "    waits = 'import time; time.sleep(30)'\n"
        "    os.execv(sys.executable, [sys.executable, '-c', waits, 'left-behind'])\n"
        "assert os.read(read, 1) == b'x'\n"
    )

    assert runs_to_the_end(program, Limits(num_processes=16))
    assert not [one for one in psutil.process_iter(["cmdline"]) if is_left_behind(one)]


def is_left_behind(process: psutil.Process) -> bool:
    return "left-behind" in (process.info["cmdline"] or [])


def test_a_program_writes_in_its_own_folder():
    """Files of its own can be made, read and deleted."""
    assert runs_to_the_end(
        "import os\n"
        "os.mkdir('d')\nopen('d/f', 'w').write('x')\nos.rename('d/f', 'f')\n"
        "assert open('f').read() == 'x'\nos.remove('f')\nos.rmdir('d')\n"
    )


def test_isolation_of_files_is_as_described(tmp_path: Path):
    """Where the kernel can keep them, files elsewhere are neither written, emptied nor deleted."""
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    for attack in ("open(path, 'w')", "os.truncate(path, 0)", "os.remove(path)"):
        runs_to_the_end(f"import os\npath = {str(kept)!r}\n{attack}")
        if "delete whatever files you can" in describe_isolation():
            kept.write_text("mine")

    assert "mine" == kept.read_text()
    assert "read" in describe_isolation()


def test_isolation_of_the_network_is_as_described():
    """What is said of the network is so on this machine."""
    said = describe_isolation()
    connects = (
        "import socket\n"
        "here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "here.connect(('192.0.2.1', 9))\n"  # a route, no packet
    )

    assert ("without the network" in said) != ("but with the network" in said)
    if "without the network" in said:
        assert not runs_to_the_end(connects)
