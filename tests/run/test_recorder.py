"""A plan carried out without interruption."""

from dataclasses import replace

import pytest

from specmeasure.errors import BrokenLogits, ModelError, OutOfMemory, UnreadableCorpus
from specmeasure.records.corpus import AskedSampling
from specmeasure.records.plan import BASELINE, Sampling, TrialKey
from specmeasure.run.recorder import Recorder, audit_seed, ids_hash, trial_seed
from tests.fakes import (
    DRAFT_2,
    DRAFT_4,
    NGRAM_4,
    FakeEngine,
    MemoryJournal,
    make_chat,
    make_plan,
    make_prompts,
    planned_keys,
    recorded_trace,
)

SAMPLED = Sampling(temperature=0.8)


def record(engine, prompts, on_trial=lambda _: None):
    journal = MemoryJournal()
    Recorder(engine.plan, engine, journal, on_trial=on_trial).record(prompts)
    return journal.trials


def of_arm(trials, arm):
    return [trial for key, trial in trials.items() if key.arm == arm]


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_every_planned_trial_is_recorded_once(sampling):
    """Prompts × turns × repeats × arms, none left out, none twice."""
    plan = make_plan(BASELINE, DRAFT_4, NGRAM_4, num_repeats=2, sampling=sampling)
    prompts = [*make_prompts(5), make_chat("talk", 3)]
    told: list[TrialKey] = []

    trials = record(FakeEngine(plan=plan), prompts, told.append)

    assert sorted(planned_keys(plan, prompts)) == sorted(trials) == sorted(told)


def test_a_trial_keeps_what_the_engine_saw():
    """Counts, times, memory and hash of a record are the observation's."""
    engine = FakeEngine(plan=make_plan())
    prompts = make_prompts(1)

    (trial,) = of_arm(record(engine, prompts), "draft k=4")
    seen = engine.observe(engine.context_ids(prompts[0], []), DRAFT_4, engine.calls[1].settings)

    assert len(seen.token_ids) == trial.num_emitted_tokens
    assert ids_hash(seen.token_ids) == trial.ids_hash
    assert (seen.ttft_s, seen.decode_s) == (trial.ttft_s, trial.decode_s)
    assert (seen.model_bytes, seen.cache_bytes) == (trial.model_bytes, trial.cache_bytes)
    assert [(b.num_draft_tokens, b.verify_s) for b in seen.blocks] == [
        (b.num_draft_tokens, b.verify_s) for b in trial.blocks
    ]


def test_arms_agree_when_greedy():
    """All arms give one prompt the same answer; only blocks and times differ."""
    trials = record(
        FakeEngine(plan=make_plan(BASELINE, DRAFT_4, DRAFT_2, NGRAM_4)), make_prompts(6)
    )

    assert 6 == len({(trial.key.prompt_id, trial.ids_hash) for trial in trials.values()})


def test_a_failure_is_a_row():
    """A prompt that breaks the engine leaves rows with the error, and the next prompts run."""
    plan = make_plan()
    engine = FakeEngine(plan=plan, failures={"p1": RuntimeError("mask\n  does not fit")})

    trials = record(engine, make_prompts(4))

    failed = [trial for trial in trials.values() if trial.failed]
    assert ["p1"] * 3 == [trial.key.prompt_id for trial in failed]
    assert {True} == {trial.error.startswith("RuntimeError at fakes.py:") for trial in failed}
    assert {()} == {trial.blocks for trial in failed}
    assert 9 == sum(trial.audit is not None for trial in trials.values())


def test_an_unforeseen_error_does_not_speak():
    """Without --include-text its words, which may quote a prompt, stay out of the trace."""
    engine = FakeEngine(plan=make_plan(), failures={"p0": KeyError("my secret question")})

    errors = {trial.error for trial in record(engine, make_prompts(1)).values()}

    assert [] == [error for error in errors if "secret" in error]


