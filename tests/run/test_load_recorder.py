"""A plan carried out on servers: every window, its records, and what an interruption costs."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from specmeasure.errors import ServerLost, UnreadableCorpus
from specmeasure.estimate.drift import losslessness
from specmeasure.records.plan import BASELINE, AnswerCheck, Sampling
from specmeasure.records.serving import Endpoint, Load
from specmeasure.run.load_recorder import LoadRecorder, _own_limit
from specmeasure.run.measured_window import UNKNOWN, MeasuredWindow
from specmeasure.run.traffic import Traffic
from specmeasure.run.trials import ids_hash, text_hash
from specmeasure.run.watch import Watchers
from specmeasure.run.windows import windows_in_order
from tests.fake_servers import (
    FakeContexts,
    FakeFleet,
    MemoryWindows,
    Pace,
    clock,
    planned_requests,
    run,
    serving_plan,
)
from tests.fakes import DRAFT_4, NGRAM_4, FakeEngine, make_chat, make_prompts

FOLDER = Path("runs/mine")
SAMPLED = Sampling(temperature=0.8)
ARMS = ("baseline", "draft k=4", "baseline A/A")


def recorder_of(plan, journal, fleet=None, **changes):
    given = {
        "plan": plan,
        "fleet": FakeFleet(plan=plan) if fleet is None else fleet,
        "contexts": FakeContexts(),
        "journal": journal,
        "folder": FOLDER,
        "clock": clock,
    }
    return LoadRecorder(**{**given, **changes})


def recorded(plan, prompts, fleet=None, **changes):
    """All records of one session."""
    journal = MemoryWindows()
    run(recorder_of(plan, journal, fleet, **changes).record(prompts))
    return journal


def rounded(record):
    """A record whose times can be compared: they are sums of the same parts in another order."""
    times = ("sent_s", "ttft_s", "decode_s", "duration_s", "mean_in_flight")
    known = {name: getattr(record, name, None) for name in times}
    return replace(
        record, **{name: round(value, 9) for name, value in known.items() if value is not None}
    )


def contents(journal):
    trials = {key: rounded(trial) for key, trial in journal.trials.items()}
    return trials, {key: rounded(window) for key, window in journal.windows.items()}


def of_arm(journal, arm):
    return [trial for key, trial in journal.trials.items() if key.arm == arm]


@pytest.mark.parametrize("keep_apart", [False, True])
@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=str)
def test_every_planned_request_is_recorded_once(keep_apart, sampling):
    """Prompts × turns × rounds × arms × loads, none left out, none twice; progress counts each."""
    plan = serving_plan(
        loads=(Load(concurrency=1), Load(concurrency=5), Load(rate=3.0)),
        keep_apart=keep_apart,
        sampling=sampling,
        num_repeats=2,
    )
    prompts = [*make_prompts(5), make_chat("talk", 3)]
    told = []

    journal = recorded(plan, prompts, watchers=Watchers(trial=lambda: told.append(1)))

    expected = list(planned_requests(plan, prompts))
    assert sorted(map(repr, expected)) == sorted(map(repr, journal.trials))
    assert len(expected) == len(told)
    assert 3 * 3 * 3 == len(journal.windows)


def test_a_trial_keeps_what_the_server_said():
    """Counts, times and hash of a record are the reply's; its place is the window's."""
    plan = serving_plan(loads=(Load(concurrency=2),), num_windows=1)
    fleet = FakeFleet(plan=plan)
    prompts = make_prompts(3)

    journal = recorded(plan, prompts, fleet)

    async def ask_again():
        server = await fleet.server(DRAFT_4)
        return [(ask, await server.ask(ask)) for ask in server.asks[-9:]]

    for trial, (ask, reply) in zip(of_arm(journal, "draft k=4"), run(ask_again()), strict=True):
        assert trial.key.prompt_id == prompts[int(trial.key.prompt_id[1:])].prompt_id
        assert (0, reply.num_retries) == (trial.group, trial.num_retries)
        assert ids_hash(reply.token_ids) == trial.ids_hash
        assert (len(ask.context), len(reply.token_ids)) == (
            trial.num_prompt_tokens,
            trial.num_emitted_tokens,
        )
        assert (reply.counts, reply.finish_reason) == (trial.counts, trial.finish_reason)
        assert (None, None, ()) == (trial.token_ids, trial.prompt_ids, trial.blocks)


def test_a_window_is_the_sum_of_its_trials():
    """Tokens, drafts and seconds in flight of a window are those of its requests."""
    plan = serving_plan()

    journal = recorded(plan, make_prompts(8))

    for key, window in journal.windows.items():
        own = [
            t
            for t in journal.trials.values()
            if (t.key.load, t.group, t.key.arm) == (key.load, key.group, key.arm)
        ]
        emitted = sum(trial.num_emitted_tokens for trial in own)
        assert emitted == window.num_emitted_tokens == window.num_counted_tokens
        ends = [trial.sent_s + trial.ttft_s + trial.decode_s for trial in own]
        assert 0.0 == min(trial.sent_s for trial in own)
        assert pytest.approx(max(ends)) == window.duration_s
        waited = sum(end - trial.sent_s for end, trial in zip(ends, own, strict=True))
        assert pytest.approx(waited / max(ends)) == window.mean_in_flight
        if key.arm == "draft k=4":
            accepted = sum(trial.counts.num_accepted_tokens for trial in own)
            blocks = sum(trial.counts.num_drafted_blocks for trial in own)
            counters = window.counters
            assert (accepted, blocks) == (
                counters.num_accepted_tokens,
                counters.num_drafted_blocks,
            )
        else:
            assert window.counters is None


def test_memory_is_the_most_that_was_seen():
    """Read while requests are under way, not only before and after."""
    plan = serving_plan(loads=(Load(concurrency=3),), num_windows=1, max_new_tokens=12)
    changes = {name: {"pace": Pace(ttft_s=5.0)} for name in ("baseline", "draft k=4")}

    journal = recorded(plan, make_prompts(12), FakeFleet(plan=plan, changes=changes))

    assert {1003} == {window.memory_bytes for window in journal.windows.values()}


def test_counters_that_lag_are_waited_for():
    """The window's tokens are all counted, however late the server writes them down."""
    plan = serving_plan()
    changes = {name: {"counts_after_s": 0.35} for name in ("baseline", "draft k=4")}

    journal = recorded(plan, make_prompts(6), FakeFleet(plan=plan, changes=changes))

    for window in journal.windows.values():
        assert window.num_emitted_tokens == window.num_counted_tokens


