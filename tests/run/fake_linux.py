"""Files of a Linux machine that go on as a test says, in their real formats."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specmeasure.run.crowding import CpuMeter

TICKS = 100  # of a second


@dataclass(slots=True)
class FakeLinux:
    """A machine whose cores are the real process's own, and whose clock stands until it is moved.

    Args:
        folder: where its files are written.
        cores: their numbers.
        has_pressure: whether its kernel counts waits for a core.
        shows_counts: False: a sandbox, whose counts are all zero.
    """

    folder: Path
    cores: Sequence[int]
    has_pressure: bool = True
    shows_counts: bool = True
    now_s: float = 1000.0
    own_s: float = 5.0
    waited_s: float = 11.0
    throttled_s: float | None = None
    busy_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.busy_s = dict.fromkeys(self.cores, 300.0)
        self._write()

    @property
    def proc(self) -> Path:
        return self.folder / "proc"

    @property
    def group(self) -> Path:
        return self.folder / "cgroup" / "box"

    def meter(self) -> CpuMeter:
        return CpuMeter(self.proc, clock=lambda: self.now_s, own_clock=lambda: self.own_s)

    def go_on(
        self,
        seconds: float,
        *,
        others: float = 0.0,
        own: float = 0.0,
        waited: float = 0.0,
        throttled: float = 0.0,
    ) -> None:
        """Time passes: ``others`` and ``own`` are cores kept busy, the rest shares of the time."""
        self.now_s += seconds
        self.own_s += own * seconds
        self.waited_s += waited * seconds
        if self.throttled_s is not None:
            self.throttled_s += throttled * seconds
        for core in self.cores:
            self.busy_s[core] += (others + own) / len(self.cores) * seconds
        self._write()

    def _write(self) -> None:
        _put(self.proc / "stat", self._stat())
        _put(self.proc / "self" / "cgroup", "0::/box\n")
        mount = f"30 29 0:26 / {self.folder / 'cgroup'} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
        _put(self.proc / "self" / "mountinfo", f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mount}")
        _put(self.group / "cgroup.type", "domain\n")
        if self.has_pressure:
            line = f"avg10=1.53 avg60=0.87 avg300=0.32 total={round(1e6 * self.waited_s)}"
            _put(self.proc / "pressure" / "cpu", f"some {line}\nfull {line}\n")
        if self.throttled_s is not None:
            held = f"throttled_usec {round(1e6 * self.throttled_s)}\n"
            _put(self.group / "cpu.stat", f"usage_usec 512\nnr_periods 9\n{held}")

    def _stat(self) -> str:
        """Busy ticks are half user's, half system's; all others are idle."""
        lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
        for core in self.cores:
            half = round(self.busy_s[core] * TICKS / 2)
            idle = round(self.now_s * TICKS) - 2 * half
            ticks = (half, 0, half, idle - 40, 40, 0, 0, 0) if self.shows_counts else (0,) * 8
            lines.append(f"cpu{core} {' '.join(map(str, ticks))} 0 0")
        return "\n".join([*lines, "intr 26525883 0 0", "ctxt 99", "btime 1763900000", ""])


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