def test_a_row_is_decoded_as_it_asks():
    """Temperature, budget and seed of a row reach the engine; what it leaves open is the plan's."""
    asked = AskedSampling(temperature=0.7, top_p=0.9, max_tokens=5, seed=3)
    plain, own = make_prompts(2)
    engine = FakeEngine(plan=make_plan())

    trials = record(engine, [plain, replace(own, asked=asked)])

    hot = Sampling(temperature=0.7, top_p=0.9)
    assert {"p0": Sampling(), "p1": hot} == {k.prompt_id: t.sampling for k, t in trials.items()}
    assert {300, 5} == {call.settings.max_new_tokens for call in engine.calls}
    assert {"p0"} == {key.prompt_id for key, trial in trials.items() if trial.audit is not None}


def test_the_plan_may_overrule_rows():
    """--no-row-sampling decodes every row under the plan alone."""
    plan = make_plan(use_asked_sampling=False)
    prompts = [replace(make_prompts(1)[0], asked=AskedSampling(temperature=0.7))]

    assert {Sampling()} == {t.sampling for t in record(FakeEngine(plan=plan), prompts).values()}


def test_labels_of_a_prompt():
    """Category, file and language; the user's fields beside them, none hidden."""
    labels = (("language", "Latin"), ("team", "search"))
    prompt = replace(make_prompts(1)[0], language="de", labels=labels)

    (trial, *_) = record(FakeEngine(plan=make_plan()), [prompt]).values()

    assert {
        "category": "chat",
        "source": "prompts.jsonl",
        "language": "de",
        "field language": "Latin",
        "team": "search",
    } == trial.labels


def test_a_long_error_is_cut():
    """With --include-text an error is kept, but not at any length."""
    plan = make_plan(include_text=True)
    engine = FakeEngine(plan=plan, failures={"p0": RuntimeError("x" * 10_000)})

    assert {300} == {len(trial.error) for trial in record(engine, make_prompts(1)).values()}


def test_one_arm_fails_alone():
    """Where one arm fails, the others are recorded and audited."""
    engine = FakeEngine(
        plan=make_plan(),
        failures={"p0": RuntimeError("no")},
        failing_arms=frozenset({"draft k=4"}),
    )

    trials = record(engine, make_prompts(1))

    assert ["baseline", "baseline A/A"] == sorted(k.arm for k, t in trials.items() if t.audit)


@pytest.mark.parametrize("error", [ModelError("weights are odd"), BrokenLogits("NaN")])
def test_a_broken_model_stops_the_run(error):
    """What the engine reports as broken will not mend on the next prompt."""
    engine = FakeEngine(plan=make_plan(), failures={"p1": error})
    journal = MemoryJournal()

    with pytest.raises(ModelError):
        Recorder(engine.plan, engine, journal).record(make_prompts(3))

    assert {"p0"} == {key.prompt_id for key in journal.trials}


def test_an_unreadable_prompt_is_a_row():
    """A prompt that the chat template refuses fails alone, in the template's words."""
    engine = FakeEngine(plan=make_plan(), failures={"p0": UnreadableCorpus("no system role")})

    trials = record(engine, make_prompts(2))

    assert {"p0": "no system role", "p1": None} == {
        key.prompt_id: trial.error for key, trial in trials.items()
    }


def test_a_prompt_beyond_the_context_is_a_row():
    """A turn that cannot fit is not decoded; the row names its line, its need and the limit."""
    engine = FakeEngine(plan=make_plan(max_new_tokens=20), max_context=24)

    trials = record(engine, make_prompts(4))

    errors = {trial.error for trial in trials.values() if trial.failed}
    assert {"prompts.jsonl:4: turn 1 needs 25 tokens of context, the models hold 24"} == errors
    assert 3 * 3 == len(engine.calls)


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_all_arms_continue_the_baseline(sampling):
    """Every arm's later turn follows the reply of the baseline's first repeat."""
    plan = make_plan(num_repeats=2, sampling=sampling)
    engine = FakeEngine(plan=plan)
    talk = make_chat("talk", 2)

    record(engine, [talk])

    first, second = engine.calls[:6], engine.calls[6:]
    baseline = next(call for call in first if call.arm == "baseline")
    answer = engine.observe(baseline.context_ids, BASELINE, baseline.settings).token_ids
    expected = tuple(engine.context_ids(talk, [engine.reply_text(answer)]))
    assert [expected] * 6 == [call.context_ids for call in second]


