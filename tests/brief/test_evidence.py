from dataclasses import replace

from specmeasure.brief.evidence import (
    write_evidence,
    write_policy_note,
    write_short_evidence,
)
from specmeasure.brief.joined import join_arms
from specmeasure.records.corpus import Dropped
from specmeasure.records.decision import Decision, Policy
from specmeasure.records.estimates import Estimates
from specmeasure.records.plan import Arm, Method
from specmeasure.records.trace import Manifest
from specmeasure.records.tree import TokenTree
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


def test_trials_of_a_dead_worker_are_counted():
    """Nothing is said where no worker died."""
    manifest, estimates, decision = examples.go()
    again = "3 trials of unfinished turns were measured again after a worker died."

    assert again not in lines(manifest, estimates, decision)
    assert again in lines(manifest, replace(estimates, num_void_trials=3), decision)


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


def test_trees_are_not_judged_by_their_share_of_drafts():
    """A run with a tree says how to read its row, any other does not."""
    manifest, estimates, decision = examples.go()
    arms = join_arms(manifest, estimates, decision)
    heads = Arm(
        name="medusa tree 2",
        method=Method.MEDUSA,
        num_speculative_tokens=2,
        heads="h",
        tree=TokenTree.of([[0], [1]]),
    )
    with_tree = (replace(arms[0], plan=heads), *arms[1:])

    def said(shown):
        return "\n".join(write_evidence(manifest, estimates, decision.policy, shown))

    assert "design: medusa tree 2 is set beside chains by τ and speed" in said(with_tree)
    assert "of a tree" not in said(arms)


def test_the_page_leaves_out_only_how_intervals_are_made():
    """The short form has every fact of the long one, its warnings in one line."""
    manifest, estimates, decision = examples.go()
    manifest = replace(manifest, warnings=("clock drifted.", "cores shared"))
    arms = join_arms(manifest, estimates, decision)
    given = (manifest, estimates, decision.policy, arms)
    long, short = write_evidence(*given), write_short_evidence(*given)

    assert long[1:-2] == short[1:-1]
    assert "Warnings: clock drifted; cores shared" == short[-1]


def test_levels_are_told_on_the_page():
    """Which interval holds at which level, and for how many arms it was corrected."""
    manifest, estimates, decision = examples.go()
    arms = join_arms(manifest, estimates, decision)
    said = write_short_evidence(manifest, estimates, decision.policy, arms)[0]

    assert said == (
        "Intervals in brackets are over 160 prompts: decode speedups at 97.5 %, corrected for "
        "2 arms; the rest at 95 %."
    )


def test_one_level_is_told_once():
    """A single arm needs no correction."""
    manifest, estimates, decision = examples.inconclusive()
    arms = join_arms(manifest, estimates, decision)
    said = write_short_evidence(manifest, estimates, decision.policy, arms)[0]

    assert said == "Intervals in brackets are over 24 prompts: at 95 %."


def test_a_wide_noise_floor_is_not_passed_off_as_quiet():
    """An interval that reaches 1 ± 0.02 and far beyond rules out no noise."""
    manifest, estimates, decision = examples.go()
    wide = replace(estimates, noise_floor=examples.interval(0.96, 0.79, 1.07))
    reaches_further = "It reaches further, so that more noise is not ruled out."

    assert reaches_further not in lines(manifest, estimates, decision)
    assert reaches_further in lines(manifest, wide, decision)


def test_a_load_that_was_named_after_the_run_is_told():
    """A rule without a number is unset, not None."""
    said = write_policy_note(Policy(), Policy(at_concurrency=4))

    assert "The policy was changed after the run: at_concurrency 4 instead of unset." == said
