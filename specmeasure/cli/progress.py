"""What is said on stderr while something long goes on.

On a terminal: what begins, and below it a line for each arm and a bar with the time left. In a
pipe, a file or a dumb terminal: lines alone, without control codes. Quiet: warnings alone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from specmeasure import api
from specmeasure.brief.progress import progress_table
from specmeasure.errors import RunInterrupted
from specmeasure.records.running import RunningArm

SECONDS_BETWEEN_FRAMES = 0.2
_COMMANDS = {"replay.json": "replay", "training.json": "heads train", "manifest.json": "run"}


@contextmanager
def watched(
    folder: Path | None, *, quiet: bool = False, command: str | None = None
) -> Iterator[api.Watchers]:
    """Watchers that tell of the body on stderr; Ctrl-C ends it with a way to go on.

    Args:
        folder: where something is recorded.
        quiet: say warnings alone.
        command: goes on with it; None: the one that its files tell.
    """
    console = Console(stderr=True)
    try:
        if not quiet and _can_redraw(console):
            with _Screen(console) as screen:
                yield screen.watchers
        else:
            yield _line_by_line(console, quiet=quiet)
    except KeyboardInterrupt:
        raise RunInterrupted(f"interrupted.{_way_on(folder, command)}") from None


def warn(text: str) -> None:
    """Say on stderr what the user should know, quiet or not."""
    _say(Console(stderr=True), f"warning: {text}")


def _line_by_line(console: Console, *, quiet: bool) -> api.Watchers:
    warning = api.Watchers(warning=lambda text: _say(console, f"warning: {text}"))
    if quiet:
        return warning
    return api.Watchers(stage=lambda line: _say(console, line), warning=warning.warning)


def _can_redraw(console: Console) -> bool:
    """A terminal that moves its cursor; FORCE_COLOR, which Rich takes for one, is about colours."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


class _Screen:
    """Arms and a bar at the foot of a terminal.

    Drawn between trials only: no thread of its own wakes up while a trial is timed.
    """

    def __init__(self, console: Console) -> None:
        self._arms: tuple[RunningArm, ...] = ()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            auto_refresh=False,
        )
        self._trials = self._progress.add_task("trials", total=None, visible=False)
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # results are for whoever reads the pipe
            get_renderable=self._frame,
        )
        self._drawn_at = 0.0  # seconds of a clock that never goes back

    @property
    def watchers(self) -> api.Watchers:
        console = self._live.console
        return api.Watchers(
            stage=lambda line: _say(console, line),
            warning=lambda text: _say(console, f"warning: {text}"),
            planned=lambda total: self._progress.reset(self._trials, total=total, visible=True),
            trial=self._count,
            running=self._show,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _count(self) -> None:
        self._progress.advance(self._trials)
        self._draw()

    def _show(self, arms: tuple[RunningArm, ...]) -> None:
        self._arms = arms

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn_at >= SECONDS_BETWEEN_FRAMES:
            self._drawn_at = now
            self._live.refresh()

    def _frame(self) -> RenderableType:
        if not self._arms:
            return self._progress
        return Group(progress_table(self._arms), self._progress)


def _way_on(folder: Path | None, command: str | None) -> str:
    """How to finish what was begun in a folder."""
    if folder is None:
        return ""
    begun = next((own for name, own in _COMMANDS.items() if (folder / name).exists()), None)
    if begun is None:
        return ""
    way = command or begun
    return f" What was recorded is kept; go on with: specmeasure {way} --resume {folder}"
