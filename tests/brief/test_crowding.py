from dataclasses import replace

import pytest

from specmeasure.brief.crowding import (
    write_crowding,
    write_crowding_details,
    write_unequal_crowding,
)
from specmeasure.brief.evidence import write_evidence, write_short_evidence
from specmeasure.brief.joined import join_arms
from specmeasure.brief.pace import machine_notes, write_notices
from specmeasure.brief.provenance import write_provenance
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import CrowdedArm, Unmeasured
from tests.brief import examples

UNKNOWN = Unmeasured(reason="no trial was watched for other work")
LINE = (
    "Other work kept 1.3 of 2 cores busy and something waited for a core 34.6 % of the time during "
    "41 % of the trials. Nothing was removed for it."
)
UNEQUAL = examples.crowding(
    p_value=0.00042,
    arms=(
        CrowdedArm(name="baseline", num_trials=320, crowded_share=171 / 320),
        CrowdedArm(name="draft k=4", num_trials=320, crowded_share=97 / 320),
    ),
)


def test_how_much_of_the_run_was_crowded_is_one_line():
    """Cores, waiting, and the share of trials."""
    assert LINE == write_crowding(examples.crowding())


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"stalled_share": None}, "Other work kept 1.3 of 2 cores busy during 41 %"),
        ({"other_cores": None}, "Something waited for a core 34.6 % of the time during 41 %"),
        ({"num_cores": None, "stalled_share": None}, "Other work kept 1.3 cores busy during"),
    ],
)
def test_what_the_system_does_not_tell_is_left_out(changes, begins):
    """Nor is a number of cores given where workers differ."""
    assert str(write_crowding(examples.crowding(**changes))).startswith(begins)


@pytest.mark.parametrize("crowding", [None, UNKNOWN, examples.crowding(crowded_share=12 / 1280)])
def test_a_quiet_or_unwatched_run_has_no_line(crowding):
    """Twelve of 1,280 trials are odd jobs of the system."""
    assert write_crowding(crowding) is None


def test_details_tell_arms_and_noise():
    """Whether the A/A interval is wider where other work crowded the trials."""
    arms, floors = write_crowding_details(examples.crowding())

    assert arms == (
        "Trials that other work crowded: baseline 41.6 %, baseline A/A 39.7 %, draft k=4 41.9 % "
        "and ngram k=8 40.9 %."
    )
    assert floors == (
        "A/A over trials by what else went on: 1.10× [1.02, 1.18] while other work crowded them; "
        "1.003× [0.996, 1.010] while none did."
    )


def test_a_noise_that_was_not_measured_says_why():
    """No number stands for it."""
    crowding = examples.crowding(
        crowded_noise_floor=Unmeasured(reason="fewer than 6 prompts; this has 2.")
    )
    _, floors = write_crowding_details(crowding)

    assert "not measured while other work crowded them, fewer than 6 prompts; this has 2;" in floors


def test_details_say_that_nothing_is_known_or_nothing_was_found():
    """Silence would be taken for a quiet machine."""
    quiet = examples.crowding(crowded_share=0.0)

    assert ["Other work during the run: not measured, no trial was watched for other work."] == (
        write_crowding_details(UNKNOWN)
    )
    assert ["Other work crowded none of the 1,280 trials around which it was looked for."] == (
        write_crowding_details(quiet)
    )
    assert [] == write_crowding_details(None)


def test_unequal_crowding_is_a_caveat():
    """With the test, its p, and what to do; before any number."""
    caveat = write_unequal_crowding(UNEQUAL)

    assert caveat == (
        "Other work did not crowd all arms alike: baseline 53.4 % and draft k=4 30.3 % of the "
        "trials. By accident this would come with a chance of p = 0.00042 (Cochran's Q, over "
        "cycles). The more an arm was crowded, the slower it looks: measure again with nothing "
        "else running."
    )
    assert (caveat,) == write_notices(examples.estimates(crowding=UNEQUAL), Policy())


@pytest.mark.parametrize(
    "crowding",
    [
        None,
        UNKNOWN,
        examples.crowding(),
        replace(UNEQUAL, p_value=0.02),
        replace(UNEQUAL, p_value=None),
        examples.crowding(
            p_value=1e-9, arms=(CrowdedArm(name="a", num_trials=9, crowded_share=0.3),)
        ),
    ],
)
def test_chance_is_no_caveat(crowding):
    """Unknown, alike, or apart by less than a hundredth."""
    assert write_unequal_crowding(crowding) is None
    assert () == write_notices(examples.estimates(crowding=crowding), Policy())


def test_the_line_stands_beside_the_noise_floor():
    """On the page and in the details, where the arms follow."""
    manifest, estimates, decision = examples.noisy()
    given = (manifest, estimates, decision.policy, join_arms(manifest, estimates, decision))
    long, short = write_evidence(*given), write_short_evidence(*given)

    for lines in (long, short):
        assert lines[1].startswith("Noise floor")
        assert LINE == lines[2]
    assert not set(write_crowding_details(estimates.crowding)) - set(long)
    assert not set(write_crowding_details(estimates.crowding)) & set(short)


def test_a_run_ends_with_what_crowded_it():
    """On the terminal, too."""
    notes = machine_notes(examples.estimates(crowding=UNEQUAL), Policy())

    assert any(note.startswith("Other work kept 1.3 of 2 cores busy") for note in notes)
    assert write_unequal_crowding(UNEQUAL) in notes


def test_the_machine_is_told_with_what_makes_its_cores_fewer():
    """A quota, hardware twins, a variable that caps threads, and what was busy before."""
    machine = replace(
        examples.manifest().environment,
        num_cores=16,
        num_physical_cores=8,
        cpu_quota=2.5,
        threads_capped_by="OMP_NUM_THREADS=2",
        other_cores=0.42,
    )
    facts = write_provenance(examples.manifest(environment=machine))
    [said] = [fact.text for fact in facts if fact.label == "Machine"]

    assert "2 threads (OMP_NUM_THREADS=2) on 16 cores (8 physical, granted 2.5)" in said
    assert said.endswith("load 0.42 before the run, 0.4 cores busy with other work before it")
