import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from specmeasure.records.machine import Crowding
from specmeasure.records.trace import TrialRecord
from specmeasure.run.cpu_times import own_cores
from specmeasure.run.crowding import (
    OTHERS_OF_A_TEAM,
    CpuMeter,
    CrowdingWatch,
    Unmetered,
    watch_crowding,
)
from specmeasure.run.recorder import Recorder
from tests.fakes import (
    FakeEngine,
    MemoryJournal,
    make_block,
    make_environment,
    make_manifest,
    make_plan,
    make_prompts,
    make_trial,
)
from tests.run.fake_linux import FakeLinux

SPIN = "import time\nwhile time.process_time() < 5: pass"
QUIET, FULL = Crowding(other_cores=0.1), Crowding(other_cores=3.9, stalled_share=0.8)
PROC_STAT = Path("/proc/stat")


def linux(tmp_path, **changes):
    return FakeLinux(tmp_path, cores=sorted(own_cores()), **changes)


def seen_over(machine, seconds, **what):
    meter = machine.meter()
    meter.begin()
    machine.go_on(seconds, **what)
    return meter.end()


def test_others_are_what_is_busy_beyond_our_own_work(tmp_path):
    """Own threads and children are taken off."""
    seen = seen_over(linux(tmp_path), 2.0, others=0.6, own=0.3, waited=0.25)

    assert pytest.approx(0.6, abs=0.02) == seen.other_cores
    assert pytest.approx(0.25) == seen.stalled_share


def test_a_quiet_machine_shows_nothing(tmp_path):
    """Our own work is nobody else's."""
    seen = seen_over(linux(tmp_path), 1.0, own=0.9)

    assert pytest.approx(0.0, abs=0.03) == seen.other_cores
    assert 0.0 == seen.stalled_share


def test_each_trial_is_seen_by_itself(tmp_path):
    """What other work did before a long trial is not said of it."""
    machine = linux(tmp_path)
    meter = machine.meter()
    machine.go_on(5.0, others=0.9, waited=0.9)
    meter.begin()
    machine.go_on(1.0)

    assert Crowding(other_cores=pytest.approx(0.0, abs=0.02), stalled_share=0.0) == meter.end()


def test_a_short_trial_is_seen_over_the_last_quarter_of_a_second(tmp_path):
    """Ticks of 10 ms say little of it alone; what lies further back is left out."""
    machine = linux(tmp_path)
    meter = machine.meter()
    for busy in [1.0] * 50 + [0.0] * 50:
        meter.begin()
        machine.go_on(0.02, waited=busy)
        seen = meter.end()

    assert 0.0 == seen.stalled_share

    meter.begin()
    machine.go_on(0.05, waited=1.0)
    seen = meter.end()

    assert pytest.approx(0.05 / 0.25, rel=0.1) == seen.stalled_share


def test_too_short_a_time_says_nothing(tmp_path):
    """Unknown is none, not quiet."""
    assert seen_over(linux(tmp_path), 0.1, others=0.9, waited=0.9) is None


def test_what_the_system_does_not_tell_is_none(tmp_path):
    """No pressure: no share. A sandbox's zeros: no cores. Neither: nothing."""
    no_pressure = seen_over(linux(tmp_path / "a", has_pressure=False), 1.0, others=0.5)
    sandbox = seen_over(linux(tmp_path / "b", shows_counts=False), 1.0, waited=0.5)
    neither = linux(tmp_path / "c", has_pressure=False, shows_counts=False)

    assert (True, None) == (no_pressure.other_cores is not None, no_pressure.stalled_share)
    assert (None, pytest.approx(0.5)) == (sandbox.other_cores, sandbox.stalled_share)
    assert seen_over(neither, 1.0, others=0.5, waited=0.5) is None


def test_another_system_is_no_error(tmp_path):
    """macOS has no /proc."""
    meter = CpuMeter(tmp_path / "nowhere", clock=iter(range(99)).__next__)
    meter.begin()

    assert meter.end() is None


def test_throttling_counts_as_waiting(tmp_path):
    """The larger of both, as they may be the same time; summed over cores it is cut at 1."""
    machine = linux(tmp_path, throttled_s=3.0)

    assert pytest.approx(0.6) == seen_over(machine, 1.0, waited=0.2, throttled=0.6).stalled_share
    assert pytest.approx(0.2) == seen_over(machine, 1.0, waited=0.2, throttled=0.1).stalled_share
    assert 1.0 == seen_over(machine, 1.0, throttled=3.0).stalled_share


@pytest.mark.skipif(not PROC_STAT.is_file(), reason="needs Linux")
def test_a_spinning_stranger_is_seen():
    """A process whose parent has gone is nobody's child: its core is kept busy by others.

    On a full machine the two cannot get all they want, so that only the direction is claimed.
    """
    orphan = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SPIN!r}], stdout=subprocess.DEVNULL)\n"
        "print(child.pid)"
    )
    begun = subprocess.run(
        [sys.executable, "-c", orphan], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    )
    stranger = int(begun.stdout)
    try:
        meter = CpuMeter()
        ticks = ticks_of(stranger)
        meter.begin()
        while ticks_of(stranger) < ticks + 20:  # a fifth of a second of its work, at least
            time.sleep(0.05)
        time.sleep(0.3)
        seen = meter.end()
    finally:
        os.kill(stranger, signal.SIGKILL)

    assert seen is not None
    if seen.other_cores is not None:
        assert seen.other_cores > 0


def ticks_of(pid):
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


class Script:
    """A meter that says what a test wrote down, trial by trial."""

    def __init__(self, *crowdings):
        self.crowdings = list(crowdings)
        self.order = []

    def begin(self):
        self.order.append("begin")

    def end(self):
        self.order.append("end")
        return self.crowdings.pop(0)