def test_arms_agree_when_greedy():
    """All arms and loads give a turn the same answer, and all are the target's own."""
    plan = serving_plan(BASELINE, DRAFT_4, NGRAM_4)
    prompts = [*make_prompts(5), make_chat("talk", 3)]

    trials = recorded(plan, prompts).trials.values()

    assert 8 == len({(t.key.prompt_id, t.key.turn, t.ids_hash) for t in trials})
    found = losslessness(list(trials))
    assert (len(trials), 0) == (found.num_identical, found.num_differing_from_baseline)


def test_the_twin_of_the_baseline_asks_the_same_server():
    """A/A answers are equal, and no second server is started."""
    plan = serving_plan()
    fleet = FakeFleet(plan=plan)

    journal = recorded(plan, make_prompts(4), fleet)

    first, again = (
        {replace(t.key, arm=""): t.ids_hash for t in of_arm(journal, arm)}
        for arm in ("baseline", "baseline A/A")
    )
    assert first == again
    assert ["baseline", "draft k=4"] == fleet.starts


def test_a_server_is_asked_for_its_windows_and_no_more():
    """Equal answers cost no request of an audit, but for those that came before the baseline's."""
    plan = serving_plan(num_windows=1)
    fleet = FakeFleet(plan=plan)
    prompts = make_prompts(5)

    recorded(plan, prompts, fleet)

    warm_ups = 3
    planned = [key for key in planned_requests(plan, prompts) if key.arm != "draft k=4"]
    assert len(planned) + warm_ups == len(fleet.up["baseline"].asks)


@pytest.mark.parametrize("keep_apart", [False, True])
def test_a_broken_arm_is_found(keep_apart):
    """Each of its answers is divergent, at the token that is wrong; nobody else's is."""
    plan = serving_plan(keep_apart=keep_apart)
    fleet = FakeFleet(plan=plan, changes={"draft k=4": {"wrong_at": 1}})

    journal = recorded(plan, make_prompts(6), fleet)

    for arm in ARMS:
        trials = of_arm(journal, arm)
        found = losslessness(trials)
        wrong = [t for t in trials if t.num_emitted_tokens > 1] if arm == "draft k=4" else []
        assert (len(trials), len(wrong)) == (found.num_trials, found.num_divergent)
        assert {1} >= {t.audit.divergence.index for t in wrong}


