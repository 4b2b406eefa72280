"""Servers that have seen the run's highest load before anything is measured on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, TrialKey
from specmeasure.records.serving import Load
from specmeasure.run.requests import Requests
from specmeasure.run.traffic import Clock, drive
from specmeasure.run.windows import length_of
from specmeasure.servers.server import Ask, Fleet, Server


@dataclass(slots=True, kw_only=True)
class WarmServers:
    """A fleet's servers, each warmed when it is first needed, and again after a restart.

    Args:
        fleet: of the run.
        requests: what servers are asked.
        num_at_once: requests in flight during a warm-up.
        clock: that replies are timed by.
    """

    fleet: Fleet
    requests: Requests
    num_at_once: int
    clock: Clock
    _warm: list[Server] = field(default_factory=list)

    async def server(self, arm: Arm, prompts: Sequence[Prompt]) -> Server:
        """The arm's server, warm; what it answered in its warm-up is not kept."""
        server = await self.fleet.server(arm)
        if not any(server is one for one in self._warm):
            asks = list(islice(cycle(self._asks(arm, prompts)), self.num_at_once))
            await drive(server, asks, Load(concurrency=self.num_at_once), seed=0, clock=self.clock)
            self._warm.append(server)
        return server

    def _asks(self, arm: Arm, prompts: Sequence[Prompt]) -> Iterator[Ask]:
        """First turns: the longest for half of the requests, others for the rest."""
        by_length = sorted(prompts, key=length_of, reverse=True)
        num_longest = -(-self.num_at_once // 2)
        rest = by_length[num_longest:]
        spread = rest[:: max(1, len(rest) // self.num_at_once)]
        for prompt in (*by_length[:num_longest], *spread):
            key = TrialKey(prompt_id=prompt.prompt_id, turn=0, repeat=0, arm=arm.name)
            ask = self.requests.planned(prompt, key).ask
            if ask is not None:
                yield ask
