"""The command, as its user types it from the repository's folder."""

import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

from specmeasure.cli.main import main

COMMAND = Path(sys.executable).parent / "specmeasure"
ROOT = Path(__file__).resolve().parents[2]


def specmeasure(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in this process: a new one takes seconds to import what is here already."""
    out, err = TextIOWrapper(BytesIO(), "utf-8"), TextIOWrapper(BytesIO(), "utf-8")
    typed = TextIOWrapper(BytesIO(stdin), "utf-8")
    code: object = 0
    with (
        chdir(ROOT),
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", ["specmeasure", *arguments]),
        patch.object(sys, "stdin", typed),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    out.flush()
    err.flush()
    return subprocess.CompletedProcess(
        arguments, int(str(code)), out.buffer.getvalue(), err.buffer.getvalue()
    )


def installed(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The installed command in a process of its own."""
    return subprocess.run(
        [COMMAND, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stdout + done.stderr).decode()
