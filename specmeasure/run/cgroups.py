"""What Linux control groups allow and take away: the CPU quota, throttling, waits for a core.

A container's limits stand in files of its group and of the groups around it. Where a container
sees its own group as the root, limits of groups around it are hidden from it, and so is what other
containers do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    """Where a hierarchy of groups can be read."""

    kind: str  # cgroup2, or cgroup: version 1
    root: str  # the group that the mount point shows
    point: Path
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuGroups:
    """Folders of this process's groups that govern the CPU, its own first, then those around it."""

    unified: tuple[Path, ...] = ()  # version 2
    legacy: tuple[Path, ...] = ()  # version 1, of the controller "cpu"

    @classmethod
    def of_this_process(cls, proc: Path = PROC) -> "CpuGroups":
        """As ``proc/self`` tells them; none where the system has none."""
        try:
            mounts = list(_mounts(_text(proc / "self" / "mountinfo")))
            groups = _text(proc / "self" / "cgroup").splitlines()
        except OSError:
            return cls()
        paths = {names: path for _, names, path in (line.split(":", 2) for line in groups)}
        unified: tuple[Path, ...] = ()
        legacy: tuple[Path, ...] = ()
        for mount in mounts:
            if mount.kind == "cgroup2" and "" in paths:
                unified = unified or _folders(mount, paths[""])
            elif mount.kind == "cgroup" and "cpu" in mount.controllers:
                own = next((p for names, p in paths.items() if "cpu" in names.split(",")), None)
                legacy = legacy or (() if own is None else _folders(mount, own))
        return cls(unified=unified, legacy=legacy)

    def quota(self) -> float | None:
        """Cores that the groups grant in the long run, the smallest of all; None: no limit."""
        granted = [_quota(folder) for folder in self.unified]
        granted += [_legacy_quota(folder) for folder in self.legacy]
        return min((one for one in granted if one is not None), default=None)

    def throttled_s(self) -> float | None:
        """Seconds, summed over cores, that the own group was held back; None: not told."""
        for folder in self.unified[:1]:
            found = _counter(folder / "cpu.stat", "throttled_usec")
            if found is not None:
                return found / 1e6
        for folder in self.legacy[:1]:
            found = _counter(folder / "cpu.stat", "throttled_time")
            if found is not None:
                return found / 1e9
        return None

    def pressure_file(self, proc: Path = PROC) -> Path | None:
        """Where waits for a core are counted: of the own group, or else of the whole machine."""
        own = [folder / "cpu.pressure" for folder in self.unified[:1]]
        return next((f for f in (*own, proc / "pressure" / "cpu") if _is_readable(f)), None)


def waited_s(pressure: Path) -> float | None:
    """Seconds in which some task waited for a core, from the line "some" of a pressure file."""
    try:
        lines = _text(pressure).splitlines()
    except OSError:  # compiled in, but switched off
        return None
    totals = [line.rpartition("total=")[2] for line in lines if line.startswith("some ")]
    return int(totals[0]) / 1e6 if totals and totals[0].isdecimal() else None


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """Mounted hierarchies; ``36 35 0:29 /root /point options - type source super-options``."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if len(place) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            yield _Mount(
                kind=kind[0],
                root=place[3],
                point=Path(place[4].replace("\\040", " ")),
                controllers=frozenset(kind[2].split(",")),
            )


def _folders(mount: _Mount, path: str) -> tuple[Path, ...]:
    """The group's folder and those around it, up to the mount point.

    A path that the mount does not show is that of another namespace: then the mount point is the
    group itself.
    """
    root = mount.root.rstrip("/")
    inside = path.removeprefix(root).strip("/") if path.startswith(f"{root}/") else ""
    own = mount.point / inside
    if ".." in Path(inside).parts or not own.is_dir():
        own = mount.point
    around = [folder for folder in own.parents if folder.is_relative_to(mount.point)]
    return (own, *around)


def _quota(folder: Path) -> float | None:
    """Of version 2: "max 100000" or "150000 100000", microseconds of each period."""
    match _words(folder / "cpu.max"):
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return None


def _legacy_quota(folder: Path) -> float | None:
    """Of version 1, where -1 is no limit."""
    match [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]:
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return None


def _counter(path: Path, name: str) -> int | None:
    words = _words(path)
    counts = dict(zip(words[::2], words[1::2], strict=False))
    return int(counts[name]) if counts.get(name, "").isdecimal() else None


def _words(path: Path) -> list[str]:
    try:
        return _text(path).split()
    except OSError:
        return []


def _is_readable(path: Path) -> bool:
    return waited_s(path) is not None


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace")
