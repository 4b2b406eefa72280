"""How many streamed tokens a second the HTTP client can take in, on one core.

    python benchmarks/client.py [--concurrency 1,16,64] [--tokens 20000] [--pass-s 0,0.01]

A stub server in a process of its own streams one token an event, each in a write of its own: as
fast as it can, when several events arrive in one read, or with a pause between the tokens of a
request, when each arrives by itself. "tokens/s" is by the wall clock, both processes running, and
no more than the pauses allow; "tokens/CPU s" divides by this process's own CPU seconds: what one
core could take in if the server never made it wait.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specmeasure.records.plan import DecodeSettings
from specmeasure.records.serving import Evidence, ServerFacts, ServingEngine
from specmeasure.servers.client import HttpServer
from specmeasure.servers.connection import Connection
from specmeasure.servers.limits import Limits
from specmeasure.servers.server import Ask
from specmeasure.servers.vllm import VllmDialect

STUB = Path(__file__).parents[1] / "tests" / "stub_server.py"
TOKENS_PER_ANSWER = 200


@contextmanager
def stub_server(pass_s: float) -> Iterator[str]:
    """Runs the stub; its URL."""
    command = [sys.executable, str(STUB), "--pass-s", str(pass_s)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - by PIPE
        yield process.stdout.readline().strip()
        process.terminate()


def http_server(url: str) -> HttpServer:
    """A connection to the stub, which is known."""
    facts = ServerFacts(
        arm="baseline",
        engine=ServingEngine.VLLM,
        model="stub",
        version=None,
        url=url,
        evidence=Evidence.NONE,
        gives_ids=True,
        num_speculative_tokens=None,
    )
    connection = Connection(url, limits=Limits(), rng=random.Random(0))
    return HttpServer(connection, VllmDialect(), facts)


async def stream(server: HttpServer, concurrency: int, num_tokens: int) -> int:
    """Keep so many requests in flight; the number of tokens taken in."""
    settings = DecodeSettings(max_new_tokens=TOKENS_PER_ANSWER)
    waiting = list(range(num_tokens // TOKENS_PER_ANSWER))
    num_received = 0

    async def worker() -> None:
        nonlocal num_received
        while waiting:
            reply = await server.ask(Ask(context=(waiting.pop(), 1, 2), settings=settings))
            num_received += reply.num_emitted_tokens or 0

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return num_received


async def measure(url: str, concurrency: int, num_tokens: int) -> str:
    """Warm up and stream; the rates in words."""
    server = http_server(url)
    await stream(server, concurrency, concurrency * TOKENS_PER_ANSWER)
    wall, cpu = time.perf_counter(), time.process_time()
    num_received = await stream(server, concurrency, num_tokens)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await server.close()
    return f"{num_received / wall:8,.0f} tokens/s {num_received / cpu:8,.0f} tokens/CPU s"


def main() -> None:
    """Read the options and measure each concurrency."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", default="1,16,64")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--pass-s", default="0,0.01")
    options = parser.parse_args()
    for pass_s in map(float, options.pass_s.split(",")):
        with stub_server(pass_s) as url:
            for concurrency in map(int, options.concurrency.split(",")):
                num_tokens = min(options.tokens, 2000 * concurrency) if pass_s else options.tokens
                rates = asyncio.run(measure(url, concurrency, num_tokens))
                print(f"pause {pass_s:5g} s, concurrency {concurrency:3d}: {rates}", flush=True)


if __name__ == "__main__":
    main()
