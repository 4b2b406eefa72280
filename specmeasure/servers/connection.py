"""HTTP to one server: requests, retries, streamed events, and one clear error for each failure.

The API key is read from the environment and stays inside the HTTP client.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import msgspec

from specmeasure.errors import SpecmeasureError, UnexpectedReply, UsageError
from specmeasure.servers.address import base_url, is_loopback
from specmeasure.servers.dialect import Post
from specmeasure.servers.limits import Limits, retry_after_s
from specmeasure.servers.refusals import api_key, own_words, refusal
from specmeasure.servers.retrying import NotNow, failure, until_answered
from specmeasure.servers.sse import EventParser

_DONE = b"[DONE]"
_ABSENT = (404, 405, 501)
_BUSY = (429, 503)
_END_S = 0.5  # for a stream to end after its last event; without the end no connection is kept
_PAGE_S = 30.0  # for a page to come, where answers may take longer
_IDLE_CONNECTION_S = 2.0  # kept for the next request; uvicorn closes its side after 5
_HEADERS = {"Accept-Encoding": "identity", "Content-Type": "application/json"}

Take = Callable[[float, Any], None]  # the moment a streamed object arrived, and the object


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """The attempt that succeeded."""

    sent: float  # time.perf_counter()
    num_retries: int


class Connection:
    """One server's address and its pool of connections, as many as there are requests.

    Args:
        url: where it is; a trailing "/v1" is dropped.
        limits: waiting times and retries.
        rng: draws the retries' jitter.

    Raises:
        UsageError: the URL is not one of HTTP, or holds credentials; or the API key is none.
    """

    def __init__(self, url: str, *, limits: Limits, rng: random.Random) -> None:
        self.url = base_url(url)
        self._limits = limits
        self._page_limits = replace(limits, idle_s=min(limits.idle_s, _PAGE_S))
        self._rng = rng
        key = api_key()
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=_HEADERS | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=_timeout(limits),
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=_IDLE_CONNECTION_S,
            ),
            verify=self.url.startswith("https:"),  # no certificates are loaded for plain HTTP
            trust_env=not is_loopback(self.url),  # no proxy stands before this machine itself
        )

    async def close(self) -> None:
        """End all connections."""
        await self._http.aclose()

    async def get(self, path: str) -> bytes | None:
        """The page; None: the server has none at this path.

        Raises:
            ServerLost: no answer.
            UsageError: it wants another API key.
            UnexpectedReply: a status that means a fault.
        """

        async def attempt() -> bytes | None:
            timeout = _timeout(self._page_limits)
            response = await self._send(self._http.build_request("GET", path, timeout=timeout))
            self._raise_if_busy(response)
            if response.status_code in _ABSENT:
                return None
            if not response.is_success:
                raise refusal(self.url + path, response.status_code, response.content, {})
            return response.content

        page, _ = await until_answered(attempt, self.url, self._page_limits, self._rng)
        return page

    async def get_json(self, path: str) -> Any:
        """The page's JSON; None: no such page, or it is something else."""
        page = await self.get(path)
        try:
            return None if page is None else msgspec.json.decode(page)
        except msgspec.DecodeError:
            return None

    async def models(self) -> tuple[str, ...] | None:
        """Names of the models it serves; None: it does not tell."""
        listing = await self.get_json("/v1/models")
        entries = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(entries, list):
            return None
        names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
        return tuple(name for name in names if isinstance(name, str))

    async def stream(self, post: Post, take: Take) -> Sending:
        """Send a request and hand over the streamed objects one by one, as they arrive.

        It is sent again while the server is busy or cannot be connected to, never once an answer
        has begun.

        Raises:
            ServerLost: it cannot be reached, goes on refusing, hangs, or breaks off.
            UnexpectedReply: this request is refused, or its answer is broken JSON or an error.
            UsageError: it wants another API key, or does not serve the model.
        """
        content = msgspec.json.encode(post.body)

        async def attempt() -> float:
            sent = time.perf_counter()
            await self._stream_once(post, content, take)
            return sent

        sent, num_retries = await until_answered(attempt, self.url, self._limits, self._rng)
        return Sending(sent=sent, num_retries=num_retries)

    async def _stream_once(self, post: Post, content: bytes, take: Take) -> None:
        request = self._http.build_request("POST", post.path, content=content)
        try:
            response = await self._send(request, stream=True)
        except httpx.ConnectError as error:
            raise NotNow(failure(error, self._limits)) from error
        try:
            self._raise_if_busy(response)
            if not response.is_success:
                raise await self._refused(post, response)
            await self._read_events(response, post.body, take)
        finally:
            await response.aclose()

    async def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        try:
            return await self._http.send(request, stream=stream)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            # nothing of an answer has come
            raise NotNow(failure(error, self._limits), was_kept=True) from error

    async def _read_events(
        self, response: httpx.Response, request: Mapping[str, Any], take: Take
    ) -> None:
        """All of them; a stream that goes on without a word after the last is left."""
        events, is_done = EventParser(), False
        try:
            async with asyncio.timeout(None) as patience:
                async for chunk in response.aiter_raw():
                    arrived = time.perf_counter()
                    ended = events.feed(chunk)
                    for event in ended:
                        if event != _DONE:
                            take(arrived, self._document(event, request))
                    if _DONE in ended:
                        is_done = True
                        patience.reschedule(asyncio.get_running_loop().time() + _END_S)
        except (TimeoutError, httpx.HTTPError):
            if not is_done:
                raise

    def _document(self, event: bytes, request: Mapping[str, Any]) -> Any:
        try:
            document = msgspec.json.decode(event)
        except msgspec.DecodeError:
            raise UnexpectedReply(
                f"{self.url} sent an event of {len(event)} bytes that is not JSON"
            ) from None
        if isinstance(document, dict) and document.get("error") is not None:
            words = own_words(document, request)
            raise UnexpectedReply(f"{self.url} ended an answer with an error{words}")
        return document

    async def _refused(self, post: Post, response: httpx.Response) -> SpecmeasureError:
        body = await response.aread()
        if response.status_code == 404:
            served = await self.models()
            if served is not None and post.body.get("model") not in served:
                return unknown_model(self.url, post.body.get("model"), served)
        return refusal(self.url + post.path, response.status_code, body, post.body)

    def _raise_if_busy(self, response: httpx.Response) -> None:
        if response.status_code in _BUSY:
            asked_s = retry_after_s(response.headers.get("Retry-After"))
            raise NotNow(f"answers {response.status_code}", asked_s)


def unknown_model(url: str, model: Any, served: tuple[str, ...]) -> UsageError:
    """The error for a model that a server has not got."""
    return UsageError(f"{url} does not serve {model!r}; it serves {', '.join(served) or 'nothing'}")


def _timeout(limits: Limits) -> httpx.Timeout:
    return httpx.Timeout(limits.idle_s, connect=limits.connect_s, pool=None)
