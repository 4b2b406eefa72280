"""Which engine serves at a URL, by who it says owns its models."""

import random

from specmeasure.errors import ServerLost, ServerNotStarted
from specmeasure.records.serving import ServingEngine
from specmeasure.servers.connection import Connection
from specmeasure.servers.limits import Limits

# the default of ``owned_by`` in each engine's /v1/models
_OWNERS = {
    "vllm": ServingEngine.VLLM,
    "llamacpp": ServingEngine.LLAMACPP,
    "sglang": ServingEngine.SGLANG,
    "tensorrt_llm": ServingEngine.TRTLLM,
}


async def engine_at(url: str, limits: Limits) -> ServingEngine:
    """The kind of server; one that does not name itself is a plain OpenAI-compatible one.

    Raises:
        ServerNotStarted: nothing answers there.
        UsageError: it wants an API key.
    """
    connection = Connection(url, limits=limits, rng=random.Random(url))
    try:
        listing = await connection.get_json("/v1/models")
    except ServerLost as error:
        raise ServerNotStarted(
            f"{error}. Start the server, or check the URL and that this machine may reach it."
        ) from error
    finally:
        await connection.close()
    entries = listing.get("data") if isinstance(listing, dict) else None
    owners = [entry.get("owned_by") for entry in entries or () if isinstance(entry, dict)]
    found = (_OWNERS[owner] for owner in owners if isinstance(owner, str) and owner in _OWNERS)
    return next(found, ServingEngine.OPENAI)
