"""How long a server is waited for, and how often it is asked again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Waiting times and retries of one connection."""

    connect_s: float = 10.0
    idle_s: float = 300.0  # without a byte: queueing and prefill before the first, a hang after it
    request_s: float = 600.0  # one attempt, from sending to the last byte
    most_retries: int = 6  # of one request, after 429, 503 or a lost connection before any answer
    first_wait_s: float = 0.25  # doubled by each retry
    longest_wait_s: float = 15.0

    def wait_s(self, num_retries: int, asked_s: float | None, rng: random.Random) -> float:
        """Seconds until the next attempt.

        Formula: min(first · 2^retries, longest) · u, u uniform in [0.5, 1); at least what
        ``Retry-After`` asks for, but no more than the longest wait.

        >>> Limits().wait_s(3, 5.0, random.Random(0))
        5.0
        """
        longest = min(self.first_wait_s * 2.0**num_retries, self.longest_wait_s)
        wait: float = longest * rng.uniform(0.5, 1.0)
        return wait if asked_s is None else max(wait, min(asked_s, self.longest_wait_s))


def retry_after_s(header: str | None) -> float | None:
    """Seconds that ``Retry-After`` names; None: absent, or a date.

    >>> retry_after_s("2"), retry_after_s("Tue, 24 Nov 2026 12:00:00 GMT"), retry_after_s("-1")
    (2.0, None, None)
    """
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
