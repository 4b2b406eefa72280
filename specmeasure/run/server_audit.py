"""Greedy answers read by the baseline's own server: what would it have said at each place?

No weights are needed here: differences of log-probabilities are differences of logits. Where the
server itself goes another way, two shapes are compared: the one met while decoding, and the one of
a fresh request whose prompt ends right before the place. A server names a few tokens of each place
only, so the shapes are compared at some of its next places, too. An answer that ends without a
token of its own, or goes on where the server ended, cannot be judged.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from math import isfinite

from specmeasure.errors import UnexpectedReply
from specmeasure.estimate.drift import is_near_tie
from specmeasure.records.plan import GREEDY
from specmeasure.records.serving import Load
from specmeasure.records.trace import Audit, Divergence, SuspectToken
from specmeasure.run.requests import ids_of
from specmeasure.run.traffic import Clock, drive
from specmeasure.run.trials import first_difference, ids_hash
from specmeasure.servers.server import Ask, Server, TokenLogprobs

NUM_ALTERNATIVES = 8  # likeliest tokens that are asked for at each place
NOISE_PLACES = 4  # at which shapes are compared, to tell the noise of the first of them
MOST_PLACES = 16  # read in one answer; one that leaves the target so often is judged by these

Question = tuple[str, int]  # prompt and turn: what is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer to read."""

    question: Question
    ask: Ask  # as the baseline is asked
    token_ids: tuple[int, ...]


class ServerAuditor:
    """Reads each answer once, and none that is the baseline's own.

    Args:
        num_at_once: requests in flight, at most.
        clock: that replies are timed by.
    """

    def __init__(self, num_at_once: int, clock: Clock) -> None:
        self._num_at_once = num_at_once
        self._clock = clock
        self.num_asked = 0  # answers for which the server was asked anything
        self._own: dict[Question, tuple[int, ...]] = {}
        self._audits: dict[tuple[Question, str], Audit | None] = {}

    def remember(self, question: Question, token_ids: tuple[int, ...]) -> None:
        """Take the baseline's answer, unless there is an earlier one."""
        self._own.setdefault(question, token_ids)

    async def read(self, server: Server, answers: Sequence[Answered]) -> list[Audit | None]:
        """One audit an answer; None where it could not be made.

        Args:
            server: the baseline's.
            answers: with asks in token ids.

        Raises:
            ServerLost: it died.
        """
        await self._learn(server, answers)
        new = {
            (one.question, ids_hash(one.token_ids)): one
            for one in answers
            if (one.question, ids_hash(one.token_ids)) not in self._audits
        }
        turnstile = asyncio.Semaphore(self._num_at_once)
        found = await asyncio.gather(
            *(self._read(server, one, turnstile) for one in new.values()), return_exceptions=True
        )
        for place, audit in zip(new, found, strict=True):
            if isinstance(audit, BaseException):
                raise audit
            self._audits[place] = audit
        return [self._audits[one.question, ids_hash(one.token_ids)] for one in answers]

    async def _learn(self, server: Server, answers: Iterable[Answered]) -> None:
        """Ask the baseline what it was not asked yet."""
        unknown = {one.question: one.ask for one in answers if one.question not in self._own}
        self.num_asked += len(unknown)
        traffic = await drive(
            server,
            list(unknown.values()),
            Load(concurrency=self._num_at_once),
            seed=0,
            clock=self._clock,
        )
        for question, one in zip(unknown, traffic.exchanges, strict=True):
            if one.reply is not None and one.reply.token_ids is not None:
                self._own[question] = one.reply.token_ids

    async def _read(
        self, server: Server, answered: Answered, turnstile: asyncio.Semaphore
    ) -> Audit | None:
        own = self._own.get(answered.question)
        if own is None:
            return None
        divergence = first_difference(answered.token_ids, own)
        if divergence is None:
            return Audit(num_checked_tokens=len(own), suspects=())
        self.num_asked += 1
        async with turnstile:
            return await audit_answer(server, answered.ask, answered.token_ids, divergence)


async def audit_answer(
    server: Server, ask: Ask, answer: tuple[int, ...], divergence: Divergence
) -> Audit | None:
    """Explain a greedy answer that is not the baseline's own; None where that cannot be done.

    It is read up to its first divergence that noise does not explain, or through.

    From the last token before the divergence on, the server is asked to continue the answer, and
    again from behind each place where it goes another way, until the answer is explained.

    Formula: delta = min over shapes of (top log-probability − the token's); noise = the largest
    difference between the shapes in the distance of any two tokens that both name, over the place
    and the server's own next three. A token that is not among the alternatives is at least as far
    as the last of them: delta is a lower bound. A place that directly follows the prompt or another
    suspect is not decoded by any request; its noise is that of the next places alone, or, where the
    server ends there, the largest found so far.

    Args:
        server: the baseline's.
        ask: what is answered, in token ids.
        answer: emitted ids.
        divergence: from the baseline's own answer, so far without gap and noise.

    Raises:
        ServerLost: it died.
    """
    reader = _Reader(server, ask, answer, divergence)
    try:
        num_checked = await reader.read_on(max(0, divergence.index - 1))
    except (UnexpectedReply, _Untold):
        return None
    return Audit(
        num_checked_tokens=num_checked,
        suspects=tuple(reader.suspects),
        divergence=reader.divergence,
    )


class _Untold(Exception):
    """The server's reply does not hold what the audit needs."""


