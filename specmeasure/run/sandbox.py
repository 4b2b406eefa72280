"""Runs Python that nobody has read, in a process of its own, and says whether it ran to the end.

Kept from it: the environment, open files, standard input and output; time, memory, the size of
files and (but for root) further processes beyond ``Limits``, where the system knows such limits;
the network and other processes, where the system has ``unshare`` and lets this user call it;
writing and deleting outside of its own folder, where the kernel has Landlock (Linux 5.13). NOT kept
from it: reading what this user can read, files' permissions, the interpreter's packages. It guards
against mistakes, not against an attacker. ``describe_isolation`` tries what holds on this machine.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

RAN_TO_THE_END = 43  # an exit code that no program gives by accident
PROBE_S = 10
GIB, MIB = 2**30, 2**20
ALONE = ("--user", "--net", "--pid", "--fork", "--kill-child")
# Linux's system calls 444 to 446 are landlock_create_ruleset, _add_rule and _restrict_self; the
# bits are its rights to write, remove, make, move and truncate; option 38 of prctl is
# PR_SET_NO_NEW_PRIVS, which they need.
DRIVER = f"""
import ctypes, json, os, resource, struct, sys, types
libc = ctypes.CDLL(None)
version = libc.syscall(444, None, 0, 1) if sys.platform == "linux" else -1
if version >= 1:
    writing = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
    writing |= (version >= 2) << 13 | (version >= 3) << 14
    rules = libc.syscall(444, ctypes.byref(ctypes.c_uint64(writing)), 8, 0)
    folder = os.open(".", os.O_RDONLY)
    libc.syscall(445, rules, 1, struct.pack("=Qi", writing, folder), 0)
    libc.prctl(38, 1, 0, 0, 0)
    libc.syscall(446, rules, 0)
    os.close(folder)
    os.close(rules)
for name, most in json.loads(sys.argv[1]).items():
    try:
        resource.setrlimit(getattr(resource, name), (most, most))
    except (AttributeError, OSError, ValueError):
        pass
del sys.argv[1:]
module = types.ModuleType("answer")
sys.modules["answer"] = module
try:
    with open("program.py", encoding="utf-8") as file:
        program = compile(file.read(), "program.py", "exec")
    exec(program, module.__dict__)
except BaseException:
    os._exit(1)
os._exit({RAN_TO_THE_END})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use before it is stopped."""

    wall_s: float = 15.0
    cpu_s: int = 10
    memory_bytes: int = GIB  # of address space
    file_bytes: int = MIB  # of any file that it writes
    num_files: int = 64  # open at once
    num_processes: int = 0  # beside its own, threads too

    def by_name(self) -> dict[str, int]:
        """By the names of the ``resource`` module."""
        return {
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.num_files,
            "RLIMIT_NPROC": self.num_processes,
            "RLIMIT_CORE": 0,
        }


DEFAULT_LIMITS = Limits()


def runs_to_the_end(program: str, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether the program ends within its limits, raises nothing and does not exit by itself."""
    with TemporaryDirectory(prefix="specmeasure-", ignore_cleanup_errors=True) as folder:
        Path(folder, "program.py").write_text(program, encoding="utf-8", errors="replace")
        command = [*_without_network(), sys.executable, "-I", "-B", "-c", DRIVER]
        process = subprocess.Popen(  # noqa: S603 - the command is ours, the program a file
            [*command, json.dumps(limits.by_name())],
            cwd=folder,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(limits.wall_s) == RAN_TO_THE_END
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def describe_isolation() -> str:
    """What is kept from the programs on this machine and what is not."""
    network = (
        "without the network"
        if _without_network()
        else "but with the network, which needs `unshare` to be kept from it"
    )
    files = (
        "It can read whatever files you can, but not write or delete them"
        if _keeps_files()
        else "It can read, change and delete whatever files you can"
    )
    return (
        "Code that the models write is run on this machine: in processes of its own, with limits "
        f"on time and memory, without your environment, {network}. {files}: prefer a container, "
        "or a machine that holds nothing else."
    )


@cache
def _keeps_files() -> bool:
    """Whether a program fails to write outside of its own folder."""
    with TemporaryDirectory(prefix="specmeasure-") as folder:
        attempt = f"open({str(Path(folder, 'written'))!r}, 'w').close()"
        runs_to_the_end(attempt)
        return runs_to_the_end("") and not Path(folder, "written").exists()


@cache
def _without_network() -> tuple[str, ...]:
    """The command that starts another in namespaces of its own; empty where there is none."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, *ALONE)
    try:
        probe = subprocess.run(  # noqa: S603 - a fixed command
            [*command, sys.executable, "-I", "-c", ""],
            env={},
            capture_output=True,
            timeout=PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if probe.returncode == 0 else ()
