"""Trains heads in a folder: the answers, the steps, the checks, and what is kept in between.

    parts/                   the target's answers with token ids, readable by their owner alone
    checkpoint.safetensors   weights and optimiser after some step
    training.json            what was asked for; once finished, what came of it
    config.json, medusa_lm_head.safetensors    the heads, as FasterDecoding names them
    vllm/                    the same heads, as vLLM names them

Answers and checkpoint go once the heads are there.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from specmeasure.brief.head_training import check_line
from specmeasure.decode.teacher import Finished
from specmeasure.engines.head_checkpoints import load_checkpoint, save_checkpoint
from specmeasure.engines.heads import save_heads
from specmeasure.engines.heads_training import HeadTrainer
from specmeasure.engines.replay import ReplayEngine
from specmeasure.errors import InsufficientEvidence
from specmeasure.records.corpus import Prompt
from specmeasure.records.heads import HeadsLayout
from specmeasure.records.heads_training import ExampleCounts, HeadsCheck, TrainedHeads
from specmeasure.records.replay import Answer, ReplayRequest
from specmeasure.run.answering import Answerer
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace.replays import ReplayJournal, drop_parts
from specmeasure.trace.store import plain, write_whole

TRAINING, CHECKPOINT, VLLM = "training.json", "checkpoint.safetensors", "vllm"
HEAD_FILES = (
    *("config.json", "medusa_lm_head.safetensors"),
    *(f"{VLLM}/config.json", f"{VLLM}/model.safetensors"),
)
FEW_TOKENS = 20_000  # of answers; with fewer, the heads learn these answers rather than the target


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Answers by the side that their prompts fell on."""

    learnt: tuple[Answer, ...]
    held_out: tuple[Answer, ...]


def split_answers(answers: Sequence[Answer], held_out_share: float) -> Split:
    """Hold out the share of prompts, at least one, whose contents have the smallest digests.

    Prompts of the same content, and all turns of a prompt, fall on one side.

    Raises:
        InsufficientEvidence: there is one prompt alone.
    """
    digests = sorted({answer.prompt_hash for answer in answers})
    if len(digests) < 2:
        raise InsufficientEvidence(
            "one prompt alone has an answer: heads need prompts to learn from and others to be "
            "checked on. Give more prompts."
        )
    num_held_out = min(len(digests) - 1, max(1, round(held_out_share * len(digests))))
    apart = set(digests[:num_held_out])
    return Split(
        learnt=tuple(one for one in answers if one.prompt_hash not in apart),
        held_out=tuple(one for one in answers if one.prompt_hash in apart),
    )


class _Progress(msgspec.Struct):
    """What a checkpoint notes beside the weights."""

    checks: list[HeadsCheck]
    losses: list[float]  # of steps since the last check
    seconds: float  # of these steps and checks


