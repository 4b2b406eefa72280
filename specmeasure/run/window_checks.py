"""What is found out about a window's answers after their times were taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from specmeasure.engines.engine import Engine
from specmeasure.records.plan import BASELINE, Arm, Method, Plan, TrialKey
from specmeasure.records.trace import Audit, Checks, SampledAudit, TrialRecord
from specmeasure.run.auditing import observed
from specmeasure.run.failures import Failure, unless_it_fails
from specmeasure.run.grading import is_correct
from specmeasure.run.requests import Contexts, ids_of
from specmeasure.run.server_audit import Answered, Question, ServerAuditor
from specmeasure.run.traffic import Clock
from specmeasure.run.trials import audit_seed
from specmeasure.run.window_records import Sent, answer_hash
from specmeasure.servers.server import Reply, Server


@dataclass(slots=True, kw_only=True)
class WindowChecks:
    """Grades and audits answers; of greedy ones the baseline's server is the judge.

    Args:
        plan: what is checked, and the arms.
        contexts: tells what an answer says.
        num_at_once: requests of audits in flight, at most.
        clock: that replies are timed by.
        judge: an engine in this process whose target judges sampled answers; None: they are not.
        run_code: whether answers may be run to grade them.
        recorded: trials of earlier sessions: the baseline's answers among them are known by hash.
    """

    plan: Plan
    contexts: Contexts
    num_at_once: int
    clock: Clock
    judge: Engine | None = None
    run_code: bool = False
    recorded: Sequence[TrialRecord] = ()
    _auditor: ServerAuditor = field(init=False)
    _known: set[tuple[Question, str]] = field(init=False)  # the baseline's answers
    _grades: dict[tuple[Question, str], bool | None] = field(default_factory=dict)
    _arms: Mapping[str, Arm] = field(init=False)

    def __post_init__(self) -> None:
        self._auditor = ServerAuditor(self.num_at_once, self.clock)
        self._arms = {arm.name: arm for arm in self.plan.arms}
        self._known = {
            (_question(trial.key), trial.ids_hash)
            for trial in self.recorded
            if self._arms[trial.key.arm].is_baseline
            and trial.ids_hash is not None
            and trial.audit is not None
            and not trial.audit.suspects
        }

    @property
    def num_asked(self) -> int:
        """Answers for which the baseline's server was asked anything."""
        return self._auditor.num_asked

    def by_themselves(self, sent: Sequence[Sent]) -> dict[TrialKey, Checks]:
        """Whatever needs no server: grades, and audits of sampled answers."""
        return {
            one.planned.key: Checks(
                sampled_audit=self._sampled_audit(one, reply), is_correct=self._grade(one, reply)
            )
            for one in sent
            if (reply := one.exchange.reply) is not None
        }

    async def audits(self, server: Server | None, sent: Sequence[Sent]) -> dict[TrialKey, Audit]:
        """Of greedy answers in ids to contexts in ids; others cannot be read.

        Args:
            server: the baseline's; None: it is not there, and only answers that are known to be
                the baseline's own are audited.
            sent: requests of one arm.

        Raises:
            ServerLost: it died.
        """
        found: dict[TrialKey, Audit] = {}
        unknown: dict[TrialKey, Answered] = {}
        for one in sent:
            answered, key = _answered(one), one.planned.key
            if answered is None or one.exchange.reply is None:
                continue
            if self._arms[key.arm].is_baseline:
                self._auditor.remember(answered.question, answered.token_ids)
            if (answered.question, answer_hash(one.exchange.reply)) in self._known:
                found[key] = Audit(num_checked_tokens=len(answered.token_ids), suspects=())
            else:
                unknown[key] = answered
        if server is not None:
            audits = await self._auditor.read(server, list(unknown.values()))
            pairs = zip(unknown, audits, strict=True)
            found |= {key: audit for key, audit in pairs if audit is not None}
        return found

    def _grade(self, one: Sent, reply: Reply) -> bool | None:
        """By the plan's check; None where there is none, or no reference."""
        check, planned = self.plan.answer_check, one.planned
        if check is None or (check.runs_code and not self.run_code):
            return None
        place = (_question(planned.key), answer_hash(reply))
        if place not in self._grades:
            grade = unless_it_fails(
                lambda: is_correct(
                    check, planned.prompt, planned.key.turn, self.contexts.reply_text(reply)
                )
            )
            self._grades[place] = None if isinstance(grade, Failure) else grade
        return self._grades[place]

    def _sampled_audit(self, one: Sent, reply: Reply) -> SampledAudit | None:
        ask = one.planned.ask
        ids = None if ask is None else ids_of(ask.context)
        answer, judge = reply.token_ids, self.judge
        settings = one.planned.settings
        if judge is None or ids is None or answer is None or settings.sampling.is_greedy:
            return None
        arm = self._arms[one.planned.key.arm]
        drafting = arm if arm.method is Method.DRAFT_MODEL else BASELINE
        seen = observed(ids, answer, is_drafted=not drafting.is_baseline)
        own = replace(settings, seed=audit_seed(self.plan.seed, one.planned.key))
        found = unless_it_fails(lambda: judge.audit_sampled(ids, seen, drafting, own))
        return None if isinstance(found, Failure) else found


def _answered(one: Sent) -> Answered | None:
    """A greedy answer in ids to a context in ids."""
    ask, reply = one.planned.ask, one.exchange.reply
    if ask is None or reply is None or reply.token_ids is None:
        return None
    if not one.planned.settings.sampling.is_greedy or ids_of(ask.context) is None:
        return None
    return Answered(question=_question(one.planned.key), ask=ask, token_ids=reply.token_ids)


def _question(key: TrialKey) -> Question:
    return (key.prompt_id, key.turn)
