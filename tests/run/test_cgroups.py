import pytest

from specmeasure.run.cgroups import CpuGroups, waited_s

UNIFIED = "30 29 0:26 / {mount} rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def put(folder, **texts):
    """Files of a group; a double underscore stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)


def proc(tmp_path, cgroup, mountinfo):
    put(tmp_path / "proc" / "self", cgroup=cgroup, mountinfo=mountinfo)
    return tmp_path / "proc"


@pytest.fixture
def unified(tmp_path):
    """A process in /user/job of version 2."""
    mount = tmp_path / "fs"
    put(mount / "user" / "job", cpu__max="150000 100000\n", cpu__stat="usage_usec 7\n")
    put(mount / "user", cpu__max="max 100000\n")
    return proc(tmp_path, "0::/user/job\n", UNIFIED.format(mount=mount))


def test_a_quota_is_a_share_of_its_period(unified):
    """150 ms of each 100 ms are a core and a half."""
    assert 1.5 == CpuGroups.of_this_process(unified).quota()


def test_the_smallest_of_nested_quotas_counts(unified, tmp_path):
    """A group gets no more than those around it."""
    put(tmp_path / "fs" / "user", cpu__max="50000 100000\n")

    assert 0.5 == CpuGroups.of_this_process(unified).quota()


@pytest.mark.parametrize("limit", ["max 100000\n", "", "max\n", "100000 0\n", "nonsense here\n"])
def test_no_limit_is_none(unified, tmp_path, limit):
    """Neither "max" nor what cannot be read is a number of cores."""
    put(tmp_path / "fs" / "user" / "job", cpu__max=limit)

    assert CpuGroups.of_this_process(unified).quota() is None


def test_version_1_is_read_by_its_controller(tmp_path):
    """Quota and period stand in files of their own; throttling is in nanoseconds."""
    mount = tmp_path / "fs" / "cpu,cpuacct"
    stat = "nr_periods 4\nnr_throttled 2\nthrottled_time 1500000000\n"
    put(mount / "box", cpu__cfs_quota_us="250000\n", cpu__cfs_period_us="100000\n", cpu__stat=stat)
    put(mount, cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    mounts = f"33 31 0:30 / {mount} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    mounts += f"34 31 0:31 / {tmp_path} rw,relatime - cgroup cgroup rw,memory\n"
    groups = CpuGroups.of_this_process(
        proc(tmp_path, "9:memory:/other\n3:cpu,cpuacct:/box\n0::/\n", mounts)
    )

    assert 2.5 == groups.quota()
    assert 1.5 == groups.throttled_s()


def test_a_container_that_sees_the_hosts_path_is_its_mounts_root(tmp_path):
    """The mount shows /docker/abc as its root; the path of the process begins with it."""
    mount = tmp_path / "fs"
    put(mount, cpu__max="200000 100000\n")
    put(mount / "inner", cpu__max="max 100000\n")
    mounts = UNIFIED.replace("0:26 / ", "0:26 /docker/abc ").format(mount=mount)

    assert 2.0 == CpuGroups.of_this_process(proc(tmp_path, "0::/docker/abc\n", mounts)).quota()
    inner = CpuGroups.of_this_process(proc(tmp_path, "0::/docker/abc/inner\n", mounts))
    assert 2.0 == inner.quota()
    assert (mount / "inner", mount) == inner.unified


@pytest.mark.parametrize("path", ["/../../other", "/gone"])
def test_a_path_that_the_mount_does_not_show_is_the_mount(tmp_path, path):
    """A process moved out of its namespace still has the limits that it can see."""
    mount = tmp_path / "fs"
    put(mount, cpu__max="100000 100000\n")
    groups = CpuGroups.of_this_process(proc(tmp_path, f"0::{path}\n", UNIFIED.format(mount=mount)))

    assert (mount,) == groups.unified
    assert 1.0 == groups.quota()


def test_throttling_is_in_seconds(unified, tmp_path):
    """Microseconds in version 2; a group without a quota may not count any."""
    assert CpuGroups.of_this_process(unified).throttled_s() is None

    put(tmp_path / "fs" / "user" / "job", cpu__stat="usage_usec 7\nthrottled_usec 2500000\n")

    assert 2.5 == CpuGroups.of_this_process(unified).throttled_s()


def test_own_pressure_comes_before_the_machines(unified, tmp_path):
    """What waited in the own group says more than what waited anywhere."""
    line = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"
    put(unified / "pressure", cpu=line.format(3_000_000))
    groups = CpuGroups.of_this_process(unified)

    assert unified / "pressure" / "cpu" == groups.pressure_file(unified)

    own = tmp_path / "fs" / "user" / "job"
    put(own, cpu__pressure=line.format(1_000_000) + "full avg10=0 avg60=0 avg300=0 total=9\n")

    assert own / "cpu.pressure" == groups.pressure_file(unified)
    assert 1.0 == waited_s(own / "cpu.pressure")


def test_a_system_without_groups_has_none(tmp_path):
    """macOS has no /proc; old kernels count no waits."""
    groups = CpuGroups.of_this_process(tmp_path / "nowhere")

    assert CpuGroups() == groups
    assert groups.quota() is None
    assert groups.throttled_s() is None
    assert groups.pressure_file(tmp_path / "nowhere") is None
    assert waited_s(tmp_path / "nowhere") is None