@dataclass(frozen=True, slots=True)
class _Place:
    """What the server makes of one place, in the shapes that were met."""

    shapes: tuple[Mapping[int, float], ...]  # token → log-probability; a fresh request's first
    noise: float

    def delta(self, token: int) -> float:
        return min(max(shape.values()) - _at_most(shape, token) for shape in self.shapes)

    def gap(self, token: int, other: int) -> float:
        return abs(_at_most(self.shapes[0], token) - _at_most(self.shapes[0], other))


@dataclass(slots=True)
class _Reader:
    """One answer's audit, request by request."""

    server: Server
    ask: Ask
    answer: tuple[int, ...]
    divergence: Divergence
    suspects: list[SuspectToken] = field(default_factory=list)
    most_noise: float | None = None  # None: none was measured yet
    seen: dict[int, _Place] = field(default_factory=dict)  # by token of the answer

    async def read_on(self, start: int) -> int:
        """Explain the answer from this token on; returns the number of tokens explained."""
        if self.divergence.token_id is None:
            raise _Untold
        for _ in range(MOST_PLACES):
            rest = self.answer[start:]
            own = await self._continued(start, max(2, len(rest)))
            offset = _first_mismatch(own, rest)
            await self._find_gap(start, own, min(offset, len(rest) - 1))
            if offset == len(rest):
                return len(self.answer)
            await self._suspect(start, own, offset)
            start += offset + 1
            if start == len(self.answer) or not all(map(is_near_tie, self.suspects)):
                break
        return start

    async def _suspect(self, start: int, own: Sequence[TokenLogprobs], offset: int) -> None:
        place = await self._look_at(start, own, offset)
        delta = place.delta(self.answer[start + offset])
        if delta > 0:
            self.suspects.append(SuspectToken(index=start + offset, delta=delta, noise=place.noise))

    async def _find_gap(self, start: int, own: Sequence[TokenLogprobs], last: int) -> None:
        """Between the rivals of the divergence, if it lies in what was just read."""
        left = self.divergence
        if left.token_id is None or left.baseline_token_id is None:
            return
        if start <= left.index <= start + last:
            place = await self._look_at(start, own, left.index - start)
            gap = place.gap(left.token_id, left.baseline_token_id)
            self.divergence = replace(left, gap=gap, noise=place.noise)

    async def _look_at(self, start: int, own: Sequence[TokenLogprobs], offset: int) -> _Place:
        index = start + offset
        if index not in self.seen:
            self.seen[index] = await self._place(start, own, offset)
        return self.seen[index]

    async def _place(self, start: int, own: Sequence[TokenLogprobs], offset: int) -> _Place:
        """The server's own view of a place: decoded in ``own``, and afresh where that differs."""
        decoded = max(1, offset)  # of a request's first place there is one shape only
        if decoded == len(own):
            if self.most_noise is None:
                raise _Untold
            return _Place((_named(own[0]),), self.most_noise)
        afresh = [
            _named(await self._afresh(start, own[:place]))
            for place in range(decoded, min(decoded + NOISE_PLACES, len(own)))
        ]
        pairs = zip(own[decoded:], afresh, strict=False)
        noise = max(_noise(_named(one), other) for one, other in pairs)
        self.most_noise = max(noise, self.most_noise or 0.0)
        if offset == 0:
            return _Place((_named(own[0]),), noise)
        return _Place((afresh[0], _named(own[offset])), noise)

    async def _afresh(self, start: int, own: Sequence[TokenLogprobs]) -> TokenLogprobs:
        """The place behind some of the answer and some of the server's own, from a prompt."""
        said = (*self.answer[:start], *(one.token_id for one in own))
        return (await self._asked(said, 1))[0]

    async def _continued(self, start: int, num_tokens: int) -> tuple[TokenLogprobs, ...]:
        """What the server says after the answer's first tokens."""
        return await self._asked(self.answer[:start], num_tokens)

    async def _asked(self, said: Sequence[int], num_tokens: int) -> tuple[TokenLogprobs, ...]:
        context = ids_of(self.ask.context)
        if context is None:
            raise _Untold
        settings = replace(self.ask.settings, sampling=GREEDY, max_new_tokens=num_tokens, stop=())
        reply = await self.server.ask(
            replace(
                self.ask,
                context=(*context, *said),
                settings=settings,
                num_logprobs=NUM_ALTERNATIVES,
            )
        )
        if not reply.logprobs:
            raise _Untold
        return reply.logprobs


def _first_mismatch(own: Sequence[TokenLogprobs], rest: Sequence[int]) -> int:
    """Tokens that both share; all of ``rest`` where the server would have said it."""
    for offset, (one, token) in enumerate(zip_longest(own, rest)):
        if token is None:
            break
        if one is None:
            raise _Untold  # it ended where the answer goes on
        if one.token_id != token:
            return offset
    return len(rest)


def _named(place: TokenLogprobs) -> dict[int, float]:
    """Every token whose log-probability is told."""
    named = {**place.alternatives, place.token_id: place.logprob}
    return {token: logprob for token, logprob in named.items() if isfinite(logprob)}


def _at_most(shape: Mapping[int, float], token: int) -> float:
    return shape.get(token, min(shape.values()))


def _noise(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    moved = [one[token] - other[token] for token in one.keys() & other.keys()]
    return max(moved) - min(moved) if moved else 0.0
