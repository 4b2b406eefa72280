"""Asking again: which failures are waited out, and how the others are said."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from specmeasure.errors import ServerLost
from specmeasure.servers.limits import Limits

Answered = TypeVar("Answered")


class NotNow(Exception):
    """An attempt that may be made again: nothing of an answer has come."""

    def __init__(
        self, reason: str, asked_s: float | None = None, *, was_kept: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.asked_s = asked_s
        self.was_kept = was_kept  # perhaps an old connection, which the server had closed


async def until_answered(
    attempt: Callable[[], Awaitable[Answered]], url: str, limits: Limits, rng: random.Random
) -> tuple[Answered, int]:
    """What an attempt returned, with the number of retries before it.

    Servers close connections that were kept for the next request, llama.cpp after every stream;
    what meets such a connection is sent again at once, the first time, and not counted.

    Raises:
        ServerLost: the limits are reached, or the connection failed in a way not to be waited out.
    """
    num_retries = 0
    may_be_kept = True
    while True:
        try:
            async with asyncio.timeout(limits.request_s):
                return await attempt(), num_retries
        except NotNow as error:
            if error.was_kept and may_be_kept:
                may_be_kept = False
                continue
            if num_retries == limits.most_retries:
                raise ServerLost(f"{url} {error.reason}, {num_retries} retries later") from error
            wait_s = limits.wait_s(num_retries, error.asked_s, rng)
        except TimeoutError:
            raise ServerLost(
                f"{url} took more than {limits.request_s:g} s for a request (--request-timeout)"
            ) from None
        except httpx.HTTPError as error:
            raise ServerLost(f"{url} {failure(error, limits)}") from error
        num_retries += 1
        await asyncio.sleep(wait_s)


def failure(error: httpx.HTTPError, limits: Limits) -> str:
    """What a connection did; never what it carried."""
    match error:
        case httpx.ConnectTimeout():
            return f"did not take a connection for {limits.connect_s:g} s"
        case httpx.TimeoutException():
            return f"sent nothing for {limits.idle_s:g} s"
        case httpx.ConnectError():
            return "cannot be connected to"
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError():
            return "broke the connection off"
        case _:
            return f"failed ({type(error).__name__})"
