from rich.cells import cell_len

from specmeasure.brief.progress import progress_table
from specmeasure.records.running import RunningArm
from tests.brief.terminal import printed

ARMS = (
    RunningArm(
        name="baseline",
        num_trials=12,
        num_failed_trials=0,
        mean_acceptance_length=None,
        decode_speedup=None,
    ),
    RunningArm(
        name="draft:/srv/models/a-draft-with-a-name-that-never-ends-and-goes-on k=4",
        num_trials=1200,
        num_failed_trials=3,
        mean_acceptance_length=2.914,
        decode_speedup=1.376,
    ),
)


def test_a_line_an_arm():
    """Trials, τ and speedup so far, said to be so far; unknown is a dash, failures are told."""
    head, baseline, draft = [line.split() for line in printed(progress_table(ARMS)).splitlines()]

    assert ["Arm,", "so", "far", "Trials", "τ", "Speedup"] == head
    assert ["baseline", "12", "–", "–"] == baseline
    assert ["1,200", "(3", "failed)", "2.91", "1.38×"] == draft[-5:]


def test_it_fits_a_narrow_terminal():
    """Long names are cut in their middle; the lines stay lines."""
    lines = printed(progress_table(ARMS), width=80).splitlines()

    assert 3 == len(lines)
    assert max(map(cell_len, lines)) <= 80
    assert "…" in lines[2]