def test_a_failed_baseline_ends_a_conversation():
    """Without the baseline's reply the later turns are rows that say so."""
    plan = make_plan()
    engine = FakeEngine(
        plan=plan, failures={"talk": RuntimeError("no")}, failing_arms=frozenset({"baseline"})
    )

    trials = record(engine, [make_chat("talk", 3), *make_prompts(1)])

    reasons = {trial.error for key, trial in trials.items() if key.turn > 0}
    assert {
        f"talks.jsonl:talk: turn {turn} follows a reply that the baseline did not give, "
        "or did not give again after an interruption"
        for turn in (2, 3)
    } == reasons
    assert 1 + 6 == sum(trial.failed for trial in trials.values())
    assert not any(trial.failed for key, trial in trials.items() if key.prompt_id == "p0")


def test_a_failed_draft_does_not_end_a_conversation():
    """The later turns need the baseline's reply only."""
    engine = FakeEngine(
        plan=make_plan(),
        failures={"talk": RuntimeError("no")},
        failing_arms=frozenset({"draft k=4"}),
    )

    trials = record(engine, [make_chat("talk", 2)])

    assert {"draft k=4"} == {key.arm for key, trial in trials.items() if trial.failed}


def test_equal_answers_share_an_audit():
    """The target reads an answer once, however many arms gave it."""
    engine = FakeEngine(plan=make_plan(num_repeats=2))

    trials = record(engine, make_prompts(5))

    assert 5 == engine.num_audits
    assert all(trial.audit is not None for trial in trials.values())


def test_an_audit_names_the_first_difference_from_the_baseline():
    """A wrong token is suspect to the target, and marked as a divergence from the baseline."""
    engine = FakeEngine(plan=make_plan(), broken_arms=frozenset({"draft k=4"}))

    trials = record(engine, make_prompts(1))

    (wrong,) = of_arm(trials, "draft k=4")
    (right,) = of_arm(trials, "baseline A/A")
    left = wrong.audit.divergence
    assert (0, 0) == (left.index, wrong.audit.suspects[0].index)
    assert (1.5, 0.25) == (left.gap, left.noise)
    assert (None, ()) == (right.audit.divergence, right.audit.suspects)


def test_sampled_answers_are_audited_against_the_law():
    """A sampled answer need not be the argmax: each is checked by itself, token by token."""
    engine = FakeEngine(plan=make_plan(sampling=SAMPLED))

    trials = record(engine, make_prompts(3)).values()

    assert {None} == {trial.audit for trial in trials}
    assert [trial.num_emitted_tokens for trial in trials] == [
        len(trial.sampled_audit.pit) for trial in trials
    ]
    assert 9 == engine.num_audits


def test_an_audit_owes_nothing_to_the_draws():
    """What randomises a trial's audit has another seed than any trial of the run."""
    plan = make_plan(num_repeats=3)
    keys = planned_keys(plan, make_prompts(20))

    drawn = {trial_seed(plan.seed, key) for key in keys}
    audited = {audit_seed(plan.seed, key) for key in keys}

    assert 2 * len(keys) == len(drawn | audited)


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_an_audit_that_fails_costs_itself(sampling, monkeypatch):
    """The trials stand without a check, and nothing is made up in its place."""
    engine = FakeEngine(plan=make_plan(sampling=sampling))
    monkeypatch.setattr(FakeEngine, "audit", fails)
    monkeypatch.setattr(FakeEngine, "audit_sampled", fails)

    trials = record(engine, make_prompts(2)).values()

    assert [(False, None)] * 6 == [(trial.failed, trial.checks) for trial in trials]


def fails(*_):
    raise RuntimeError("no")


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_chances_are_kept_with_the_text_alone(sampling):
    """Chances tell of text: they stand beside the ids, and without them nowhere."""
    shown, kept = (
        record(FakeEngine(plan=make_plan(sampling=sampling, include_text=wanted)), make_prompts(1))
        for wanted in (True, False)
    )

    assert [(t.num_emitted_tokens, t.key.arm == "draft k=4") for t in shown.values()] == [
        (len(t.checks.token_probs.target), t.checks.token_probs.draft is not None)
        for t in shown.values()
    ]
    assert {None} == {trial.checks.token_probs for trial in kept.values()}