def test_near_ties_are_no_divergence():
    """An arm that takes the other of two nearly equal tokens is explained by rounding."""
    ties = {"ties_every": 6}
    changes = {"baseline": ties, "draft k=4": {**ties, "breaks_ties": True}}
    plan = serving_plan()

    journal = recorded(plan, make_prompts(12), FakeFleet(plan=plan, changes=changes))

    found = losslessness(of_arm(journal, "draft k=4"))
    assert 0 == found.num_divergent
    assert 0 < found.num_near_tie == found.num_differing_from_baseline


@pytest.mark.parametrize("keep_apart", [False, True])
@pytest.mark.parametrize("num_kept", range(13))
def test_every_cut_ends_in_the_same_run(keep_apart, num_kept):
    """Wherever the first session stopped, the two together recorded what one would have."""
    plan = serving_plan(num_windows=2, keep_apart=keep_apart)
    prompts = [*make_prompts(2), make_chat("talk", 2)]
    changes = {"draft k=4": {"wrong_at": 2}}
    whole = recorded(plan, prompts, FakeFleet(plan=plan, changes=changes))
    told = []

    def interrupt(num_windows):
        if num_windows == num_kept:
            raise asyncio.CancelledError

    first = MemoryWindows(on_window=interrupt)
    try:
        run(recorder_of(plan, first, FakeFleet(plan=plan, changes=changes)).record(prompts))
    except asyncio.CancelledError:
        assert num_kept == len(first.windows) < 12
    earlier = tuple(first.trials.values())
    second = MemoryWindows(trials=first.trials, windows=first.windows)
    run(
        recorder_of(
            plan,
            second,
            FakeFleet(plan=plan, changes=changes),
            recorded=earlier,
            watchers=Watchers(trial=lambda: told.append(1)),
        ).record(prompts)
    )

    assert contents(whole) == contents(second)
    assert len(whole.trials) == len(told)


def test_a_finished_run_asks_nothing():
    """With every window recorded no server is needed."""
    plan = serving_plan()
    prompts = [*make_prompts(3), make_chat("talk", 2)]
    fleet = FakeFleet(plan=plan)
    earlier = tuple(recorded(plan, prompts).trials.values())

    journal = recorded(plan, prompts, fleet, recorded=earlier)

    assert ({}, []) == (journal.windows, fleet.starts)


def test_an_interruption_in_a_window_loses_that_window():
    """Cancelled among its requests, nothing of it is kept, and nothing goes on behind."""
    plan = serving_plan()
    journal = MemoryWindows()
    fleet = FakeFleet(plan=plan)

    async def interrupt():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await recorder_of(plan, journal, fleet).record(make_prompts(6))
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert set() == run(interrupt())
    assert 0 < len(journal.windows) < 18
    assert {0} == {server.num_in_flight for server in fleet.up.values()}


def test_a_lost_server_leaves_a_run_to_resume():
    """What was finished is kept, and the message says how to go on."""
    plan = serving_plan()
    journal = MemoryWindows()
    fleet = FakeFleet(plan=plan, changes={"draft k=4": {"dies_after": 12}})

    with pytest.raises(ServerLost, match=r"draft k=4 died\.\nWhat .* --resume runs/mine"):
        run(recorder_of(plan, journal, fleet).record(make_prompts(6)))

    assert {"baseline", "draft k=4", "baseline A/A"} == {key.arm for key in journal.windows}
    assert len(journal.windows) < 18


def test_all_arms_continue_the_baseline():
    """Later turns follow one reply of the baseline's, at every load and arm."""
    plan = serving_plan(BASELINE, DRAFT_4)
    fleet = FakeFleet(plan=plan, changes={"draft k=4": {"wrong_at": 0}})
    prompts = [make_chat("talk", 2), make_chat("other", 2)]

    recorded(plan, prompts, fleet)

    asked = {
        name: {ask.context for ask in server.asks if not ask.num_logprobs}
        for name, server in fleet.up.items()
    }
    assert asked["baseline"] == asked["draft k=4"]
    assert 4 == len(asked["baseline"])


def test_a_failed_reply_ends_a_conversation():
    """Without the baseline's reply the later turns are rows that say so."""
    plan = serving_plan(loads=(Load(concurrency=2),), num_windows=1)
    talk = make_chat("talk", 2)
    last = FakeContexts().context(talk, 0, ())[-1]
    fleet = FakeFleet(plan=plan, changes={"baseline": {"failures": {last: "400: too long"}}})

    journal = recorded(plan, [talk, make_prompts(2)[1]], fleet)

    reason = "talks.jsonl:talk: turn 2 follows a reply that the baseline did not give"
    assert {reason} == {t.error for k, t in journal.trials.items() if k.turn == 1}
    assert {"400: too long"} == {
        t.error for t in of_arm(journal, "baseline") if (t.key.prompt_id, t.key.turn) == ("talk", 0)
    }
    assert {None} == {t.error for k, t in journal.trials.items() if k.prompt_id == "p1"}


