"""An engine without tensors, and runs recorded with it.

``FakeEngine`` keeps what a real engine promises: all arms give the same greedy answer to a context,
blocks add up to answers, a seed decides every draw. Its traffic and its machine are stated, so that
true acceptance and true speedup are known (``truth``). It knows nothing of language or of caches.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any

from specmeasure.records.corpus import CorpusOptions, Message, Prompt
from specmeasure.records.decision import Policy
from specmeasure.records.machine import Environment
from specmeasure.records.plan import (
    BASELINE,
    BASELINE_AGAIN,
    Arm,
    DecodeSettings,
    Method,
    Plan,
    Sampling,
    TrialKey,
)
from specmeasure.records.trace import (
    Audit,
    BlockRecord,
    Checks,
    CorpusFacts,
    Divergence,
    FinishReason,
    Manifest,
    ModelFacts,
    Observation,
    Pull,
    SampledAudit,
    Score,
    SuspectToken,
    TokenProbs,
    Trace,
    TrialRecord,
)
from specmeasure.records.tree import TokenTree
from specmeasure.run.recorder import Recorder
from specmeasure.trace import store

EOS, VOCAB_SIZE = 0, 1000
DRAFT_4 = Arm(name="draft k=4", method=Method.DRAFT_MODEL, num_speculative_tokens=4, draft="draft")
DRAFT_2 = Arm(name="draft k=2", method=Method.DRAFT_MODEL, num_speculative_tokens=2, draft="draft")
TREE_8 = Arm(
    name="heads 8",
    method=Method.MEDUSA,
    num_speculative_tokens=8,
    heads="heads",
    tree=TokenTree.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 1)]),
)
NGRAM_4 = Arm(
    name="ngram k=4", method=Method.NGRAM, num_speculative_tokens=4, max_ngram=4, min_ngram=2
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a pass costs, in the words of the cost model."""

    step_s: float = 0.010  # one baseline pass
    draft_ratio: float = 0.1  # c, per draft token
    verify_ratio: float = 1.3  # v, a pass with drafts
    overhead_ratio: float = 0.05  # o, every pass of a speculative arm
    noise: float = 0.02  # standard deviation of the logarithm of a trial's tempo; its mean is 1

    def tempo(self, rng: random.Random) -> float:
        return math.exp(rng.gauss(0, 1) * self.noise - self.noise**2 / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is asked: every prompt draws one length and one acceptance rate, all equally likely."""

    lengths: tuple[int, ...] = tuple(
        max(2, round(math.exp(3.2 + NormalDist().inv_cdf((i + 0.5) / 40)))) for i in range(40)
    )  # tokens until EOS, EOS among them: median 24, mean 39, longest 227
    acceptance_rates: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    ngram_miss_rate: float = 0.5  # passes for which an n-gram arm has no draft

    def miss_rate(self, arm: Arm) -> float:
        return self.ngram_miss_rate if arm.method is Method.NGRAM else 0.0


@dataclass(frozen=True, slots=True)
class _Task:
    """What is decoded, with which arm, at which pace."""

    context: tuple[int, ...]
    arm: Arm
    seed: int
    step_s: float  # of this trial
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Call:
    """One ``observe``."""

    context_ids: tuple[int, ...]
    arm: str
    settings: DecodeSettings

    @property
    def seed(self) -> int:
        return self.settings.seed


@dataclass(slots=True, kw_only=True)
class FakeEngine:
    """Answers, blocks and times from seeds; the same in every process.

    Args:
        plan: arms, sampling and budget.
        seed: another one is another target: other answers.
        failures: what decoding a prompt raises, by prompt id.
        failing_arms: the arms that it fails; None: all.
        broken_arms: arms whose verifier lets a wrong token through.
        max_context: what ``context_limit`` says of every arm.
        observe_sleep_s: real seconds that each ``observe`` takes.
    """

    plan: Plan
    seed: int = 0
    traffic: Traffic = Traffic()
    machine: Machine = Machine()
    failures: Mapping[str, Exception] = field(default_factory=dict)
    failing_arms: frozenset[str] | None = None
    broken_arms: frozenset[str] = frozenset()
    max_context: int | None = None
    observe_sleep_s: float = 0.0
    warnings: tuple[str, ...] = ()
    models: tuple[ModelFacts, ...] = ()
    calls: list[Call] = field(default_factory=list)
    num_audits: int = 0
    _prompt_ids: dict[tuple[int, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [self.plan.target, *dict.fromkeys(a.draft for a in self.plan.arms if a.draft)]
        self.models = tuple(_model_facts(name) for name in names)

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        said = [prompt.text or ""]
        for turn, reply in zip(prompt.turns, (*replies, ""), strict=False):
            said += [message.content for message in turn] + [reply]
        ids = [_word_id(word) for word in " ".join(said).split()]
        self._prompt_ids[tuple(ids)] = prompt.prompt_id
        return ids

    def reply_text(self, token_ids: Sequence[int]) -> str:
        return " ".join(f"w{token}" for token in token_ids if token != EOS)

    def context_limit(self, arm: Arm) -> int | None:  # noqa: ARG002 - the same for all arms
        return self.max_context

    def observe(
        self, context_ids: Sequence[int], arm: Arm, settings: DecodeSettings
    ) -> Observation:
        context, seed = tuple(context_ids), settings.seed
        self.calls.append(Call(context, arm.name, settings))
        time.sleep(self.observe_sleep_s)
        self._fail_if_asked(context, arm)
        answer = self._answer(context, settings)
        if arm.name in self.broken_arms:
            answer = (_other(answer[0]), *answer[1:])
        step_s = self.machine.step_s * self.machine.tempo(self._rng("tempo", context, arm, seed))
        prefill, *passes = self._blocks(
            answer, _Task(context, arm, seed, step_s, settings.max_new_tokens)
        )
        overhead_s = len(passes) * step_s * self.machine.overhead_ratio * (not arm.is_baseline)
        return Observation(
            blocks=(prefill, *passes),
            token_ids=answer,
            num_prompt_tokens=len(context),
            finish_reason=FinishReason.EOS if answer[-1] == EOS else FinishReason.BUDGET,
            ttft_s=prefill.draft_s + prefill.verify_s,
            decode_s=sum(block.draft_s + block.verify_s for block in passes) + overhead_s,
            model_bytes=2**30 + (2**28 if arm.draft else 0),
            cache_bytes=1024 * (len(context) + len(answer)),
            peak_memory_bytes=None,
        )

    def audit(
        self,
        context_ids: Sequence[int],
        token_ids: Sequence[int],
        divergence: Divergence | None,
    ) -> Audit:
        self.num_audits += 1
        own = self._answer(
            tuple(context_ids), DecodeSettings(max_new_tokens=self.plan.max_new_tokens)
        )
        wrong = [i for i, token in enumerate(token_ids) if token != own[i]][:1]
        return Audit(
            num_checked_tokens=len(token_ids),
            suspects=tuple(SuspectToken(index=i, delta=1.5, noise=0.25) for i in wrong),
            divergence=divergence and replace(divergence, gap=1.5, noise=0.25),
        )

    def audit_sampled(
        self, context_ids: Sequence[int], seen: Observation, arm: Arm, settings: DecodeSettings
    ) -> SampledAudit:
        """Scores of a law whose tokens are all equally likely to be judged well or badly.

        A broken arm's tokens all lie in the lower half of the target's law.
        """
        self.num_audits += 1
        rng = self._rng("audit", tuple(context_ids), arm, settings.seed)
        num_tokens = len(seen.token_ids)
        scale = 0.5 if arm.name in self.broken_arms else 1.0

        def score(num: int) -> Score:
            return Score(excess=float(sum(rng.choices((-1, 1), k=num))), variance=float(num))

        num_judged = num_tokens - 1
        return SampledAudit(
            pit=tuple(scale * rng.random() for _ in range(num_tokens)),
            num_impossible=0,
            surprise=score(num_tokens),
            pull=None
            if arm.is_baseline
            else Pull(
                score=score(num_judged),
                shift=0.5 * num_judged,
                num_judged=num_judged,
                total_variation=0.25 * num_judged,
            ),
        )

    def token_probs(
        self,
        context_ids: Sequence[int],  # noqa: ARG002 - the same for all
        seen: Observation,
        arm: Arm,
        sampling: Sampling,  # noqa: ARG002
    ) -> TokenProbs:
        target = (0.5,) * len(seen.token_ids)
        return TokenProbs(target=target, draft=None if arm.draft is None else target)

    def _fail_if_asked(self, context: tuple[int, ...], arm: Arm) -> None:
        error = self.failures.get(self._prompt_ids.get(context, ""))
        if error is not None and (self.failing_arms is None or arm.name in self.failing_arms):
            raise error

    def _answer(self, context: tuple[int, ...], settings: DecodeSettings) -> tuple[int, ...]:
        """Tokens up to and with EOS, or the budget; greedy answers do not depend on the seed."""
        rng = self._rng("answer", context, None if settings.sampling.is_greedy else settings.seed)
        words = rng.choices(range(1, VOCAB_SIZE), k=rng.choice(self.traffic.lengths) - 1)
        return (*words, EOS)[: settings.max_new_tokens]

    def _blocks(self, answer: tuple[int, ...], task: "_Task") -> Iterator[BlockRecord]:
        rate = self._rng("rate", task.context).choice(self.traffic.acceptance_rates)
        rng = self._rng("blocks", task.context, task.arm, task.seed)
        yield BlockRecord(
            num_draft_tokens=0,
            num_accepted_tokens=0,
            num_emitted_tokens=1,
            context_length=0,
            draft_s=task.step_s * self.machine.draft_ratio if task.arm.draft else 0.0,
            verify_s=task.step_s * (1 + len(task.context) / 100),
            draft_ids=(),
            emitted_ids=answer[:1],
        )
        place = 1
        while place < len(answer):
            budget = self._num_drafts(task.arm, task.max_new_tokens - place - 1, rng)
            tree = task.arm.tree and task.arm.tree.down_to(budget)
            most = budget if tree is None else _num_firsts(tree)
            num_right = next((i for i in range(most) if rng.random() >= rate), most)
            coming = answer[place : place + num_right + 1]
            num_kept = min(num_right, len(coming))
            drafts = _nodes(coming, num_kept, tree) if tree else _drafts(coming, num_kept, budget)
            yield BlockRecord(
                num_draft_tokens=len(drafts),
                num_accepted_tokens=num_kept,
                num_emitted_tokens=len(coming),
                context_length=len(task.context) + place - 1,
                draft_s=len(drafts) * task.step_s * self.machine.draft_ratio,
                verify_s=task.step_s * (self.machine.verify_ratio if drafts else 1),
                truncated=num_kept == len(coming),  # an accepted draft was EOS
                draft_depth=None if tree is None else tree.depth,
                draft_ids=drafts,
                emitted_ids=coming,
            )
            place += len(coming)

    def _num_drafts(self, arm: Arm, num_wanted: int, rng: random.Random) -> int:
        if not arm.is_baseline and rng.random() < self.traffic.miss_rate(arm):
            return 0
        return min(arm.draft_depth, num_wanted)

    def _rng(self, *what: object) -> random.Random:
        named = tuple(one.name if isinstance(one, Arm) else one for one in what)
        return random.Random(repr((self.seed, *named)))


@dataclass(slots=True)
class MemoryJournal:
    """Where the recorder writes when a test has no disk."""

    trials: dict[TrialKey, TrialRecord] = field(default_factory=dict)

    def add_trial(self, trial: TrialRecord) -> None:
        assert trial.key not in self.trials
        self.trials[trial.key] = trial

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        for key, found in checks.items():
            self.trials[key] = replace(self.trials[key], checks=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What an estimator would find with endless prompts."""

    decode_speedup: float
    draft_acceptance_rate: float
    mean_acceptance_length: float


def truth(plan: Plan, arm: Arm, traffic: Traffic, machine: Machine) -> Truth:
    """Exact expectations over all lengths and rates of the traffic, by dynamic programming."""
    totals = [0.0, 0.0, 0.0, 0.0]
    num_decoded = 0
    for length, rate in product(traffic.lengths, traffic.acceptance_rates):
        num_decoded += min(length, plan.max_new_tokens) - 1
        expected = _expected_passes(plan, arm, length, rate, traffic.miss_rate(arm))
        totals = [total + part for total, part in zip(totals, expected, strict=True)]
    plain, drafted, drafts, kept = totals
    arm_steps = plain + drafted * machine.verify_ratio + drafts * machine.draft_ratio
    arm_steps += (plain + drafted) * machine.overhead_ratio
    return Truth(
        decode_speedup=num_decoded / arm_steps,
        draft_acceptance_rate=kept / drafts,
        mean_acceptance_length=1 + kept / drafted,
    )


def simulated_trace(
    num_prompts: int,
    *,
    seed: int,
    traffic: Traffic = Traffic(),
    machine: Machine = Machine(),
) -> Trace:
    """A finished run over prompts drawn from the traffic; ``truth`` knows what it should show."""
    run = make_plan()
    engine = FakeEngine(plan=run, seed=seed, traffic=traffic, machine=machine)
    return recorded_trace(engine, make_prompts(num_prompts))


def recorded_trace(engine: FakeEngine, prompts: Sequence[Prompt]) -> Trace:
    """The run of an engine's plan, kept in memory."""
    journal = MemoryJournal()
    Recorder(engine.plan, engine, journal).record(prompts)
    return Trace(
        manifest=make_manifest(engine.plan, prompts, models=engine.models),
        trials=tuple(journal.trials.values()),
        sealed=True,
    )


def record_into(
    folder: Path,
    engine: FakeEngine,
    prompts: Sequence[Prompt],
    on_trial: Callable[[TrialKey], None] = lambda _: None,
) -> None:
    """Start or go on with a run on disk, without sealing it."""
    if not (folder / store.MANIFEST).exists():
        store.create_run(folder, make_manifest(engine.plan, prompts, models=engine.models))
    with store.Journal(folder) as journal:
        journal.drop_torn_line()
        recorded = {trial.key: trial for trial in store.read_trace(folder).trials}
        Recorder(engine.plan, engine, journal, recorded, on_trial).record(prompts)


def make_plan(*arms: Arm, **changes: Any) -> Plan:
    """A greedy plan of a draft arm between two baselines, unless told otherwise."""
    default = (BASELINE, DRAFT_4, BASELINE_AGAIN)
    return Plan(**{"target": "target", "arms": arms or default, "max_new_tokens": 300, **changes})


def make_prompts(num_prompts: int, *, categories: Sequence[str] = ("chat",)) -> list[Prompt]:
    """Completion prompts of different lengths, categories in turn."""
    return [
        Prompt(
            prompt_id=f"p{i}",
            category=categories[i % len(categories)],
            source=f"prompts.jsonl:{i + 1}",
            text=f"question {i}" + " please" * (i % 5),
        )
        for i in range(num_prompts)
    ]


def make_chat(prompt_id: str, num_turns: int) -> Prompt:
    """A conversation of user messages that the baseline answers one by one."""
    return Prompt(
        prompt_id=prompt_id,
        category="talk",
        source=f"talks.jsonl:{prompt_id}",
        messages=tuple(
            Message(role="user", content=f"{prompt_id} asks {turn}") for turn in range(num_turns)
        ),
    )


def make_manifest(plan: Plan, prompts: Sequence[Prompt], **changes: Any) -> Manifest:
    """A manifest of a run of this plan over these prompts."""
    made = Manifest(
        schema_version=store.SCHEMA_VERSION,
        started_at="2026-11-23T18:00:00+00:00",
        argv=("specmeasure", "run"),
        plan=plan,
        corpus=CorpusFacts(
            sources=("/srv/prompts.jsonl",),
            options=CorpusOptions(),
            fingerprint="f" * 64,
            num_prompts=len(prompts),
            files=(),
            dropped=(),
        ),
        environment=make_environment(),
        models=(),
        num_planned_trials=len(planned_keys(plan, prompts)),
        policy=Policy(),
    )
    return replace(made, **changes)


def make_environment(**changes: Any) -> Environment:
    """A quiet machine of four cores."""
    made = Environment(
        versions={"specmeasure": "0.1.0"},
        platform="Linux",
        cpu="a CPU",
        num_cores=4,
        memory_bytes=2**34,
        num_threads=2,
        load_average=0.1,
    )
    return replace(made, **changes)


def planned_keys(plan: Plan, prompts: Sequence[Prompt]) -> list[TrialKey]:
    """Every trial that the plan asks for."""
    return [
        TrialKey(prompt_id=prompt.prompt_id, turn=turn, repeat=repeat, arm=arm.name)
        for prompt in prompts
        for turn in range(len(prompt.turns))
        for repeat in range(plan.num_repeats)
        for arm in plan.arms
    ]


def make_block(num_drafted: int, num_accepted: int, **changes: Any) -> BlockRecord:
    """A block that emits what its counts say, in no time."""
    truncated = bool(changes.get("truncated"))
    values = {
        "num_draft_tokens": num_drafted,
        "num_accepted_tokens": num_accepted,
        "num_emitted_tokens": num_accepted + (not truncated),
        "context_length": 9,
        "draft_s": 0.0,
        "verify_s": 0.0,
    }
    return BlockRecord(**{**values, **changes})


def make_trial(
    prompt_id: str, *blocks: BlockRecord, arm: str = "draft k=4", **changes: Any
) -> TrialRecord:
    """A first turn: the prefill, then these blocks."""
    whole = (make_block(0, 0), *blocks)
    values = {
        "prompt_hash": f"hash of {prompt_id}",
        "labels": {"category": "chat"},
        "num_prompt_tokens": 9,
        "num_emitted_tokens": sum(block.num_emitted_tokens for block in whole),
        "ids_hash": sha256(prompt_id.encode()).hexdigest(),
        "finish_reason": FinishReason.BUDGET,
        "ttft_s": 0.0,
        "decode_s": 1.0,
        "blocks": whole,
    }
    key = TrialKey(prompt_id=prompt_id, turn=0, repeat=0, arm=arm)
    return TrialRecord(key=key, **{**values, **changes})


def _expected_passes(
    plan: Plan, arm: Arm, length: int, rate: float, miss_rate: float
) -> tuple[float, ...]:
    """Expected passes without drafts, passes with, drafts and accepted drafts of one answer."""
    num_emitted = min(length, plan.max_new_tokens)
    nothing = (0.0, 0.0, 0.0, 0.0)
    after = [nothing]  # by tokens left to emit
    for left in range(1, num_emitted):
        budget = plan.max_new_tokens - num_emitted + left
        num_drafts = min(arm.num_speculative_tokens, budget - 1)
        chance_to_draft = 1 - miss_rate if num_drafts else 0.0
        parts = [(1 - chance_to_draft, (1, 0, 0, 0), after[left - 1])]
        for right in range(num_drafts + 1):
            chance = rate**right * (1 if right == num_drafts else 1 - rate)
            parts.append(
                (
                    chance_to_draft * chance,
                    (0, 1, num_drafts, min(right, left)),
                    after[max(0, left - right - 1)],
                )
            )
        after.append(
            tuple(  # type: ignore[arg-type]
                sum(chance * (now[i] + later[i]) for chance, now, later in parts) for i in range(4)
            )
        )
    return after[-1]


def _model_facts(name: str) -> ModelFacts:
    return ModelFacts(
        name=name,
        fingerprint=sha256(name.encode()).hexdigest(),
        num_parameters=1_000_000,
        dtype="float32",
        device="cpu",
        cache="crop",
        vocab_size=VOCAB_SIZE,
    )


def _word_id(word: str) -> int:
    return 1 + int.from_bytes(sha256(word.encode()).digest()[:4], "big") % (VOCAB_SIZE - 1)


def _drafts(coming: Sequence[int], num_kept: int, num_drafts: int) -> tuple[int, ...]:
    """A chain whose first ``num_kept`` drafts are right, the next one wrong."""
    return (*coming[:num_kept], *map(_other, coming[num_kept:]), *[1] * num_drafts)[:num_drafts]


def _num_firsts(tree: TokenTree) -> int:
    """How long the path of first choices is: no other node of a fake tree is ever right."""
    return max(len(path) for path in tree.paths if not any(path))


def _nodes(coming: Sequence[int], num_kept: int, tree: TokenTree) -> tuple[int, ...]:
    """A tree whose first choices are right as far as they are kept; no other node ever is."""
    drafts = []
    for path in tree.paths:
        token = coming[len(path) - 1] if len(path) <= len(coming) else 1
        if any(path) or len(path) > num_kept:
            for _ in range(1 + path[-1]):
                token = _other(token)
        drafts.append(token)
    return tuple(drafts)


def _other(token: int) -> int:
    """Another token, never EOS."""
    return token % (VOCAB_SIZE - 1) + 1
