"""One arm's server behind HTTP: asks, and reads its counters."""

from typing import Any

from specmeasure.errors import UnexpectedReply, UsageError
from specmeasure.records.serving import ServerFacts
from specmeasure.servers.answers import StreamedAnswer
from specmeasure.servers.connection import Connection
from specmeasure.servers.dialect import Dialect
from specmeasure.servers.prometheus import parse_snapshot
from specmeasure.servers.server import Ask, Reply, Snapshot


class HttpServer:
    """A ``Server``. Any number of requests may be in flight at once.

    Args:
        connection: to it; closed with this.
        dialect: its engine's words.
        facts: what is known of it.
        warnings: what a reader of the brief should know of it.
    """

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        facts: ServerFacts,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.facts = facts
        self.warnings = warnings
        self._connection = connection
        self._dialect = dialect

    async def ask(self, ask: Ask) -> Reply:
        """Stream one answer.

        Raises:
            ServerLost: it cannot be reached, goes on refusing, hangs, or breaks off: no further
                request will do better.
            UnexpectedReply: this request failed: a status, an error object, broken JSON, a stream
                without an end, or fields that its engine is known to send and are not as known.
            UsageError: it wants another API key, or does not serve the model.
        """
        return await ask_once(self._connection, self._dialect, self.facts.model, ask)

    async def snapshot(self) -> Snapshot | None:
        """Its counters now; None: it has none, or not for us."""
        return await read_snapshot(self._connection, self._dialect, self.facts.model)

    async def close(self) -> None:
        """End the connections; the server goes on."""
        await self._connection.close()


async def ask_once(connection: Connection, dialect: Dialect, model: str, ask: Ask) -> Reply:
    """One answer of a server; errors as in ``HttpServer.ask``."""
    answer = StreamedAnswer()

    def take(arrived: float, document: Any) -> None:
        answer.add(arrived, dialect.read(document))

    try:
        sending = await connection.stream(dialect.post(ask, model), take)
        return answer.reply(ask, sending)
    except UnexpectedReply as error:
        if str(error).startswith(connection.url):
            raise
        raise UnexpectedReply(f"{connection.url}: {error}") from error


async def read_snapshot(connection: Connection, dialect: Dialect, model: str) -> Snapshot | None:
    """A server's counters; None: its engine has none, or they are not served."""
    if dialect.metrics_prefix is None:
        return None
    try:
        page = await connection.get("/metrics")
    except UsageError:  # they want another key than the one that answers
        return None
    if page is None:
        return None
    return parse_snapshot(page.decode(errors="replace"), dialect.metrics_prefix, model)
