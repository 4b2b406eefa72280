import re
from dataclasses import replace

import pytest

from specmeasure.errors import UnpairedPrompts, UsageError
from specmeasure.estimate.shared_prompts import share_prompts, timing_obstacle
from specmeasure.records.plan import Sampling
from tests.estimate.paired_runs import run
from tests.fakes import make_environment, make_manifest, make_plan, make_trial

MANIFEST = make_manifest(make_plan(), [])


def trials(*prompt_ids, repeat=0, **changes):
    """Baseline and draft on each prompt."""
    made = [
        make_trial(prompt_id, arm=arm, **changes)
        for prompt_id in prompt_ids
        for arm in ("baseline", "draft k=4")
    ]
    return [replace(trial, key=replace(trial.key, repeat=repeat)) for trial in made]


def asked(shared):
    return {trial.key.prompt_id for trial in shared.run.trace.trials}


def test_runs_keep_what_all_of_them_recorded():
    """A run over fewer prompts cuts the others down to them, and what they lost is counted."""
    whole, part = share_prompts([run(trials("a", "b", "c")), run(trials("b", "c", "d"))])

    assert {"b", "c"} == asked(whole) == asked(part)
    assert (3, 2) == (whole.facts.num_prompts, whole.facts.num_common_prompts)


def test_a_prompt_whose_content_changed_is_another():
    """The same id over other words is not paired."""
    edited = trials("b", prompt_hash="other words")
    shared, _ = share_prompts([run(trials("a", "b")), run([*trials("a"), *edited])])

    assert {"a"} == asked(shared)


def test_repeats_without_a_pair_are_left_out():
    """The second repeat of one run has no partner in a run of one repeat."""
    twice = run([*trials("a", "b"), *trials("a", "b", repeat=1)], num_repeats=2)
    shared, _ = share_prompts([twice, run(trials("a", "b"))])

    assert {0} == {trial.key.repeat for trial in shared.run.trace.trials}
    assert (4, 2) == (shared.facts.num_answers, shared.facts.num_common_answers)


@pytest.mark.parametrize(("num_planned", "expected"), [(12, 8), (24, 16)])
def test_missing_trials_stay_missing_in_proportion(num_planned, expected):
    """A cut run has its full plan; one that stopped half-way is still half there."""
    interrupted = run(trials(*"abcdef"))
    manifest = replace(interrupted.trace.manifest, num_planned_trials=num_planned)
    interrupted = replace(interrupted, trace=replace(interrupted.trace, manifest=manifest))
    shared, _ = share_prompts([interrupted, run(trials(*"abcd"))])

    assert expected == shared.run.trace.manifest.num_planned_trials


def test_a_failed_trial_is_a_recorded_prompt():
    """What one arm cannot answer is compared all the same, and counts against it."""
    failing = [*trials("a"), *trials("b", error="OutOfMemory")]
    shared, _ = share_prompts([run(failing), run(trials("a", "b"))])

    assert {"a", "b"} == asked(shared)


def test_disjoint_runs_are_refused_by_name():
    """The message names the two runs that share nothing, and what to do."""
    runs = [run(trials("a", "b"), name="old"), run(trials("a"), name="mid")]
    with pytest.raises(
        UnpairedPrompts, match=r"mid \(1\) and new \(1\) have no .* the same --limit"
    ):
        share_prompts([runs[1], run(trials("z"), name="new"), runs[0]])


def test_ids_alone_do_not_pair():
    """Ids that agree over other words are told, for they look like the same prompts."""
    with pytest.raises(UnpairedPrompts, match="2 ids agree"):
        share_prompts([run(trials("a", "b")), run(trials("a", "b", prompt_hash="new"))])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"sampling": Sampling(temperature=0.7)},
            "greedy and sampling temperature 0.7.*--temperature",
        ),
        ({"max_new_tokens": 64}, "300 and max new tokens 64.*--max-new-tokens"),
        ({"ignore_eos": True}, "False and ignore eos True.*--ignore-eos"),
        ({"use_asked_sampling": False}, "--row-sampling"),
    ],
)
def test_other_decoding_is_refused(changes, said):
    """Answers of other lengths or by other rules are no pairs; the flag to set is named."""
    with pytest.raises(UsageError, match=f"one and two decode differently .*{said}"):
        share_prompts([run(trials("a"), name="one"), run(trials("a"), name="two", **changes)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cpu": "another"}, r"\(cpu differ\)"),
        ({"num_threads": 1, "num_cores": 8}, r"\(cores, threads differ\)"),
        ({"accelerators": ("H100",)}, "accelerators"),
        ({"versions": {"specmeasure": "0.1.0", "torch": "2.13"}}, r"\(torch differ\)"),
    ],
)
def test_times_of_other_machines_or_software_do_not_compare(changes, said):
    """What differs is named."""
    other = replace(MANIFEST, environment=make_environment(**changes))

    assert re.search(said, timing_obstacle(MANIFEST, other) or "")


def test_the_load_of_the_day_is_no_other_machine():
    """Load differs from run to run; the A/A interval is what judges it."""
    busy = replace(MANIFEST, environment=make_environment(load_average=3.0))

    assert timing_obstacle(MANIFEST, busy) is None
