"""Carries out a plan on servers and writes down what happens, window by window.

A window is on disk as a whole, its trials' checks with it: an interruption loses the one in flight.
Where servers are kept apart, answers wait for the baseline's server to be audited; those whose
audit an interruption lost are asked for again, unrecorded, and audited if they are the same.
"""

import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from specmeasure.engines.engine import Engine
from specmeasure.errors import ServerLost, ServerNotStarted
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, Plan, TrialKey
from specmeasure.records.serving import Load, Serving
from specmeasure.records.trace import (
    Audit,
    Checks,
    DraftCounts,
    TrialRecord,
    WindowKey,
    WindowRecord,
)
from specmeasure.run.measured_window import MeasuredWindow, Stopwatch
from specmeasure.run.requests import Contexts, Requests
from specmeasure.run.traffic import Clock
from specmeasure.run.warm_servers import WarmServers
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.run.window_checks import WindowChecks
from specmeasure.run.window_records import Sent, answer_hash, sent_requests
from specmeasure.run.windows import Window, windows_in_order
from specmeasure.servers.counts import cross_check
from specmeasure.servers.server import Fleet, Server

MOST_CLIENT_SHARE = 0.7  # of one core, before it is said that the client may be the limit
AT_ONCE_IN_OPEN_LOOPS = 8  # requests in flight outside windows, where no load names a number


class WindowJournal(Protocol):
    """Where records go; each call is on disk when it returns."""

    def add_window(self, window: WindowRecord, trials: Sequence[TrialRecord]) -> None:
        """Keep a finished window and its trials."""

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        """Keep checks of trials that were kept before."""


