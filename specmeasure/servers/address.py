"""Addresses of servers, as users write them."""

import httpx

from specmeasure.errors import UsageError
from specmeasure.servers.refusals import API_KEY


def base_url(url: str) -> str:
    """The address that paths are put behind: without "/v1", which users copy with it or without.

    Raises:
        UsageError: it is no URL of HTTP, or holds credentials.
    """
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.userinfo or parts.query:
        raise UsageError(
            f"the URL of {parts.host} holds credentials or a query; give the server's address "
            f"alone, and an API key in the environment variable {API_KEY}"
        )
    if parts.scheme not in ("http", "https") or not parts.host:
        shown = "what was given" if "@" in url else repr(url)  # a password may stand before it
        raise UsageError(f"{shown} is no URL of a server; write it as http://host:port")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc.decode()}{path}"


def is_loopback(url: str) -> bool:
    """Whether it is this machine itself, which no proxy stands before.

    >>> is_loopback("http://127.0.0.1:8000"), is_loopback("http://[::1]"), is_loopback("http://h")
    (True, True, False)
    """
    host = httpx.URL(url).host
    return host in ("localhost", "::1") or host.startswith("127.")
