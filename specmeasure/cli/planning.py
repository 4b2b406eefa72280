"""A measurement plan on the terminal, and the file that `run --plan` executes."""

import shlex
from pathlib import Path
from typing import Any

import typer

from specmeasure import api
from specmeasure.brief.planning import plan_tables
from specmeasure.cli import drafting, running
from specmeasure.cli.progress import watched
from specmeasure.errors import UsageError
from specmeasure.planfile import write_request
from specmeasure.records.precision import Wish
from specmeasure.records.request import Request


def plan(context: typer.Context) -> None:
    """Look, run a pilot where a pair is named, print the plan, write its file."""
    asked = context.params
    names_pair = any(asked[name] for name in ("target", *drafting.NAMING))
    asked.update(repeats=1, include_text=False, limit=None)
    path: Path | None = asked["write"]
    with watched(None, quiet=asked["quiet"]) as watchers:
        request = running.request(context, watchers)
        planned = api.plan_measurement(
            request,
            _wish(asked, request),
            num_pilot_prompts=asked["pilot"] if names_pair else 0,
            watchers=watchers,
        )
    if path is not None:
        path.write_text(write_request(planned.request), encoding="utf-8")
    running.wide_console().print(
        plan_tables(
            planned.plan,
            request.policy,
            max_new_tokens=request.plan.max_new_tokens,
            command=_command(path),
        )
    )


def _wish(asked: dict[str, Any], request: Request) -> Wish:
    return Wish(
        effect=_share(asked["detect"]),
        power=asked["power"],
        num_arms=len(request.plan.speculative_arms),
        min_prompts=request.policy.min_prompts,
        each_slice=asked["each_slice"],
    )


def _share(text: str) -> float:
    """5% or 0.05."""
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(f"--detect {text}: use a share such as 5% or 0.05.")
    return share


def _command(path: Path | None) -> str:
    if path is not None:
        return f"specmeasure run --plan {shlex.quote(str(path))}"
    return "add --write plan.toml, then: specmeasure run --plan plan.toml"