@dataclass(slots=True, kw_only=True)
class LoadRecorder:
    """Runs every planned window that is not in the trace yet.

    Args:
        plan: with ``serving``.
        fleet: the arms' servers.
        contexts: turns prompts into what servers are sent.
        journal: keeps what is found.
        folder: of the run; the message about a lost server names it.
        recorded: trials of earlier sessions.
        arms: those whose servers are there now; None: all.
        judge: an engine in this process that audits sampled answers; None: they are not audited.
        run_code: whether answers may be run to grade them, as a plan may ask.
        watchers: told what happens.
        clock: that replies are timed by.
    """

    plan: Plan
    fleet: Fleet
    contexts: Contexts
    journal: WindowJournal
    folder: Path
    recorded: Sequence[TrialRecord] = ()
    arms: Sequence[Arm] | None = None
    judge: Engine | None = None
    run_code: bool = False
    watchers: Watchers = SILENT
    clock: Clock = time.perf_counter
    _requests: Requests = field(init=False)
    _servers: WarmServers = field(init=False)
    _stopwatch: Stopwatch = field(init=False)
    _checks: WindowChecks = field(init=False)
    _earlier: dict[WindowKey, dict[TrialKey, TrialRecord]] = field(init=False)
    _unread: list["_Unread"] = field(default_factory=list)
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._requests = Requests(self.plan, self.contexts)
        self._servers = WarmServers(
            fleet=self.fleet,
            requests=self._requests,
            num_at_once=self._num_at_once,
            clock=self.clock,
        )
        self._stopwatch = Stopwatch(plan=self.plan, clock=self.clock)
        self._checks = WindowChecks(
            plan=self.plan,
            contexts=self.contexts,
            num_at_once=self._num_at_once,
            clock=self.clock,
            judge=self.judge,
            run_code=self.run_code,
            recorded=self.recorded,
        )
        self._earlier = _by_window(self.recorded)

    async def warm_up(self, prompts: Sequence[Prompt]) -> None:
        """Put every server under the highest load once; nothing is kept.

        Servers that are kept apart are warmed as they come up.

        Raises:
            ServerError: one does not start, or dies.
        """
        for arm in () if self._serving.keep_apart else self._arms:
            await self._servers.server(arm, prompts)

    async def record(self, prompts: Sequence[Prompt]) -> None:
        """Run all windows over these prompts, in order.

        Raises:
            ServerNotStarted: with its last lines of log.
            ServerLost: what was finished is kept.
        """
        try:
            await self._record(prompts)
        except (ServerLost, ServerNotStarted) as error:
            raise type(error)(
                f"{error}\nWhat was recorded before is kept; go on with --resume {self.folder}"
            ) from error

    async def _record(self, prompts: Sequence[Prompt]) -> None:
        order = [one for one in windows_in_order(self.plan, prompts) if one.arm in self._arms]
        if any(one.key not in self._earlier or self._to_read(one) for one in order):
            await self._gather_replies(prompts)
        load: Load | None = None
        for window in order:
            if window.load != load:
                load = window.load
                self.watchers.stage(f"at {load}")
            if window.key in self._earlier:
                await self._go_over(window, prompts)
            else:
                await self._record_window(window, prompts)
        if self._unread:
            await self._read(await self._servers.server(self.plan.arms[0], prompts))

    async def _gather_replies(self, prompts: Sequence[Prompt]) -> None:
        """Of the first arm at hand, which is the baseline unless its server is gone."""
        talks = [prompt for prompt in prompts if len(prompt.turns) > 1]
        if talks:
            self.watchers.stage("answering the turns that others follow")
            await self._requests.gather_replies(
                await self._servers.server(self._arms[0], prompts),
                talks,
                num_at_once=self._num_at_once,
                clock=self.clock,
            )

    async def _record_window(self, window: Window, prompts: Sequence[Prompt]) -> None:
        server = await self._servers.server(window.arm, prompts)
        planned = self._requests.of_window(window)
        measured = await self._stopwatch.measure(
            server, window, planned, lambda: self.fleet.memory_bytes(window.arm)
        )
        self._say_once((*measured.doubts, *_own_limit(measured)))
        self._say_once(_disagreements(measured.sent, measured.counted.drafts))
        checks = await self._checked(window, measured.sent)
        trials = measured.trials(checks, keep_ids=self.plan.include_text)
        self.journal.add_window(measured.record, trials)
        for _ in trials:
            self.watchers.trial()
        if self._unread and window.arm.is_baseline:
            await self._read(server)

    async def _checked(self, window: Window, sent: Sequence[Sent]) -> dict[TrialKey, Checks]:
        """All checks, but for audits that wait for the baseline's server to come up."""
        found = self._checks.by_themselves(sent)
        if self._serving.keep_apart and not window.arm.is_baseline:
            self._unread.append(_Unread(sent=tuple(sent), found=found))
        else:
            judge = await self._judge_of(window.arm)
            audits = await self._audits(judge, sent)
            found = {key: replace(one, audit=audits.get(key)) for key, one in found.items()}
        return {key: checks for key, checks in found.items() if checks != Checks()}

    async def _judge_of(self, arm: Arm) -> Server | None:
        """The baseline's server; None where it is gone: set up anew, it would judge itself."""
        baseline = self.plan.arms[0]
        is_gone = self._serving.is_before_and_after and not arm.is_baseline
        return None if is_gone or baseline not in self._arms else await self.fleet.server(baseline)

    async def _read(self, baseline: Server) -> None:
        """Audit what waited for the baseline's server."""
        while self._unread:
            waiting = self._unread[0]
            audits = await self._audits(baseline, waiting.sent)
            if audits:
                self.journal.add_checks(
                    {key: replace(waiting.found[key], audit=one) for key, one in audits.items()}
                )
            del self._unread[0]

    async def _audits(self, baseline: Server | None, sent: Sequence[Sent]) -> dict[TrialKey, Audit]:
        num_asked = self._checks.num_asked
        audits = await self._checks.audits(baseline, sent)
        if baseline is not None and self._checks.num_asked > num_asked:
            self._stopwatch.forget(baseline)
        return audits

    async def _go_over(self, window: Window, prompts: Sequence[Prompt]) -> None:
        """Count a recorded window, and have answers given again whose audit was lost."""
        earlier = self._earlier[window.key]
        for _ in earlier:
            self.watchers.trial()
        unread = self._to_read(window)
        if not unread:
            return
        server = await self._servers.server(window.arm, prompts)
        planned = [one for one in self._requests.of_window(window) if one.key in unread]
        again = sent_requests(planned, await self._stopwatch.send(server, window, planned))
        self._stopwatch.forget(server)
        same = tuple(
            one
            for one in again
            if one.exchange.reply is not None
            and answer_hash(one.exchange.reply) == earlier[one.planned.key].ids_hash
        )
        found = {one.planned.key: earlier[one.planned.key].checks or Checks() for one in same}
        self._unread.append(_Unread(sent=same, found=found))

    def _to_read(self, window: Window) -> set[TrialKey]:
        """Greedy answers of a recorded window that still waited when the session ended."""
        if not self._serving.keep_apart or window.arm.is_baseline:
            return set()
        return {
            key
            for key, trial in self._earlier.get(window.key, {}).items()
            if trial.sampling.is_greedy and not trial.failed and trial.audit is None
        }

    def _say_once(self, sentences: Sequence[str]) -> None:
        """Warn, once of each kind: sentences that differ in their numbers alone are of one."""
        for sentence in sentences:
            kind = re.sub(r"\d+", "", sentence)
            if kind not in self._said:
                self._said.add(kind)
                self.watchers.warning(sentence)

    @property
    def _serving(self) -> Serving:
        if self.plan.serving is None:
            raise ValueError("a plan without servers has no windows")
        return self.plan.serving

    @property
    def _arms(self) -> Sequence[Arm]:
        return self.plan.arms if self.arms is None else self.arms

    @property
    def _num_at_once(self) -> int:
        return max(load.concurrency or AT_ONCE_IN_OPEN_LOOPS for load in self._serving.loads)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unread:
    """Answers of a window that wait for the baseline's server."""

    sent: tuple[Sent, ...]
    found: Mapping[TrialKey, Checks]  # what is known of them already


def _disagreements(sent: Sequence[Sent], counters: DraftCounts | None) -> tuple[str, ...]:
    """Where requests and counters do not agree."""
    replies = [one.exchange.reply for one in sent]
    counts = [reply.counts for reply in replies if reply is not None and reply.counts]
    if not counts:
        return ()
    return cross_check(counts, counters if len(counts) == len(replies) else None)


def _own_limit(measured: MeasuredWindow) -> tuple[str, ...]:
    """A baseline streams more pieces a token than speculation does: a busy reader flatters that."""
    if measured.client_share <= MOST_CLIENT_SHARE:
        return ()
    share, window = measured.client_share, measured.window
    sentence = (
        f"reading the answers of {window.arm.name} took {share:.0%} of a core here at "
        f"{window.load}: this machine, not the server, may be the limit. Measure from another one."
    )
    return (sentence,)


def _by_window(trials: Sequence[TrialRecord]) -> dict[WindowKey, dict[TrialKey, TrialRecord]]:
    found: defaultdict[WindowKey, dict[TrialKey, TrialRecord]] = defaultdict(dict)
    for trial in trials:
        if trial.key.load is not None and trial.group is not None:
            key = WindowKey(load=trial.key.load, group=trial.group, arm=trial.key.arm)
            found[key][trial.key] = trial
    return dict(found)