class Refusing(FakeContexts):
    """A chat template that does not like one prompt."""

    def context(self, prompt, turn, replies):
        if prompt.prompt_id == "p1":
            raise UnreadableCorpus("no system role")
        return super().context(prompt, turn, replies)


def test_a_prompt_that_cannot_be_asked_is_a_row():
    """It is not sent, and its reason stands where its numbers would."""
    plan = serving_plan()
    fleet = FakeFleet(plan=plan)

    journal = recorded(plan, make_prompts(3), fleet, contexts=Refusing())

    errors = {key.prompt_id: trial.error for key, trial in journal.trials.items()}
    assert {"p0": None, "p1": "no system role", "p2": None} == errors
    assert all(
        t.group is not None and t.sent_s is None for t in journal.trials.values() if t.failed
    )


def test_a_warm_up_puts_all_servers_under_the_highest_load():
    """As many requests at once as the highest load, the longest among them; none is kept."""
    plan = serving_plan(loads=(Load(concurrency=1), Load(concurrency=4)))
    fleet, journal = FakeFleet(plan=plan), MemoryWindows()
    prompts = make_prompts(20)

    run(recorder_of(plan, journal, fleet).warm_up(prompts))

    assert {"baseline", "draft k=4"} == set(fleet.up)
    for server in fleet.up.values():
        assert (4, 4) == (len(server.asks), server.most_in_flight)
        assert [6, 6] == sorted(len(ask.context) for ask in server.asks)[-2:]
    assert {} == journal.windows


def test_servers_that_are_kept_apart_are_warmed_as_they_come_up():
    """Each start is followed by a warm-up, and each server is started twice at most."""
    plan = serving_plan(BASELINE, DRAFT_4, NGRAM_4, num_windows=4, keep_apart=True)
    fleet = FakeFleet(plan=plan)

    async def all_of_it():
        recorder = recorder_of(plan, MemoryWindows(), fleet)
        await recorder.warm_up(make_prompts(8))
        assert [] == fleet.starts
        await recorder.record(make_prompts(8))

    run(all_of_it())

    assert ["baseline", "draft k=4", "ngram k=4", "draft k=4", "baseline"] == fleet.starts


def test_what_does_not_add_up_is_said_once():
    """Other traffic shows in counters; the user hears of it, and not with every window."""
    plan = serving_plan()
    fleet = FakeFleet(plan=plan, changes={"draft k=4": {"foreign_tokens": 7}})
    said = []

    journal = recorded(plan, make_prompts(6), fleet, watchers=Watchers(warning=said.append))

    assert 1 == len(said)
    assert "drafted tokens" in said[0]
    drafted = [w for key, w in journal.windows.items() if key.arm == "draft k=4"]
    assert all(window.num_counted_tokens > window.num_emitted_tokens for window in drafted)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"restarts_after": 20}, "draft k=4: the server's counter of"),
        ({"torn_looks": range(5, 60)}, "draft k=4: /metrics contradicts itself"),
    ],
)
def test_counters_that_cannot_be_used_leave_their_windows_unknown(change, told):
    """The run goes on, the user hears of it once, and other windows keep their counts."""
    plan = serving_plan()
    fleet = FakeFleet(plan=plan, changes={"draft k=4": change})
    said = []

    journal = recorded(plan, make_prompts(6), fleet, watchers=Watchers(warning=said.append))

    windows = [window for key, window in journal.windows.items() if key.arm == "draft k=4"]
    unknown = [window for window in windows if window.num_counted_tokens is None]
    assert 1 <= len(unknown) <= 2 < len(windows)
    assert all(window.counters is None for window in unknown)
    assert all(window.counters is not None for window in windows if window not in unknown)
    assert 1 == len(said)
    assert said[0].startswith(told)


def test_one_server_before_and_after():
    """Each session records the arms that are there; equal answers are known by their hashes."""
    plan = serving_plan(BASELINE, DRAFT_4)
    prompts = make_prompts(12)
    before = recorded(plan, prompts, arms=(BASELINE,))
    fleet = FakeFleet(plan=plan, changes={"draft k=4": {"wrong_at": 8}})

    after = recorded(plan, prompts, fleet, arms=(DRAFT_4,), recorded=tuple(before.trials.values()))

    assert {"baseline"} == {key.arm for key in before.windows}
    assert {"draft k=4"} == {key.arm for key in after.windows} == set(fleet.starts)
    audited = {(t.num_emitted_tokens > 8, t.audit is not None) for t in after.trials.values()}
    assert {(True, False), (False, True)} == audited


