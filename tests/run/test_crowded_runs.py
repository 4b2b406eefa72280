"""Other work during a whole run: told while it goes on, and shown in the brief."""

from specmeasure import api
from specmeasure.api import runs
from specmeasure.records.machine import Crowding
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
from specmeasure.trace import store
from tests.fakes import DRAFT_4, FakeEngine, make_manifest, make_plan, make_prompts

CROWDED = Crowding(other_cores=3.2, stalled_share=0.4)  # beside 2 threads on 4 cores
QUIET = Crowding(other_cores=0.1, stalled_share=0.0)


class Loud:
    """A meter that sees other work in three trials of four, in stretches of thirty."""

    def __init__(self):
        self.number = 0

    def begin(self):
        self.number += 1

    def end(self):
        return CROWDED if self.number % 40 < 30 else QUIET


class Silent(Loud):
    """One that is told nothing by its system."""

    def end(self):
        return None


def run(folder, monkeypatch, meter):
    """A run of 20 prompts on disk, its brief beside it; what was warned of."""
    plan = make_plan(BASELINE, DRAFT_4, BASELINE_AGAIN, num_repeats=2)
    prompts = make_prompts(20)
    engine = FakeEngine(plan=plan, seed=2)
    store.create_run(folder, make_manifest(plan, prompts, models=engine.models))
    monkeypatch.setattr(runs, "CpuMeter", meter)
    warnings = []
    trace = runs._record(
        store.read_manifest(folder),
        engine,
        tuple(prompts),
        folder,
        api.Watchers(warning=warnings.append),
    )
    api.write_report(api.conclude(trace), folder)
    return trace, warnings


def test_other_work_is_told_while_it_goes_on_and_in_the_brief(tmp_path, monkeypatch):
    """Three of its stretches are told, all of them are counted beside the noise floor."""
    trace, warnings = run(tmp_path, monkeypatch, Loud)
    lines = (tmp_path / "brief.md").read_text().splitlines()
    [place] = [n for n, line in enumerate(lines) if "Noise floor" in line]

    assert {CROWDED, QUIET} == {trial.crowding for trial in trace.trials}
    assert 3 == len(warnings)
    assert all("other work keeps 3.2 of 4 cores busy" in warning for warning in warnings)
    assert lines[place + 1].startswith(
        "- Other work kept 3.2 of 4 cores busy and something waited for a core 40 % of the time"
    )
    assert "75 % of the trials" in lines[place + 1]
    assert "Trials that other work crowded: baseline" in (tmp_path / "details.md").read_text()


def test_a_run_that_knows_nothing_says_so_in_its_details(tmp_path, monkeypatch):
    """Neither quiet nor crowded is claimed on the page."""
    trace, warnings = run(tmp_path, monkeypatch, Silent)

    assert {None} == {trial.crowding for trial in trace.trials}
    assert [] == warnings
    assert "ther work" not in (tmp_path / "brief.md").read_text()
    assert "Other work during the run: not measured" in (tmp_path / "details.md").read_text()


def test_what_was_seen_survives_the_trace(tmp_path, monkeypatch):
    """Read from disk, sealed, it gives the same estimates."""
    trace, _ = run(tmp_path, monkeypatch, Loud)
    found = api.conclude(trace).estimates.crowding

    assert found == api.conclude(api.read_trace(tmp_path)).estimates.crowding
    assert found.num_trials == len(trace.trials) == 120
