"""Streamed pieces to one reply: what was said, how many tokens, and when."""

from specmeasure.errors import UnexpectedReply
from specmeasure.records.trace import DraftCounts, FinishReason
from specmeasure.servers.connection import Sending
from specmeasure.servers.dialect import Piece
from specmeasure.servers.server import Ask, Reply, TokenLogprobs


class StreamedAnswer:
    """Gathers one request's pieces.

    A piece holds tokens if it has ids, text or reasoning; the piece that names the finish reason
    counts as the last one, for EOS has no text. Pieces are not tokens: they are never counted.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._token_ids: list[int] | None = None
        self._logprobs: list[TokenLogprobs] = []
        self._first: float | None = None
        self._last: float | None = None
        self._finish_reason: str | None = None
        self._at_stop_text: bool | None = None
        self._num_prompt_tokens: int | None = None
        self._num_emitted_tokens: int | None = None
        self._counts: DraftCounts | None = None
        self._may_lack_tokens = False

    def add(self, arrived: float, piece: Piece) -> None:
        """Take in a piece that arrived at a moment of ``time.perf_counter()``."""
        if piece.text or piece.token_ids or piece.reasoning or piece.finish_reason is not None:
            self._last = arrived
            if self._first is None:
                self._first = arrived
        if piece.is_whole:
            self._texts, self._token_ids, self._logprobs = [], None, []
        self._texts.append(piece.text)
        if piece.token_ids is not None:
            self._token_ids = self._token_ids or []
            self._token_ids += piece.token_ids
        self._logprobs += piece.logprobs
        if piece.finish_reason is not None:
            self._finish_reason = piece.finish_reason
            self._at_stop_text = piece.at_stop_text
        self._add_totals(piece)

    def _add_totals(self, piece: Piece) -> None:
        """Totals speak of the whole answer: the last word counts."""
        self._may_lack_tokens |= piece.may_lack_tokens
        if piece.num_prompt_tokens is not None:
            self._num_prompt_tokens = piece.num_prompt_tokens
        if piece.num_emitted_tokens is not None:
            self._num_emitted_tokens = piece.num_emitted_tokens
        if piece.counts is not None:
            self._counts = piece.counts

    def reply(self, ask: Ask, sending: Sending) -> Reply:
        """The whole answer.

        Raises:
            UnexpectedReply: it has no end, or an end that no whole answer has, or its ids or
                logprobs are not as many as its tokens.
        """
        if self._first is None or self._last is None:
            raise UnexpectedReply("the stream ended without a token or a finish reason")
        return Reply(
            token_ids=self._all_ids(),
            text="".join(self._texts),
            num_prompt_tokens=self._num_prompt_tokens,
            num_emitted_tokens=self._checked_num_tokens(),
            finish_reason=self._known_finish_reason(ask),
            sent=sending.sent,
            ttft_s=self._first - sending.sent,
            decode_s=self._last - self._first,
            counts=self._counts,
            num_retries=sending.num_retries,
            logprobs=self._checked_logprobs(ask),
        )

    def _all_ids(self) -> tuple[int, ...] | None:
        ids, counted = self._token_ids, self._num_emitted_tokens
        lack = ids is not None and self._may_lack_tokens and len(ids) < (counted or 0)
        return None if ids is None or lack else tuple(ids)

    def _checked_num_tokens(self) -> int | None:
        """By ids, else by usage. Servers that send ids count the same ones, EOS among them."""
        ids = self._all_ids()
        if ids is None:
            return self._num_emitted_tokens
        by_ids, by_usage = len(ids), self._num_emitted_tokens
        if by_usage not in (None, by_ids):
            raise UnexpectedReply(f"the answer has {by_ids} token ids, its usage says {by_usage}")
        return by_ids

    def _known_finish_reason(self, ask: Ask) -> FinishReason:
        """The reason in our words; a "stop" that the server does not explain is by the request."""
        match self._finish_reason:
            case "length":
                return FinishReason.BUDGET
            case "stop":
                told = self._at_stop_text
                at_text = bool(ask.settings.stop) if told is None else told
                return FinishReason.STOP if at_text else FinishReason.EOS
            case "tool_calls" | "function_call":  # the model's own end, too
                return FinishReason.EOS
            case None:
                raise UnexpectedReply("the stream ended without a finish reason")
            case other:
                raise UnexpectedReply(f"the answer was cut: finish reason {other[:40]!r}")

    def _checked_logprobs(self, ask: Ask) -> tuple[TokenLogprobs, ...] | None:
        if not (ask.num_logprobs and self._logprobs):
            return None
        if self._may_lack_tokens and len(self._logprobs) != self._num_emitted_tokens:
            return None
        if self._token_ids is not None and len(self._logprobs) != len(self._token_ids):
            raise UnexpectedReply(
                f"logprobs of {len(self._logprobs)} tokens for {len(self._token_ids)} token ids"
            )
        return tuple(self._logprobs)
