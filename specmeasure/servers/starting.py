"""From the command of a server to a process that answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from specmeasure.errors import ServerNotStarted
from specmeasure.servers.launch import HOST, Launch
from specmeasure.servers.process import IsReady, ServerProcess, free_port, is_taken

NUM_PORTS_TRIED = 3
HEALTH_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A server that answers."""

    process: ServerProcess
    launch: Launch
    url: str


async def start(launch_at: Callable[[int], Launch], *, log: Path, timeout_s: float) -> Started:
    """Start a server at a free port. Whoever takes that port in between costs one more try.

    Raises:
        ServerNotStarted: it ended, or did not answer in time; with its last lines.
    """
    for num_tried in range(1, NUM_PORTS_TRIED + 1):
        port = free_port()
        launch, url = launch_at(port), f"http://{HOST}:{port}"
        process = ServerProcess(launch.argv, env=launch.env, log=log)
        try:
            await process.wait_ready(_health_of(url), port=port, timeout_s=timeout_s)
        except ServerNotStarted:
            await process.stop()
            if not is_taken(port):
                raise
            if num_tried == NUM_PORTS_TRIED:
                raise ServerNotStarted(
                    f"{NUM_PORTS_TRIED} ports that were free were taken by others before it used "
                    f"them, the last {port}; its log is {log}"
                ) from None
        except BaseException:
            await process.stop()
            raise
        else:
            return Started(process=process, launch=launch, url=url)
    raise AssertionError("the last try returns or raises")


def _health_of(url: str) -> IsReady:
    async def is_ready() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=HEALTH_TIMEOUT_S) as client:
            try:
                return (await client.get(f"{url}/health")).is_success
            except httpx.HTTPError:
                return False

    return is_ready
