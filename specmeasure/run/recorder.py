"""Carries out a plan and writes down what happens, trial by trial.

The recorder keeps ids of one turn at a time. After an interruption it decodes again, unrecorded,
what it needs of a half-finished turn, and checks that the answer is the one recorded.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from specmeasure.engines.engine import Engine
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, Plan, TrialKey
from specmeasure.records.trace import (
    Audit,
    Checks,
    Observation,
    SampledAudit,
    TokenProbs,
    TrialRecord,
)
from specmeasure.run.crowding import Meter, Unmetered
from specmeasure.run.failures import Failure, unless_it_fails
from specmeasure.run.grading import is_correct
from specmeasure.run.schedule import group_order, middling_and_longest
from specmeasure.run.trials import (
    audit_seed,
    first_difference,
    ids_hash,
    is_audited,
    labels_of,
    trial_seed,
)

T = TypeVar("T")
Made = TrialRecord | dict[TrialKey, Checks]  # a finished trial, or the checks of a turn's trials


class Journal(Protocol):
    """Where records go; each call is on disk when it returns."""

    def add_trial(self, trial: TrialRecord) -> None:
        """Keep one finished trial."""

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        """Keep the checks of one turn's trials."""


class Unkept:
    """Keeps nothing."""

    def add_trial(self, trial: TrialRecord) -> None:
        """Forget it."""

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        """Forget them."""


@dataclass(slots=True)
class Recorder:
    """Runs every planned trial that is not in the trace yet.

    Args:
        journal: where ``record`` writes; ``measure`` leaves that to who asks for it.
        recorded: trials of earlier sessions, without blocks.
        on_trial: told after each trial, for a progress bar.
        run_code: whether answers may be run to grade them, as a plan may ask.
        meter: looks before and after each trial for other work.
    """

    plan: Plan
    engine: Engine
    journal: Journal = field(default_factory=Unkept)
    recorded: Mapping[TrialKey, TrialRecord] = field(default_factory=dict)
    on_trial: Callable[[TrialKey], None] = lambda _: None
    run_code: bool = False
    meter: Meter = field(default_factory=Unmetered)
    _captured_s: dict[str, float] = field(default_factory=dict)  # by arm, before its first trial

    def warm_up(self, prompts: Sequence[Prompt]) -> None:
        """Decode a middling and the longest prompt with every arm; nothing is kept."""
        lengths = [len(self.engine.context_ids(prompt, [])) for prompt in prompts]
        self.decode_unrecorded(middling_and_longest(prompts, lengths))

    def decode_unrecorded(self, prompts: Sequence[Prompt]) -> None:
        """Decode the first turns of these prompts with every arm."""
        for prompt in prompts:
            ids = self.engine.context_ids(prompt, [])
            settings = self.plan.settings_for(prompt.asked)
            for arm in self.plan.arms:
                seen = unless_it_fails(partial(self.engine.observe, ids, arm, settings))
                if isinstance(seen, Observation) and seen.capture_s is not None:
                    self._captured_s[arm.name] = self._captured_s.get(arm.name, 0) + seen.capture_s

    def capture_s(self, arm: str, seen: Observation) -> float | None:
        """Seconds spent on graphs since the arm's last trial, the warm-up before its first one."""
        warm_up_s = self._captured_s.pop(arm, None)
        if warm_up_s is None:
            return seen.capture_s
        return warm_up_s + (seen.capture_s or 0.0)

    def record(self, prompts: Iterable[Prompt]) -> None:
        """Run the plan over these prompts, in order; one is asked for when the last is finished."""
        for index, prompt in enumerate(prompts):
            for made in self.measure(prompt, index):
                if isinstance(made, TrialRecord):
                    self.journal.add_trial(made)
                else:
                    self.journal.add_checks(made)

    def measure(self, prompt: Prompt, index: int) -> Iterator[Made]:
        """Trials of one prompt that are not in the trace yet, and each turn's checks after them.

        Args:
            prompt: all its turns.
            index: its place in the run, which decides in which order arms take turns.
        """
        replies: list[str | None] = []
        for turn in range(len(prompt.turns)):
            if any(self._is_open(prompt, later) for later in range(turn, len(prompt.turns))):
                replies.append((yield from self._turn(_Turn(self, prompt, turn, replies), index)))
            else:
                for key in self._keys(prompt, turn):
                    self.on_trial(key)

    def _turn(self, group: "_Turn", index: int) -> Generator[Made, None, str | None]:
        """All arms on one turn; returns the baseline's reply for the turns after it."""
        for repeat, arm in group_order(self.plan, index, group.turn):
            key = group.key(repeat, arm.name)
            if key not in self.recorded:
                yield group.trial(key, arm)
            self.on_trial(key)
        checks = group.checks()
        if checks:
            yield checks
        return group.reply() if group.turn + 1 < len(group.prompt.turns) else None

    def _is_open(self, prompt: Prompt, turn: int) -> bool:
        """Whether a trial of this turn is missing, or its audit."""
        return any(
            (trial := self.recorded.get(key)) is None or not (trial.failed or is_audited(trial))
            for key in self._keys(prompt, turn)
        )

    def _keys(self, prompt: Prompt, turn: int) -> list[TrialKey]:
        return [
            TrialKey(prompt_id=prompt.prompt_id, turn=turn, repeat=repeat, arm=arm.name)
            for repeat in range(self.plan.num_repeats)
            for arm in self.plan.arms
        ]


