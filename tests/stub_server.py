"""A serving engine that behaves, without a model: known answers, acceptance, counters and faults.

As a program it serves until its standard input ends, and prints its URL:

    python tests/stub_server.py [--pass-s 0.01] [--accepted 2,0,4]
"""

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

EOS = 2
VOCABULARY = 1000
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


def answer_ids(prompt_ids: Sequence[int], length: int) -> list[int]:
    """What the stub answers to a prompt, whatever its load and its drafts."""
    seed = sum((place + 1) * token for place, token in enumerate(prompt_ids))
    return [3 + (seed + 7 * i + i * i) % (VOCABULARY - 3) for i in range(length)]


def token_text(token_id: int) -> str:
    return "" if token_id == EOS else f" t{token_id}"


def prompt_ids(body: dict) -> list[int]:
    """Ids as they are; text and messages byte by byte."""
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return prompt
    messages = body.get("messages", ())
    text = prompt or "\n".join(f"{m['role']}: {m['content']}" for m in messages)
    return list(text.encode())


@dataclass(kw_only=True)
class Faults:
    """Switches, to be turned at any time; a number is of the completions that it still spoils."""

    num_500: int = 0
    num_429: int = 0
    num_503: int = 0
    retry_after: str | None = None  # a header of 429 and 503
    num_closed: int = 0  # the connection is closed instead of an answer
    closes_after: bool = False  # the connection after each answer, without a word, as llama.cpp
    dies_at: int | None = None  # the number of the completion in which the whole server dies
    hangs_on: str | None = None  # a page that never comes: "/metrics"
    hangs_before: bool = False  # no byte of an answer
    hangs_after: bool = False  # nothing after the first token
    hangs_at_end: bool = False  # the stream stays open after its last event
    breaks_off: bool = False  # the connection is lost after the first token
    broken_json: bool = False  # in the second event
    error_event: str | None = None  # the message of an error object in place of the second event
    no_finish: bool = False  # the stream ends in order, but has no finish reason
    no_usage: bool = False
    no_ids: bool = False  # as an older vLLM, or another server
    renamed: bool = False  # draft counts and counters stand under names that nobody knows


@dataclass(kw_only=True)
class Counters:
    """What /metrics tells, since the server started."""

    generated: int = 0
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0
    by_position: list[int] = field(default_factory=list)

    def add(self, steps: Sequence[tuple[int, int]], generated: int) -> None:
        self.generated += generated
        self.drafts += len(steps)
        self.drafted += sum(drafted for drafted, _ in steps)
        self.accepted += sum(accepted for _, accepted in steps)
        for _, accepted in steps:
            for place in range(accepted):
                self.by_position[place] += 1