def test_a_server_that_was_set_up_anew_is_no_judge():
    """Under the baseline's URL stands the speculative server now; it would find itself right."""
    endpoints = (Endpoint(arm="baseline", url="http://one"),)
    plan = serving_plan(BASELINE, DRAFT_4, endpoints=endpoints)
    prompts = make_prompts(6)
    before = recorded(plan, prompts, arms=(BASELINE,))
    changes = {name: {"wrong_at": 0} for name in ("baseline", "draft k=4")}

    after = recorded(
        plan,
        prompts,
        FakeFleet(plan=plan, changes=changes),
        recorded=tuple(before.trials.values()),
    )

    assert {None} == {trial.audit for trial in after.trials.values()}


def test_servers_without_ids_are_compared_as_text():
    """The hash is of the text, so that differing answers can be counted; nothing is audited."""
    plan = serving_plan(loads=(Load(concurrency=1),), include_text=True)
    fleet = FakeFleet(
        plan=plan, changes={name: {"gives_ids": False} for name in ("baseline", "draft k=4")}
    )

    trials = recorded(plan, make_prompts(3), fleet).trials.values()

    text = run(text_of(fleet, "p0"))
    assert {text_hash(text)} == {t.ids_hash for t in trials if t.key.prompt_id == "p0"}
    assert {(None, None)} == {(trial.checks, trial.token_ids) for trial in trials}


async def text_of(fleet, prompt_id):
    server = fleet.up["baseline"]
    prompt = next(one for one in make_prompts(3) if one.prompt_id == prompt_id)
    context = FakeContexts().context(prompt, 0, ())
    return (await server.ask(next(ask for ask in server.asks if ask.context == context))).text


def test_ids_are_kept_on_request():
    """With include_text the ids of prompt and answer stand in the record."""
    plan = serving_plan(include_text=True)

    for trial in recorded(plan, make_prompts(3)).trials.values():
        assert trial.ids_hash == ids_hash(trial.token_ids)
        assert trial.num_prompt_tokens == len(trial.prompt_ids)


@pytest.mark.parametrize("is_judged", [False, True])
def test_sampled_answers_are_audited_by_an_engine_of_ours(is_judged):
    """Token by token against the target's law; without an engine they are not audited."""
    plan = serving_plan(sampling=SAMPLED)
    judge = FakeEngine(plan=plan) if is_judged else None

    trials = recorded(plan, make_prompts(3), judge=judge).trials.values()

    lengths = [t.sampled_audit and len(t.sampled_audit.pit) for t in trials]
    assert [t.num_emitted_tokens if is_judged else None for t in trials] == lengths
    assert {None} == {trial.audit for trial in trials}


def test_draws_differ_between_loads():
    """A prompt is sampled anew at each load, arm and round: no two seeds are equal."""
    plan = serving_plan(sampling=SAMPLED, num_repeats=2)
    fleet = FakeFleet(plan=plan)

    journal = recorded(plan, make_prompts(4), fleet)

    seeds = {ask.settings.seed for server in fleet.up.values() for ask in server.asks}
    assert len(seeds) >= len(journal.trials)


def test_answers_are_graded():
    """By the plan's check, from what the answer says; prompts without a reference are not."""
    plan = serving_plan(answer_check=AnswerCheck.CONTAINS)
    right, wrong, open_one = make_prompts(3)
    prompts = [
        replace(right, references=("w",)),
        replace(wrong, references=("nowhere",)),
        open_one,
    ]

    trials = recorded(plan, prompts).trials.items()

    assert {"p0": True, "p1": False, "p2": None} == {
        key.prompt_id: trial.checks.is_correct for key, trial in trials
    }


def test_a_client_that_is_the_limit_is_told():
    """What reading takes here is weighed against the window's length."""
    busy, idle = (
        MeasuredWindow(
            window=windows_in_order(serving_plan(), make_prompts(2))[0],
            planned=(),
            traffic=Traffic(exchanges=()),
            counted=UNKNOWN,
            memory_bytes=None,
            client_share=share,
        )
        for share in (0.9, 0.2)
    )

    (sentence,) = _own_limit(busy)
    assert "took 90% of a core here" in sentence
    assert () == _own_limit(idle)
