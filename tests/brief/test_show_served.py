"""Trials of runs on servers in a terminal."""

from dataclasses import replace

from rich.cells import cell_len

from specmeasure.brief.show import trial_text, trials_table
from specmeasure.records.serving import Load
from specmeasure.records.trace import DraftCounts, TrialRecord
from tests.brief import examples
from tests.brief.terminal import printed

STEPS = DraftCounts(
    num_draft_tokens=8, num_accepted_tokens=3, num_drafted_blocks=2, steps=((4, 3), (4, 0))
)
TOTALS = DraftCounts(num_draft_tokens=26, num_accepted_tokens=8)


def request(
    load: Load = Load(concurrency=16),  # noqa: B008 - frozen
    *,
    counts: DraftCounts | None = TOTALS,
    with_text: bool = False,
) -> TrialRecord:
    made = examples.trial(with_text=with_text)
    return replace(
        made, key=replace(made.key, load=load), blocks=(), counts=counts, group=3, checks=None
    )


def test_a_load_has_its_column():
    """Requests at once, or a second; kept drafts by the server's count, no blocks."""
    trials = (request(), request(Load(rate=2.5)), request(counts=None))
    head, *rows = [
        line.split()
        for line in printed(trials_table(examples.trace(*trials))).splitlines()
        if line.strip() and not set(line.strip()) <= {"─", " "}
    ]

    assert ["Prompt", "Turn", "Rep", "Arm", "Load", "Tokens", "Blocks", "Kept"] == head[:8]
    assert ["16", "9", "–", "8/26"] == rows[0][5:9]
    assert ["2.5/s", "9", "–", "8/26"] == rows[1][5:9]
    assert ["16", "9", "–", "–"] == rows[2][5:9]


def test_it_fits_in_100_columns():
    """With the loads, too."""
    text = printed(trials_table(examples.trace(request())))

    assert max(map(cell_len, text.splitlines())) <= 100


def test_what_a_server_told_of_one_request():
    """Block by block where it tells blocks, else in all; nothing is not zero."""
    assert "at concurrency 16, category booking" in printed(trial_text(request(), None))
    assert "By the server's count 8 of 26 drafts kept." in printed(trial_text(request(), None))
    assert "told nothing of drafts" in printed(trial_text(request(counts=None), None))

    told = printed(trial_text(request(counts=STEPS), None))

    assert "3 of 8 drafts kept in 2 drafted blocks." in told
    assert "block by block: 3/4, 0/4." in told


def test_text_where_it_was_kept():
    """And that it was not, where it was not."""
    spelt = printed(trial_text(request(with_text=True), lambda ids: f"{len(ids)} tokens"))

    assert "9 tokens" in spelt
    assert "The text was not kept" in printed(trial_text(request(), None))
