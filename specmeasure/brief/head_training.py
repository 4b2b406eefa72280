"""How heads learn and what they know in the end, in words. Formats, never computes."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specmeasure.brief.numbers import NOT_APPLICABLE, NOT_MEASURED, count
from specmeasure.records.heads_training import HeadsCheck, TrainedHeads


def check_line(check: HeadsCheck, num_steps: int, *, seconds_left: float | None) -> str:
    """One check along the training.

    >>> check = HeadsCheck(step=200, training_loss=3.25, losses=(2.0,), top_1=(0.5,), top_5=(0.8,))
    >>> check_line(check, 1000, seconds_left=130.0)
    'step 200 of 1,000: loss 3.25; held out, by head: top-1 50 %, top-5 80 %; 2 min left'
    """
    loss = "" if check.training_loss is None else f" loss {check.training_loss:.2f};"
    left = "" if seconds_left is None else f"; {_time(seconds_left)} left"
    return (
        f"step {check.step:,} of {num_steps:,}:{loss} held out, by head: "
        f"top-1 {_shares(check.top_1)} %, top-5 {_shares(check.top_5)} %{left}"
    )


def training_summary(trained: TrainedHeads) -> RenderableType:
    """Held-out accuracy of finished heads, and what they learnt from."""
    last = trained.checks[-1]
    table = Table(title="Held-out prompts", title_justify="left")
    for name in ("Head", "Top-1", "Top-5", "Nats per token"):
        table.add_column(name, justify="right")
    for head, (top_1, top_5, nats) in enumerate(
        zip(last.top_1, last.top_5, last.losses, strict=True), start=1
    ):
        said = NOT_MEASURED if nats is None else f"{nats:.2f}"
        table.add_row(str(head), _percent(top_1), _percent(top_5), said)
    return Group(Text(_sizes(trained)), table)


def _sizes(trained: TrainedHeads) -> str:
    learnt, held_out = trained.learnt, trained.held_out
    if learnt is None or held_out is None:
        raise ValueError("the training is not finished")
    took = "" if trained.training_s is None else f", {_time(trained.training_s)}"
    return (
        f"{trained.request.settings.num_heads} heads for {trained.target.name}: learnt from "
        f"{count(learnt.num_tokens, 'token')} of {count(learnt.num_prompts, 'prompt')} in "
        f"{count(trained.num_steps or 0, 'step')}{took}; held out: "
        f"{count(held_out.num_tokens, 'token')} of {count(held_out.num_prompts, 'prompt')}."
    )


def _shares(values: Sequence[float | None]) -> str:
    return " ".join(NOT_APPLICABLE if value is None else f"{100 * value:.0f}" for value in values)


def _percent(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %"


def _time(seconds: float) -> str:
    """Whole seconds, minutes or hours: what is left is a guess."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