class _Turn:
    """One turn of one prompt: its context, and the answers of its arms while they are needed."""

    def __init__(
        self, recorder: Recorder, prompt: Prompt, turn: int, replies: list[str | None]
    ) -> None:
        self.prompt = prompt
        self.turn = turn
        self._recorder = recorder
        self._replies = replies
        self._context: list[int] | None = None
        self._answers: dict[TrialKey, Observation] = {}
        self._audits: dict[tuple[int, ...], Audit | None] = {}  # equal answers share the passes
        self._grades: dict[tuple[int, ...], bool | None] = {}  # likewise
        self._failed: set[TrialKey] = set()
        self._arms = {arm.name: arm for arm in recorder.plan.arms}
        self._settings = recorder.plan.settings_for(prompt.asked)

    def trial(self, key: TrialKey, arm: Arm) -> TrialRecord:
        """Decode once; a failure of this prompt is a row with its error."""
        meter = self._recorder.meter
        meter.begin()
        seen = self._unless_it_fails(partial(self._observe, key, arm))
        crowding = meter.end()
        if isinstance(seen, Observation):
            self._answers[key] = seen
            return replace(self._record(key, seen), crowding=crowding)
        self._failed.add(key)
        return TrialRecord(
            key=key,
            prompt_hash=self.prompt.content_hash,
            labels=labels_of(self.prompt),
            sampling=self._settings.sampling,
            error=seen.reason,
        )

    def checks(self) -> dict[TrialKey, Checks]:
        """What is found out about each answered trial that was not audited yet."""
        recorded = self._recorder.recorded
        keys = [*self._answers, *(k for k in self._earlier_keys() if not is_audited(recorded[k]))]
        found = {}
        for key in dict.fromkeys(keys):
            seen = self._answer(key)
            if seen is None:
                continue
            checks = Checks(
                audit=self._audit(seen),
                sampled_audit=self._sampled_audit(key, seen),
                is_correct=self._is_correct(seen.token_ids),
                token_probs=self._token_probs(key, seen),
            )
            if checks != Checks():
                found[key] = checks
        return found

    def reply(self) -> str | None:
        """The baseline's answer as text; None when there is none."""
        answer = self._answer(self._baseline_key())
        return None if answer is None else self._recorder.engine.reply_text(answer.token_ids)

    def _earlier_keys(self) -> list[TrialKey]:
        return [
            key
            for repeat in range(self._recorder.plan.num_repeats)
            for name in self._arms
            if (key := self.key(repeat, name)) in self._recorder.recorded
            and not self._recorder.recorded[key].failed
        ]

    def key(self, repeat: int, arm: str) -> TrialKey:
        return TrialKey(prompt_id=self.prompt.prompt_id, turn=self.turn, repeat=repeat, arm=arm)

    def _baseline_key(self) -> TrialKey:
        return self.key(0, self._recorder.plan.arms[0].name)

    def _answer(self, key: TrialKey) -> Observation | None:
        """What a trial showed: kept from this session, or decoded again; None when it is lost."""
        if key not in self._answers and key not in self._failed:
            earlier = self._recorder.recorded.get(key)
            if earlier is None or earlier.failed:
                return None
            again = self._unless_it_fails(partial(self._observe, key, self._arms[key.arm]))
            if isinstance(again, Failure) or ids_hash(again.token_ids) != earlier.ids_hash:
                self._failed.add(key)
            else:
                self._answers[key] = again
        return self._answers.get(key)

    def _unless_it_fails(self, work: Callable[[], T]) -> "T | Failure":
        return unless_it_fails(work, quotes=self._recorder.plan.include_text)

    def _audit(self, seen: Observation) -> Audit | None:
        """Of a greedy answer; None where it, or the baseline's to compare with, is lost."""
        if not self._settings.sampling.is_greedy:
            return None
        baseline, answer = self._answer(self._baseline_key()), seen.token_ids
        if baseline is not None and answer not in self._audits:
            divergence = first_difference(answer, baseline.token_ids)
            self._audits[answer] = self._if_it_works(
                partial(self._engine.audit, self._context_ids(), answer, divergence)
            )
        return self._audits.get(answer)

    def _sampled_audit(self, key: TrialKey, seen: Observation) -> SampledAudit | None:
        if self._settings.sampling.is_greedy:
            return None
        arm = self._arms[key.arm]
        settings = replace(self._settings, seed=audit_seed(self._settings.seed, key))
        return self._if_it_works(
            partial(self._engine.audit_sampled, self._context_ids(), seen, arm, settings)
        )

    def _is_correct(self, answer: tuple[int, ...]) -> bool | None:
        """By the plan's check; None where there is none, or no reference."""
        check = self._recorder.plan.answer_check
        if check is None or (check.runs_code and not self._recorder.run_code):
            return None
        if answer not in self._grades:
            self._grades[answer] = self._if_it_works(
                lambda: is_correct(check, self.prompt, self.turn, self._engine.reply_text(answer))
            )
        return self._grades[answer]

    def _token_probs(self, key: TrialKey, seen: Observation) -> TokenProbs | None:
        if not self._recorder.plan.include_text:
            return None
        arm, sampling = self._arms[key.arm], self._settings.sampling
        return self._if_it_works(
            partial(self._engine.token_probs, self._context_ids(), seen, arm, sampling)
        )

    def _if_it_works(self, work: Callable[[], T]) -> T | None:
        found = self._unless_it_fails(work)
        return None if isinstance(found, Failure) else found

    @property
    def _engine(self) -> Engine:
        return self._recorder.engine

    def _observe(self, key: TrialKey, arm: Arm) -> Observation:
        ids = self._context_ids()
        limit = self._recorder.engine.context_limit(arm)
        wanted = len(ids) + self._settings.max_new_tokens
        if limit is not None and wanted > limit:
            raise UnreadableCorpus(
                f"{self.prompt.source}: turn {self.turn + 1} needs {wanted} tokens of context, "
                f"the models hold {limit}"
            )
        seed = trial_seed(self._settings.seed, key)
        return self._recorder.engine.observe(ids, arm, replace(self._settings, seed=seed))

    def _context_ids(self) -> list[int]:
        if self._context is None:
            replies = [reply for reply in self._replies if reply is not None]
            if len(replies) < self.turn:
                raise UnreadableCorpus(
                    f"{self.prompt.source}: turn {self.turn + 1} follows a reply that the baseline "
                    "did not give, or did not give again after an interruption"
                )
            self._context = self._recorder.engine.context_ids(self.prompt, replies)
        return self._context

    def _record(self, key: TrialKey, seen: Observation) -> TrialRecord:
        keep_text = self._recorder.plan.include_text
        blocks = seen.blocks
        if not keep_text:
            blocks = tuple(replace(block, draft_ids=None, emitted_ids=None) for block in blocks)
        return TrialRecord(
            key=key,
            prompt_hash=self.prompt.content_hash,
            labels=labels_of(self.prompt),
            sampling=self._settings.sampling,
            num_prompt_tokens=seen.num_prompt_tokens,
            num_emitted_tokens=len(seen.token_ids),
            ids_hash=ids_hash(seen.token_ids),
            token_ids=seen.token_ids if keep_text else None,
            prompt_ids=tuple(self._context_ids()) if keep_text else None,
            finish_reason=seen.finish_reason,
            ttft_s=seen.ttft_s,
            decode_s=seen.decode_s,
            model_bytes=seen.model_bytes,
            cache_bytes=seen.cache_bytes,
            peak_memory_bytes=seen.peak_memory_bytes,
            capture_s=self._recorder.capture_s(key.arm, seen),
            blocks=blocks,
        )