def test_every_trial_carries_what_was_seen_around_it():
    """The meter looks before and after each, and never while it goes on."""
    plan = make_plan()
    script = Script(QUIET, FULL, None)
    journal = MemoryJournal()
    engine = FakeEngine(plan=plan, seed=1)
    Recorder(plan, engine, journal, meter=script).record(make_prompts(1))

    assert [QUIET, FULL, None] == [trial.crowding for trial in journal.trials.values()]
    assert ["begin", "end"] * 3 == script.order


def test_a_recorder_without_a_meter_observes_nothing():
    """Unknown, not quiet."""
    plan = make_plan()
    journal = MemoryJournal()
    Recorder(plan, FakeEngine(plan=plan, seed=1), journal).record(make_prompts(1))

    assert {None} == {trial.crowding for trial in journal.trials.values()}
    assert Unmetered().end() is None


def watched(*crowdings, pass_s=None, **machine):
    """What is told of trials in this order, one pass each."""
    said: list[str] = []
    place = make_environment(**{"num_cores": 4, "num_threads": 2, **machine})
    watch = CrowdingWatch(environment_of=lambda _: place, device="cpu", tell=said.append)
    for number, crowding in enumerate(crowdings):
        watch.see(trial(number, crowding, 0.01 if pass_s is None else pass_s[number]))
    return said


def trial(number: int, crowding: Crowding | None, pass_s: float) -> TrialRecord:
    return make_trial(f"p{number}", make_block(0, 0), crowding=crowding, decode_s=pass_s)


def test_a_crowded_stretch_is_told_once_when_it_has_begun():
    """Three trials in a row begin one; it goes on over a quiet trial or two."""
    [note] = watched(QUIET, FULL, FULL, FULL, FULL, QUIET, QUIET, FULL, FULL, FULL)

    assert "other work keeps 3.9 of 4 cores busy" in note
    assert "something waits for a core 80 % of the time" in note
    assert "2 threads" in note
    assert "stop other work, start again with fewer --threads, or wait" in note


@pytest.mark.parametrize("crowdings", [[QUIET] * 9, [FULL, FULL, QUIET] * 5, [None] * 9])
def test_quiet_or_unknown_is_not_told(crowdings):
    """Neither is a single busy trial."""
    assert [] == watched(*crowdings)


def test_a_run_is_not_flooded_with_warnings():
    """Three stretches are told; those after them are in the brief."""
    assert 3 == len(watched(*([FULL] * 3 + [QUIET] * 3) * 5))


def test_one_thread_is_not_asked_to_become_fewer():
    """The remedy fits the run."""
    [note] = watched(*[Crowding(other_cores=4.0)] * 3, num_threads=1)

    assert "1 thread of this run" in note
    assert "--threads" not in note


def test_far_slower_passes_on_a_crowded_machine_are_told_once():
    """With more threads than free cores they wait for each other; the run's number stays."""
    paces = [0.01, 0.01, 0.2, 0.3, 0.3, 0.3]
    notes = watched(QUIET, QUIET, FULL, FULL, FULL, FULL, pass_s=paces)

    assert 2 == len(notes)
    assert "20 times as long as at their fastest: 2 threads want" in notes[0]
    assert "--threads 1" in notes[0]


@pytest.mark.parametrize(
    ("crowding", "num_threads"), [(QUIET, 2), (Crowding(other_cores=4.0), 1), (None, 2)]
)
def test_slow_passes_of_another_cause_are_not_blamed_on_threads(crowding, num_threads):
    """A quiet machine, or a single thread that has none to wait for."""
    notes = watched(QUIET, crowding, pass_s=[0.01, 0.5], num_threads=num_threads)

    assert not any("times as long" in note for note in notes)


def test_workers_have_stretches_of_their_own():
    """Two crowded trials here and one there are no stretch."""
    said: list[str] = []
    place = make_environment(num_cores=4, num_threads=2)
    watch = CrowdingWatch(environment_of=lambda _: place, device="cpu", tell=said.append)
    for number, worker in enumerate([0, 1, 0, 1]):
        watch.see(replace(trial(number, FULL, 0.01), worker=worker))

    assert [] == said

    watch.see(replace(trial(9, FULL, 0.01), worker=1))

    assert 1 == len(said)


def test_workers_of_the_run_may_be_the_others():
    """What a meter sees beside one worker may be its neighbours on the machine."""
    said: list[str] = []
    watch = CrowdingWatch(
        environment_of=lambda _: make_environment(num_cores=4, num_threads=2),
        device="cpu",
        tell=said.append,
        others=OTHERS_OF_A_TEAM,
    )
    for number in range(3):
        watch.see(trial(number, FULL, 0.01))

    assert ["other work, or that of this run's other workers, keeps"] == [
        note.partition(": ")[2].partition(" 3.9")[0] for note in said
    ]


def test_a_run_on_an_accelerator_needs_one_core():
    """Its other threads do not decode: three busy cores of four leave it one."""
    plan = make_plan()
    machine = make_environment(num_cores=4, num_threads=4)
    cpu, gpu = (
        make_manifest(plan, [], environment=machine, models=(replace(model, device=device),))
        for device in ("cpu", "cuda:0")
        for model in FakeEngine(plan=plan, seed=1).models[:1]
    )
    said: list[str] = []
    for manifest in (gpu, cpu):
        watch = watch_crowding(manifest, said.append)
        for number in range(3):
            watch.see(trial(number, Crowding(other_cores=3.0), 0.01))
        said.append("end")

    assert ["end", "The machine is crowded", "end"] == [note.partition(":")[0] for note in said]