@dataclass(slots=True)
class HeadsTraining:
    """One training in its folder; goes on from what is there."""

    engine: ReplayEngine
    folder: Path
    watchers: Watchers = SILENT

    def train(self, trained: TrainedHeads, prompts: Sequence[Prompt]) -> TrainedHeads:
        """Answer, train, save; returns what is then in training.json.

        Raises:
            UsageError: a checkpoint of other heads, or answers that are too short.
            BrokenLogits: the loss is no number.
        """
        with ReplayJournal(self.folder) as journal:
            trained, split = self._answers(trained, prompts, journal)
            plan = trained.request.request.plan
            trainer = HeadTrainer(
                self.engine.loaded.target,
                _finished(split.learnt),
                _finished(split.held_out),
                trained.request.settings,
                seed=plan.seed,
            )
            trained = replace(trained, num_steps=trainer.num_steps)
            write_trained(self.folder, trained)
            progress = self._train(trainer)
            self._save(trainer, plan.target)
        finished = replace(
            trained,
            checks=tuple(progress.checks),
            training_s=progress.seconds,
            is_finished=True,
        )
        write_trained(self.folder, finished)
        drop_work(self.folder)
        return finished

    def _answers(
        self, trained: TrainedHeads, prompts: Sequence[Prompt], journal: ReplayJournal
    ) -> tuple[TrainedHeads, Split]:
        """The answers of both sides; those that an earlier session kept are not given again."""
        asked = trained.request
        self.watchers.planned(sum(len(prompt.turns) for prompt in prompts))
        self.watchers.stage(
            "reading recorded responses" if asked.use_references else "the target answers"
        )
        answerer = Answerer(
            ReplayRequest(
                request=asked.request,
                use_references=asked.use_references,
                batch_size=asked.answers_at_once,
            ),
            self.engine,
            journal,
            self.watchers,
        )
        answers = [journal.answer(one.key) for one in answerer.answers(prompts)]
        split = split_answers(answers, asked.settings.held_out_share)
        trained = replace(
            trained,
            left_out=answerer.left_out,
            learnt=_counts(split.learnt),
            held_out=_counts(split.held_out),
            held_out_prompts=tuple(dict.fromkeys(one.key.prompt_id for one in split.held_out)),
        )
        num_tokens = sum(one.num_tokens for one in split.learnt)
        if num_tokens < FEW_TOKENS:
            self.watchers.warning(
                f"heads learn from {num_tokens:,} tokens; with fewer than {FEW_TOKENS:,} they know "
                "these answers rather than the target. Give more prompts."
            )
        return trained, split

    def _train(self, trainer: HeadTrainer) -> _Progress:
        """All steps that are left."""
        progress = self._begun(trainer)
        self.watchers.stage(f"training, {trainer.num_steps:,} steps")
        self.watchers.planned(trainer.num_steps)
        for _ in range(trainer.step):
            self.watchers.trial()
        if not progress.checks:
            self._check(trainer, progress, None)
        with _interrupts_held() as is_interrupted:
            pace = _Pace(trainer)
            while trainer.step < trainer.num_steps:
                started = time.perf_counter()
                progress.losses.append(trainer.take_step())
                self.watchers.trial()
                if trainer.step in trainer.check_steps:
                    self._check(trainer, progress, pace.seconds_left)
                progress.seconds += time.perf_counter() - started
                self._keep(trainer, progress, now=is_interrupted())
        return progress

    def _begun(self, trainer: HeadTrainer) -> _Progress:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return _Progress(checks=[], losses=[], seconds=0.0)
        notes = load_checkpoint(path, trainer)
        self.watchers.stage(f"going on after step {trainer.step:,}")
        return msgspec.json.decode(notes["progress"], type=_Progress)

    def _check(self, trainer: HeadTrainer, progress: _Progress, seconds_left: float | None) -> None:
        losses = progress.losses
        progress.checks.append(trainer.check(sum(losses) / len(losses) if losses else None))
        progress.losses = []
        self.watchers.stage(
            check_line(progress.checks[-1], trainer.num_steps, seconds_left=seconds_left)
        )

    def _keep(self, trainer: HeadTrainer, progress: _Progress, *, now: bool) -> None:
        """Write a checkpoint where one is due, or ``now``.

        Raises:
            KeyboardInterrupt: the user asked for it before; the checkpoint is written.
        """
        if now or trainer.step % trainer.settings.steps_per_checkpoint == 0:
            notes = {"progress": msgspec.json.encode(progress).decode()}
            save_checkpoint(self.folder / CHECKPOINT, trainer, notes)
        if now:
            raise KeyboardInterrupt

    def _save(self, trainer: HeadTrainer, target: str) -> None:
        """Both layouts."""
        heads = trainer.halved_heads()
        save_heads(heads, self.folder, base_model=target, layout=HeadsLayout.MEDUSA)
        save_heads(heads, self.folder / VLLM, base_model=target, layout=HeadsLayout.VLLM)


def begin_training(folder: Path, trained: TrainedHeads) -> None:
    """State a new training in its folder; what an earlier one left there goes."""
    folder.mkdir(parents=True, exist_ok=True)
    with ReplayJournal(folder):
        for name in HEAD_FILES:
            (folder / name).unlink(missing_ok=True)
        drop_work(folder)
        write_trained(folder, trained)


def write_trained(folder: Path, trained: TrainedHeads) -> None:
    """Keep what is known of a training."""
    write_whole(folder / TRAINING, plain(trained))


def drop_work(folder: Path) -> None:
    """Remove what finished heads no longer need: answers and checkpoint."""
    drop_parts(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)


class _Pace:
    """Seconds that the rest takes, as fast as since this was made."""

    def __init__(self, trainer: HeadTrainer) -> None:
        self._trainer = trainer
        self._first_step = trainer.step
        self._started = time.perf_counter()

    @property
    def seconds_left(self) -> float:
        elapsed_s = time.perf_counter() - self._started
        num_done = self._trainer.step - self._first_step
        return elapsed_s / num_done * (self._trainer.num_steps - self._trainer.step)


@contextmanager
def _interrupts_held() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the step in hand ends first; pressed twice, it does not."""
    pressed: list[int] = []

    def note(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # handlers are the main thread's; Ctrl-C is, too
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def _counts(answers: Sequence[Answer]) -> ExampleCounts:
    return ExampleCounts(
        num_prompts=len({one.key.prompt_id for one in answers}),
        num_answers=len(answers),
        num_tokens=sum(one.num_tokens for one in answers),
    )


def _finished(answers: Sequence[Answer]) -> list[Finished]:
    return [
        Finished(context_ids=one.prompt_ids or (), token_ids=one.token_ids or ()) for one in answers
    ]
