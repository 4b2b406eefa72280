from dataclasses import replace

from specmeasure.brief.evidence import write_evidence, write_output_notes, write_policy_note
from specmeasure.brief.joined import join_arms
from specmeasure.records.corpus import Dropped
from specmeasure.records.decision import Decision, Policy
from specmeasure.records.estimates import Estimates, Losslessness
from specmeasure.records.trace import Manifest
from tests.brief import examples


def lines(manifest: Manifest, estimates: Estimates, decision: Decision) -> str:
    arms = join_arms(manifest, estimates, decision)
    return "\n".join(write_evidence(manifest, estimates, decision.policy, arms))


def test_every_warning_is_printed():
    """The recorder's warnings reach the reader."""
    _, estimates, decision = examples.go()
    manifest = examples.manifest(warnings=("clock drifted", "cores shared"))

    assert "Warning: clock drifted\nWarning: cores shared" in lines(manifest, estimates, decision)


def test_what_was_left_out_is_counted_by_reason():
    """The most frequent reason first; the long tail is counted too."""
    manifest, estimates, decision = examples.go()
    dropped = [Dropped(reason="empty", num_rows=3, places=())]
    dropped += [Dropped(reason=f"reason {n}", num_rows=1, places=()) for n in range(9)]
    manifest = replace(manifest, corpus=replace(manifest.corpus, dropped=tuple(dropped)))
    said = lines(manifest, estimates, decision)

    assert "12 rows left out: 3" in said
    assert "4 more reasons" in said


def test_failed_trials_are_named_by_arm():
    """A failure is never silent."""
    assert "failed: 1 of draft k=4" in lines(*examples.go())


def test_unmeasured_noise_floor_gives_its_reason():
    """Without an A/A arm there is no number for the noise."""
    assert "not measured, the plan has no A/A arm." in lines(*examples.inconclusive())


def test_policy_changed_after_the_run_is_said():
    """A bar that was moved is not passed off as stated before."""
    stated, applied = Policy(), Policy(min_decode_speedup=1.05)

    assert "stated before the run" in write_policy_note(stated, stated)
    assert "min_decode_speedup 1.05 instead of 1.1" in write_policy_note(stated, applied)


def test_divergent_places_are_listed():
    """A divergence says where to look."""
    manifest, estimates, decision = examples.go()
    arm = examples.draft_arm()
    assert isinstance(arm.losslessness, Losslessness)
    audit = replace(arm.losslessness, num_divergent=1, divergent_prompts=("p-9, turn 1, token 4",))
    estimates = replace(estimates, arms=(replace(arm, losslessness=audit), *estimates.arms[1:]))
    notes = write_output_notes(join_arms(manifest, estimates, decision), is_greedy=True)

    assert notes[0].endswith("with draft k=4: p-9, turn 1, token 4.")


def test_sampled_runs_claim_no_audit():
    """A sampled run says that its output was not checked, and why."""
    notes = write_output_notes(join_arms(*examples.inconclusive()), is_greedy=False)

    assert "Not audited: only greedy runs are audited token by token." == notes[0]
    assert "did not test" in notes[1]


def test_mixed_runs_count_what_was_sampled():
    """Beside the audit of greedy answers stands the number that it does not cover."""
    manifest, estimates, decision = examples.go()
    arm = examples.draft_arm()
    assert isinstance(arm.losslessness, Losslessness)
    mixed = replace(arm, losslessness=replace(arm.losslessness, num_sampled=40))
    estimates = replace(estimates, arms=(mixed, *estimates.arms[1:]))
    notes = write_output_notes(join_arms(manifest, estimates, decision), is_greedy=False)

    assert "Sampled answers are not audited one by one: 40 of draft k=4." in notes