def test_a_prompt_that_does_not_fit_in_memory_is_a_row():
    """One long prompt costs its own trials, not the run."""
    engine = FakeEngine(plan=make_plan(), failures={"p1": OutOfMemory("no room")})

    trials = record(engine, make_prompts(3))

    assert {"no room"} == {trial.error for key, trial in trials.items() if key.prompt_id == "p1"}
    assert 6 == sum(not trial.failed for trial in trials.values())


def test_warm_up_decodes_and_records_nothing():
    """Every arm runs on the middle and the longest prompt before the first trial."""
    engine = FakeEngine(plan=make_plan())
    journal = MemoryJournal()
    prompts = make_prompts(5)

    Recorder(engine.plan, engine, journal).warm_up(prompts)

    lengths = [len(call.context_ids) for call in engine.calls]
    assert [4] * 3 + [6] * 3 == lengths
    assert {} == journal.trials


def test_a_prompt_that_fails_in_the_warm_up_does_not_stop_the_run():
    """It will be a row with its error, like any other."""
    prompts = make_prompts(5)
    engine = FakeEngine(plan=make_plan(), failures={prompts[-1].prompt_id: RuntimeError("no")})

    Recorder(engine.plan, engine, MemoryJournal()).warm_up(prompts)


def test_ids_are_not_kept_by_default():
    """Token ids are text to whoever has the tokenizer: the records hold counts and a digest."""
    trials = recorded_trace(FakeEngine(plan=make_plan()), make_prompts(3)).trials

    assert {None} == {ids for trial in trials for ids in (trial.token_ids, trial.prompt_ids)}
    assert {None} == {
        ids for t in trials for block in t.blocks for ids in (block.draft_ids, block.emitted_ids)
    }


def test_ids_are_kept_on_request():
    """With include_text the blocks' ids add up to the answer that was hashed."""
    engine = FakeEngine(plan=make_plan(include_text=True))
    prompts = make_prompts(3)

    for trial in recorded_trace(engine, prompts).trials:
        emitted = [token for block in trial.blocks for token in block.emitted_ids]
        assert list(trial.token_ids) == emitted
        assert trial.ids_hash == ids_hash(emitted)
        assert all(len(block.draft_ids) == block.num_draft_tokens for block in trial.blocks)


def test_seeds_differ_between_trials():
    """No two trials of a run share a seed, and another plan seed changes them all."""
    plan = make_plan(num_repeats=3)
    keys = planned_keys(plan, [*make_prompts(20), make_chat("talk", 4)])

    seeds = {trial_seed(plan.seed, key) for key in keys}
    others = {trial_seed(plan.seed + 1, key) for key in keys}

    assert 2 * len(keys) == len(seeds | others)


def test_seeds_are_stable():
    """A resumed run, in another process or version, draws what the first one would have drawn."""
    plan = make_plan()
    key = planned_keys(plan, make_prompts(1))[1]

    assert 33_904_378_151_942_976 == trial_seed(plan.seed, key)


def test_seeds_fit_a_generator():
    """Engines take signed 64-bit seeds."""
    plan = make_plan()

    assert all(0 <= trial_seed(plan.seed, k) < 2**63 for k in planned_keys(plan, make_prompts(50)))


class CapturingEngine(FakeEngine):
    """Captures graphs whenever an arm meets a longer context than before: 2 s each time."""

    longest: dict[str, int]

    def __init__(self, plan):
        super().__init__(plan=plan)
        self.longest = {}

    def observe(self, context_ids, arm, settings):
        seen = super().observe(context_ids, arm, settings)
        if len(context_ids) <= self.longest.get(arm.name, 0):
            return seen
        self.longest[arm.name] = len(context_ids)
        return replace(seen, capture_s=2.0)


def test_what_the_warm_up_captured_is_told_once_by_arm():
    """The first trial of an arm tells it; seconds on graphs are neither lost nor told twice."""
    engine = CapturingEngine(make_plan(num_repeats=2))
    prompts = make_prompts(6)
    journal = MemoryJournal()
    recorder = Recorder(engine.plan, engine, journal)
    recorder.warm_up(prompts)
    num_lengths = len({len(engine.context_ids(prompt, [])) for prompt in prompts})
    recorder.record(prompts)

    for arm in engine.plan.arms:
        first, *others = [trial.capture_s for trial in of_arm(journal.trials, arm.name)]

        assert 2.0 * min(2, num_lengths) == first
        assert {None} == set(others)
