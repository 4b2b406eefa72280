"""What a server tells of itself beside answers: its version, and K."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specmeasure.records.serving import ServingEngine
from specmeasure.servers.connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """None: it does not tell."""

    version: str | None = None
    num_speculative_tokens: int | None = None


async def read_build(connection: Connection, engine: ServingEngine) -> Build:
    """Version, and K where a page of the engine's tells it; a page that is not there is no error.

    llama.cpp's /props names no kind of speculation, whatever was set; vLLM serves its settings in
    development mode alone.
    """
    match engine:
        case ServingEngine.VLLM | ServingEngine.TRTLLM:
            return Build(version=_text(await connection.get_json("/version"), "version"))
        case ServingEngine.LLAMACPP:
            told = _text(await connection.get_json("/props"), "build_info")
            return Build(version=None if told == "b0-unknown" else told)
        case ServingEngine.SGLANG:
            return await _sglang(connection)
        case ServingEngine.OPENAI:
            return Build()


async def _sglang(connection: Connection) -> Build:
    """A chain of so many steps drafts as many tokens; a tree is as deep."""
    info = await connection.get_json("/server_info")
    if info is None:
        info = await connection.get_json("/get_server_info")  # before 0.5
    depth = info.get("speculative_num_steps") if isinstance(info, Mapping) else None
    return Build(
        version=_text(info, "version"),
        num_speculative_tokens=depth if isinstance(depth, int) and depth > 0 else None,
    )


def _text(page: Any, name: str) -> str | None:
    value = page.get(name) if isinstance(page, Mapping) else None
    return value if isinstance(value, str) and value else None
