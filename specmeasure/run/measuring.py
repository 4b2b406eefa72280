"""One worker of a run: an engine that measures whole prompts, all arms back to back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from specmeasure.engines.engine import Engine
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan, Sampling, TrialKey
from specmeasure.records.trace import Checks, TrialRecord
from specmeasure.run.crew import Facts, Share
from specmeasure.run.crowding import CpuMeter, Meter
from specmeasure.run.environment import environment, load_average
from specmeasure.run.fitting import Fit, fit_of
from specmeasure.run.recorder import Made, Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPrompts:
    """Say of some prompts whether the models can hold them."""

    place: int  # of the first, among all
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Decode these with every arm; nothing is told."""

    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Measure one prompt: all arms, repeats and turns that are not recorded yet."""

    index: int  # the prompt's place in the run
    prompt: Prompt
    recorded: tuple[TrialRecord, ...] = ()  # whole groups of earlier turns, without blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What ``FitPrompts`` found, prompt by prompt."""

    fits: tuple[Fit, ...]


Task = FitPrompts | WarmUp | Measure
Finding = Fitted | Made


class MeasuringStation:
    """An engine, and what is known of it."""

    def __init__(
        self, plan: Plan, engine: Engine, facts: Facts, *, meter: Meter, run_code: bool = False
    ) -> None:
        self.facts = facts
        self._engine = engine
        self._recorder = Recorder(plan=plan, engine=engine, meter=meter, run_code=run_code)
        limits = [engine.context_limit(arm) for arm in plan.arms]
        self._limit = min((limit for limit in limits if limit is not None), default=None)

    def work(self, task: Task) -> Iterator[Finding]:
        """See ``Station``."""
        match task:
            case FitPrompts():
                plan, limit = self._recorder.plan, self._limit
                fits = (fit_of(prompt, self._engine, plan, limit) for prompt in task.prompts)
                yield Fitted(fits=tuple(fits))
            case WarmUp():
                self._recorder.decode_unrecorded(task.prompts)
            case Measure():
                recorded = {trial.key: trial for trial in task.recorded}
                recorder = replace(self._recorder, recorded=recorded)
                yield from with_checks(recorder.measure(task.prompt, task.index))


def with_checks(made: Iterable[Made]) -> Iterator[Made]:
    """The same, where every turn ends in checks of all its answers: empty ones where they failed.

    Without them a turn that cannot be audited could not be told from one that a death cut short.
    """
    answered: dict[TrialKey, Checks] = {}
    for one in made:
        if isinstance(one, TrialRecord):
            if any(key.turn != one.key.turn for key in answered):
                yield answered
                answered = {}
            if not one.failed:
                answered[one.key] = Checks()
            yield one
        else:
            yield answered | one
            answered = {}
    if answered:
        yield answered


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadsModels:
    """Makes a station of a plan's models, in the process that calls it.

    Args:
        plan: names models and options.
        samplings: all that answers are decoded with.
        run_code: whether answers may be run to grade them.
    """

    plan: Plan
    samplings: tuple[Sampling, ...]
    run_code: bool = False

    def __call__(self, share: Share) -> MeasuringStation:
        """Load them with the cores and accelerators of the share.

        Raises:
            ModelError: with what to do.
        """
        from specmeasure.engines.transformers import TransformersEngine
        from specmeasure.engines.visible_gpus import visible_gpus

        plan = replace(self.plan, options=share.options(self.plan.options))
        load_before, meter = load_average(), CpuMeter()
        engine = TransformersEngine.load(
            plan, most_threads=share.num_cores, samplings=self.samplings
        )
        alone = meter.end() if share.lead is None else None  # others load beside one another
        machine = share.seen(environment(engine.num_threads, load_before, alone), visible_gpus())
        facts = Facts(environment=machine, models=engine.models, warnings=engine.warnings)
        return MeasuringStation(plan, engine, facts, meter=CpuMeter(), run_code=self.run_code)