class StubServer:
    """``with StubServer() as stub:`` serves at ``stub.url`` from a thread of its own.

    Greedy and sampled requests get the same ``answer_ids``; a speculative stub, too.

    Args:
        engine: "vllm" (ids, logprobs, draft stats, ``vllm:`` counters), "llamacpp" (``/completion``
            with ids, ``timings``, ``llamacpp:`` counters) or "openai" (text and usage alone).
        model: the name it serves.
        accepted: drafts accepted by each drafted block of a request, over and over; the first
            token comes from prefill, without drafts. None: no speculation.
        k: drafts of each block.
        detail: of vLLM's draft stats by request: "detailed", "summary" or "none".
        pass_s: seconds of one target pass, which emits 1 + accepted tokens.
        crowding_s: seconds that each further request in flight adds to a pass.
        answer_length: tokens until EOS, EOS included; None: never.
        wrong_after: from this token on, answers are others: speculation that changes them.
        api_key: wanted as a bearer token; None: none is.
        faults: see ``Faults``; also to be changed later.

    Attributes:
        more_models: names listed beside the model's.
        pages: by path, further JSON that is served, or other than the engine's.
        bodies: of the completions asked for, those refused among them, in order.
        most_in_flight: completions at once.
        counters: to be added to for traffic of others.
    """

    def __init__(  # noqa: PLR0913 - what a server is, each by keyword
        self,
        *,
        engine: str = "vllm",
        model: str = "stub",
        accepted: Sequence[int] | None = None,
        k: int = 4,
        detail: str = "detailed",
        pass_s: float = 0.0,
        crowding_s: float = 0.0,
        answer_length: int | None = None,
        wrong_after: int | None = None,
        api_key: str | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.engine = engine
        self.model = model
        self.accepted = accepted
        self.k = k
        self.detail = detail
        self.pass_s = pass_s
        self.crowding_s = crowding_s
        self.answer_length = answer_length
        self.wrong_after = wrong_after
        self.api_key = api_key
        self.faults = faults or Faults()
        self.counters = Counters(by_position=[0] * k)
        self.more_models: list[str] = []
        self.pages: dict[str, object] = {}
        self.bodies: list[dict] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task, asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def die(self) -> None:
        """Lose all connections and take no others, as a killed process would."""
        self._loop.call_soon_threadsafe(self._die)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._die()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _die(self) -> None:
        self._server.close()
        for task, writer in self._connections.items():
            writer.transport.abort()
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections[task] = writer
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went, or this server was stopped
        finally:
            del self._connections[task]
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection lives on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, path, _ = head[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        key = None if self.api_key is None else f"bearer {self.api_key}".lower()
        if key not in (None, headers.get("authorization")):
            await _respond(writer, 401, {"error": {"message": "Unauthorized"}})
        elif path in self._streaming_paths():
            return await self._complete(writer, path, json.loads(body))
        else:
            await self._page(writer, path)
        return True

    def _streaming_paths(self) -> list[str]:
        paths = ["/v1/completions", "/v1/chat/completions"]
        return [*paths, "/completion"] if self.engine == "llamacpp" else paths

    async def _page(self, writer: asyncio.StreamWriter, path: str) -> None:
        if path == self.faults.hangs_on:
            await asyncio.Event().wait()
        names = [self.model, *self.more_models]
        pages: dict[str, object] = {
            "/v1/models": {"data": [{"id": name, "owned_by": self.engine} for name in names]}
        }
        if self.engine != "openai":
            pages["/metrics"] = self._metrics()
        if self.engine == "vllm":
            pages["/version"] = {"version": "0.32.0"}
        if self.engine == "llamacpp":
            pages["/props"] = {"build_info": "b1-stub"}
        pages |= self.pages
        if path in pages:
            await _respond(writer, 200, pages[path])
        else:
            await _respond(writer, 404, {"detail": "Not Found"})

    def _metrics(self) -> str:
        told, prefix = self.counters, self.engine
        form = float if prefix == "vllm" else int  # as each prints them
        emitted = {"vllm": "generation_tokens", "llamacpp": "tokens_predicted"}[prefix]
        lines = [f"{prefix}:{emitted}_total {form(told.generated)}"]
        name = f"{prefix}:{'renamed' if self.faults.renamed else 'spec_decode'}_num"
        if self.accepted is not None or prefix == "llamacpp":
            lines += [
                f"{name}_drafts_total {form(told.drafts)}",
                f"{name}_draft_tokens_total {form(told.drafted)}",
                f"{name}_accepted_tokens_total {form(told.accepted)}",
            ]
        if self.accepted is not None:
            lines += [
                f'{name}_accepted_tokens_per_pos_total{{position="{place}"}} {form(number)}'
                for place, number in enumerate(told.by_position)
            ]
        return "\n".join([*lines, ""])

    async def _complete(self, writer: asyncio.StreamWriter, path: str, body: dict) -> bool:
        self.bodies.append(body)
        faults = self.faults
        headers = {} if faults.retry_after is None else {"Retry-After": faults.retry_after}
        for status in (500, 429, 503):
            if getattr(faults, f"num_{status}") > 0:
                setattr(faults, f"num_{status}", getattr(faults, f"num_{status}") - 1)
                told = {"error": {"message": f"no {body.get('prompt')!r}", "type": "stub_fault"}}
                await _respond(writer, status, told, headers)
                return True
        if faults.num_closed > 0:
            faults.num_closed -= 1
            return False
        if body["model"] != self.model:
            told = {"error": {"message": f"The model `{body['model']}` does not exist."}}
            await _respond(writer, 404, told)
            return True
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._stream(writer, Answer(self, path, body))
        finally:
            self.in_flight -= 1

    async def _stream(self, writer: asyncio.StreamWriter, answer: "Answer") -> bool:
        if self.faults.hangs_before:
            await asyncio.Event().wait()
        writer.write(STREAM_HEAD)
        for number, event in enumerate(answer.events()):
            await asyncio.sleep(self.pass_s + self.crowding_s * (self.in_flight - 1))
            await _write_event(writer, json.dumps(event))
            if number == 0:
                await self._spoil(writer)
        await _write_event(writer, json.dumps(answer.totals()))
        await _write_event(writer, "[DONE]")
        if self.faults.hangs_at_end:
            await asyncio.Event().wait()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return not self.faults.closes_after

    async def _spoil(self, writer: asyncio.StreamWriter) -> None:
        """What goes wrong after the first event."""
        faults = self.faults
        if faults.dies_at is not None and len(self.bodies) >= faults.dies_at:
            self._die()
            await asyncio.sleep(0)  # this connection is among those that are lost
        if faults.hangs_after:
            await asyncio.Event().wait()
        if faults.breaks_off:
            raise ConnectionError
        if faults.broken_json:
            await _write_event(writer, '{"choices": [{"text"')
        if faults.error_event is not None:
            error = {"message": faults.error_event, "type": "stub_fault", "code": 400}
            await _write_event(writer, json.dumps({"error": error}))


class Answer:
    """One request's tokens, cut into passes, as events of the stub's engine."""

    def __init__(self, stub: StubServer, path: str, body: dict) -> None:
        self._stub = stub
        self._body = body
        self._is_chat = "chat" in path
        self._is_native = path == "/completion"  # llama.cpp's own
        self._prompt_ids = prompt_ids(body)
        self._ids, self._finish, self._stop_text = self._whole()
        self._steps: list[tuple[int, int]] = []

    def events(self) -> Iterator[dict]:
        """One object for each pass, the last with the finish reason."""
        if self._is_chat:
            yield self._chunk({"delta": {"role": "assistant", "content": ""}})
        for start, stop in self._passes():
            ids, ends = self._ids[start:stop], stop == len(self._ids)
            if self._is_native:
                yield {"content": self._text(ids, ends=ends), "tokens": ids, "stop": False}
            else:
                yield self._chunk(self._choice(ids, ends=ends))
        self._stub.counters.add(self._steps, len(self._ids))

    def totals(self) -> dict:
        """The last object: usage, and what the engine says of drafts."""
        if self._is_native:
            return self._native_totals()
        usage = {"prompt_tokens": len(self._prompt_ids), "completion_tokens": len(self._ids)}
        event: dict = {"choices": [], "model": self._stub.model}
        if not self._stub.faults.no_usage:
            event["usage"] = usage
        name = "renamed" if self._stub.faults.renamed else "speculative_decoding"
        if self._stub.engine == "vllm" and self._stub.accepted and self._stub.detail != "none":
            event["metrics"] = {name: self._vllm_stats()}
        if self._stub.engine == "llamacpp":
            event["timings"] = self._llamacpp_timings()
        return event

    def _native_totals(self) -> dict:
        word = "eos" if self._stop_text is None else "word"
        event: dict = {"content": "", "tokens": [], "stop": True, "truncated": False}
        if not self._stub.faults.no_finish:
            event["stop_type"] = word if self._finish == "stop" else "limit"
        if not self._stub.faults.no_usage:
            event["tokens_predicted"] = len(self._ids)
            event["tokens_evaluated"] = len(self._prompt_ids)
        return event | {"timings": self._llamacpp_timings()}

    def _whole(self) -> tuple[list[int], str, str | None]:
        stub, body = self._stub, self._body
        ids = answer_ids(self._prompt_ids, body.get("max_tokens") or body["n_predict"])
        if stub.wrong_after is not None:
            ids[stub.wrong_after :] = [3 + token % 900 for token in ids[stub.wrong_after :]]
        length = stub.answer_length
        finish = "length"
        if length is not None and length <= len(ids) and not body.get("ignore_eos"):
            ids, finish = [*ids[: length - 1], EOS], "stop"
        for end in range(1, len(ids) + 1) if body.get("stop") else ():
            text = "".join(map(token_text, ids[:end]))
            found = next((stop for stop in body["stop"] if stop in text), None)
            if found is not None:
                return ids[:end], "stop", found
        return ids, finish, None

    def _passes(self) -> Iterator[tuple[int, int]]:
        """Slices of the answer, one for each target pass; steps are noted beside them."""
        yield 0, 1
        start, block = 1, 0
        while start < len(self._ids):
            drafted, accepted = self._drafts(block, len(self._ids) - start)
            if drafted:
                self._steps.append((drafted, accepted))
            yield start, min(start + accepted + 1, len(self._ids))
            start, block = start + accepted + 1, block + 1

    def _drafts(self, block: int, num_left: int) -> tuple[int, int]:
        """Drafted and accepted. At the end vLLM cuts a block, llama.cpp drafts fewer tokens."""
        stub = self._stub
        if stub.accepted is None:
            return 0, 0
        most = num_left - 1 if stub.engine == "llamacpp" else stub.k
        return min(stub.k, most), min(stub.accepted[block % len(stub.accepted)], most)

    def _chunk(self, choice: dict) -> dict:
        return {"model": self._stub.model, "choices": [{"index": 0, **choice}]}

    def _text(self, ids: list[int], *, ends: bool) -> str:
        text = "".join(map(token_text, ids))
        return text.partition(self._stop_text)[0] if ends and self._stop_text else text

    def _choice(self, ids: list[int], *, ends: bool) -> dict:
        text = self._text(ids, ends=ends)
        choice: dict = {"delta": {"content": text}} if self._is_chat else {"text": text}
        faults = self._stub.faults
        choice["finish_reason"] = self._finish if ends and not faults.no_finish else None
        if self._stub.engine == "vllm":
            choice["stop_reason"] = self._stop_text if ends else None
            choice["token_ids"] = None if faults.no_ids else ids
            choice["logprobs"] = self._logprobs(ids)
        return choice

    def _logprobs(self, ids: list[int]) -> dict | None:
        """Of vLLM's completions: the emitted token is the likeliest, its successor the next."""
        if not self._body.get("logprobs") or self._is_chat:
            return None
        return {
            "tokens": [f"token_id:{token}" for token in ids],
            "token_logprobs": [-0.25] * len(ids),
            "top_logprobs": [
                {f"token_id:{token}": -0.25, f"token_id:{token + 1}": -2.0} for token in ids
            ],
        }

    def _vllm_stats(self) -> dict:
        histogram = [0] * (self._stub.k + 1)
        for _, accepted in self._steps:
            histogram[accepted] += 1
        stats: dict = {
            "acceptance_histogram": histogram,
            "num_spec_steps": len(self._steps),
            "num_draft_tokens": sum(drafted for drafted, _ in self._steps),
            "num_accepted_draft_tokens": sum(accepted for _, accepted in self._steps),
            "num_spec_tokens": self._stub.k,
        }
        if self._stub.detail == "detailed":
            stats["per_step_drafted"] = [drafted for drafted, _ in self._steps]
            stats["per_step_accepted"] = [accepted for _, accepted in self._steps]
        return stats

    def _llamacpp_timings(self) -> dict:
        timings = {"prompt_n": len(self._prompt_ids), "predicted_n": len(self._ids)}
        if self._steps and not self._stub.faults.renamed:
            timings["draft_n"] = sum(drafted for drafted, _ in self._steps)
            timings["draft_n_accepted"] = sum(accepted for _, accepted in self._steps)
        return timings


async def _respond(
    writer: asyncio.StreamWriter, status: int, page: object, headers: dict | None = None
) -> None:
    content = page.encode() if isinstance(page, str) else json.dumps(page).encode()
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Fault')}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    head = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""])
    writer.write(head.encode() + content)
    await writer.drain()


async def _write_event(writer: asyncio.StreamWriter, event: str) -> None:
    content = f"data: {event}\n\n".encode()
    writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
    await writer.drain()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pass-s", type=float, default=0.0)
    parser.add_argument("--accepted", default="")
    options = parser.parse_args()
    accepted = [int(number) for number in options.accepted.split(",") if number] or None
    with StubServer(pass_s=options.pass_s, accepted=accepted) as stub:
        print(stub.url, flush=True)  # noqa: T201 - a program when run
        sys.stdin.read()


if __name__ == "__main__":
    main()
