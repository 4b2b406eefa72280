"""A recorded run or replay, estimated, decided and written again."""

from pathlib import Path

import typer

from specmeasure import api
from specmeasure.cli import replaying, running
from specmeasure.errors import UsageError
from specmeasure.trace.replays import is_replay


def render(context: typer.Context, folder: Path) -> None:
    """Whatever the folder holds, under the policy and the costs that the options name."""
    if is_replay(folder):
        replaying.render(context, folder)
        return
    if context.params["costs"] is not None:
        raise UsageError(f"{folder}: a run's times were measured; --costs is for replays.")
    trace = api.read_trace(folder)
    running.conclude(context, folder, trace, policy=running.policy(context, trace.manifest.policy))
