"""Workers on a Ray cluster: one actor each, ended when the pool is closed.

The only module that imports ray. Errors of ours travel as values, so that no text of a prompt gets
into a traceback or a log of Ray's; prompts themselves go to workers over the cluster alone.
"""

import os
import socket
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from specmeasure.errors import ClusterError, SpecmeasureError
from specmeasure.records.machine import Fleet
from specmeasure.run.cluster import Layout, Node, lay_out
from specmeasure.run.cores import free_cores, thread_cap, usable_cores
from specmeasure.run.crew import Died, Done, Facts, Failed, Placed, Ready, Share, Station, Told
from specmeasure.run.environment import versions
from specmeasure.run.failures import Failure, unless_it_fails
from specmeasure.run.pool import Pool

LOCAL = "local"
OBJECT_STORE_BYTES = 100_000_000  # of a cluster that is started here; findings are small
CONNECT_TIMEOUT_S = 5.0  # for the head's port to open
SETTLE_S, POLL_S = 20.0, 0.5  # for the resources of work that has ended to be free again
REASON_LINES, MOST_SAID = 2, 300  # of what Ray says, and characters of it
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without a GPU sees none
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # else workers give way to whatever else runs, 15 steps down
}

Task = TypeVar("Task")
Finding = TypeVar("Finding")


@contextmanager
def ray_pool(
    fleet: Fleet,
    make: Callable[[Share], Station[Task, Finding]],
    *,
    numbered_from: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Pool[Task, Finding]]:
    """A pool whose workers are actors on the fleet's cluster, all of them ready.

    Args:
        fleet: as asked for.
        make: called once in each worker; it travels there, as tasks and findings do.
        numbered_from: the number of the first worker.
        say: told what begins now, and what the cluster has.

    Raises:
        ClusterError: ray is not installed, the cluster cannot be reached, it lacks what is asked
            for, or workers are not alike.
        SpecmeasureError: a worker cannot be set up; the node is named.
    """
    ray = import_ray()
    with _connected(ray, fleet.address):
        layout = _layout(ray, fleet)
        say(layout.said)
        crew: RayCrew[Task, Finding] = RayCrew(ray, make, layout)
        with Pool[Task, Finding](
            crew=crew,
            num_workers=fleet.num_workers,
            pools_hardware=fleet.pools_hardware,
            numbered_from=numbered_from,
            say=say,
        ) as pool:
            yield pool


def import_ray() -> Any:
    """Ray, told to be quiet and to send nothing home.

    Raises:
        ClusterError: it is not installed.
    """
    os.environ.update(QUIET)
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            "--ray needs the package ray, which is not installed here. Install it on every node: "
            'pip install "specmeasure[ray]".'
        ) from error
    return ray


class RayWorker(Generic[Task, Finding]):
    """One worker's process: it loads on ``set_up`` and then works task by task."""

    def __init__(self, num_cores: int, folder: str) -> None:
        ray = import_ray()
        context = ray.get_runtime_context()
        if Path(folder).is_dir():  # that relative names of models start from
            os.chdir(folder)
        os.environ.setdefault("OMP_NUM_THREADS", str(num_cores))  # Ray does so, too
        cap = thread_cap()
        most = num_cores if cap is None else min(num_cores, cap[1])
        self._share = Share(num_cores=most, num_granted=num_cores)
        self._node_id = context.get_node_id()[:8]
        self._node = f"{socket.gethostname()} ({self._node_id})"
        self._station: Station[Task, Finding] | None = None

    def place(self) -> dict[str, Any]:
        """Where it runs, as a reader would look for it, and with what software.

        It is asked before anything else, in no class of ours: another version may not know it.
        """
        return {"node": self._node, "node_id": self._node_id, "versions": versions()}

    def set_up(
        self, make: Callable[[Share], Station[Task, Finding]], lead: Facts | None
    ) -> Facts | SpecmeasureError:
        """Load models; an error is returned, not raised."""
        share = replace(self._share, lead=lead)
        if lead is None:  # the others take the number of threads that it finds
            share = replace(share, num_cores=min(share.num_cores, free_cores()))
        try:
            made = unless_it_fails(lambda: make(share))
        except SpecmeasureError as error:
            return self._named(error)
        if isinstance(made, Failure):
            return ClusterError(f"The worker on node {self._node} was not set up: {made.reason}.")
        self._station = made
        return replace(made.facts, warnings=(*made.facts.warnings, *niceness_notes(self._node)))

    def work(self, task: Task) -> Iterator[Finding | SpecmeasureError]:
        """Findings one by one; an error is the last."""
        if self._station is None:
            raise RuntimeError("a worker that is not set up has no work")
        findings = self._station.work(task)
        while True:
            try:
                found = unless_it_fails(lambda: next(findings, _END))
            except SpecmeasureError as error:
                yield self._named(error)
                return
            if found is _END:
                return
            if isinstance(found, Failure):
                yield ClusterError(f"The worker on node {self._node} failed: {found.reason}.")
                return
            yield found

    def _named(self, error: SpecmeasureError) -> SpecmeasureError:
        return type(error)(f"On node {self._node}: {error}")


def niceness_notes(node: str) -> tuple[str, ...]:
    """What to tell where the cluster lets this process give way to all other work."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness <= 0:
        return ()
    said = (
        f"Workers on node {node} give way to whatever else runs there (niceness {niceness}): other "
        "work slows them more than it slows a user's own process. Start Ray there with "
        "RAY_worker_niceness=0 in its environment."
    )
    return (said,)


_END = Failure("no more findings")


@dataclass(slots=True)
class _Actor:
    """A worker as the crew sees it."""

    handle: Any
    lead: Facts | None
    place: Any  # the reference of where it is; None: that is known
    facts: Any = None  # the reference of its facts, while it is set up
    finding: Any = None  # the generator of its task's findings; None: it is idle
    node: str = ""
    node_id: str = "not known"

    @property
    def awaited(self) -> Any:
        """What it will say next, if it will say anything."""
        return self.place or self.facts or self.finding


class RayCrew(Generic[Task, Finding]):
    """Actors, and what is heard of them. One that waits for a place on the cluster is silent."""

    def __init__(
        self, ray: Any, make: Callable[[Share], Station[Task, Finding]], layout: Layout
    ) -> None:
        self._ray = ray
        self._make = make
        self._layout = layout
        self._actors: dict[Hashable, _Actor] = {}
        self._num_hired = 0

    def hire(self, lead: Facts | None) -> int:
        """See ``Crew``."""
        actor = (
            self._ray.remote(RayWorker)
            .options(
                num_cpus=self._layout.num_cores,
                num_gpus=self._layout.num_gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )
            .remote(self._layout.num_cores, str(Path.cwd()))
        )
        who, self._num_hired = self._num_hired, self._num_hired + 1
        self._actors[who] = _Actor(handle=actor, lead=lead, place=actor.place.remote())
        return who

    def give(self, who: Hashable, task: Task) -> None:
        """See ``Crew``."""
        actor = self._actors[who]
        actor.finding = actor.handle.work.options(num_returns="streaming").remote(task)

    def hear(
        self, timeout_s: float
    ) -> Placed | Ready | Told[Finding] | Done | Died | Failed | None:
        """See ``Crew``; whoever was heard last comes last, so that nobody is passed over."""
        waited = {actor.awaited: who for who, actor in self._actors.items() if actor.awaited}
        ready, _ = self._ray.wait(list(waited), timeout=timeout_s, fetch_local=True)
        if not ready:
            return None
        who = waited[ready[0]]
        actor = self._actors[who] = self._actors.pop(who)
        try:
            return self._said(who, actor)
        except self._ray.exceptions.RayError as error:
            del self._actors[who]
            return Died(who, f"On node {actor.node_id}: {_death(error)}")

    def dismiss(self, who: Hashable) -> None:
        """See ``Crew``."""
        actor = self._actors.pop(who, None)
        if actor is not None:
            self._ray.kill(actor.handle)

    def close(self) -> None:
        """See ``Crew``."""
        for who in list(self._actors):
            self.dismiss(who)

    def _said(self, who: Hashable, actor: _Actor) -> Placed | Ready | Told[Finding] | Done | Failed:
        if actor.place:
            return self._placed(who, actor)
        return self._set_up(who, actor) if actor.facts else self._worked(who, actor)

    def _placed(self, who: Hashable, actor: _Actor) -> Placed | Failed:
        """Let it be set up, if it can read what it is sent."""
        place = self._ray.get(actor.place)
        actor.place, actor.node, actor.node_id = None, place["node"], place["node_id"]
        reason = other_software(place["node"], place["versions"], versions())
        if reason is not None:
            return Failed(who, ClusterError(reason))
        actor.facts = actor.handle.set_up.remote(self._make, actor.lead)
        return Placed(who, actor.node)

    def _set_up(self, who: Hashable, actor: _Actor) -> Ready | Failed:
        facts = self._ray.get(actor.facts)
        actor.facts = None
        if isinstance(facts, SpecmeasureError):
            return Failed(who, facts)
        return Ready(who, actor.node, facts)

    def _worked(self, who: Hashable, actor: _Actor) -> Told[Finding] | Done | Failed:
        try:
            reference = next(actor.finding)
        except StopIteration:
            actor.finding = None
            return Done(who)
        finding = self._ray.get(reference)
        return Failed(who, finding) if isinstance(finding, SpecmeasureError) else Told(who, finding)


def other_software(node: str, there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """Why a node cannot be sent anything; other packages are compared among workers."""
    found, own = there.get("specmeasure"), here.get("specmeasure")
    if found == own:
        return None
    return (
        f"Node {node} has specmeasure {found or 'not installed'}, this process {own}. Install the "
        "same version on all nodes."
    )


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """A connection to the cluster, which ends with the block unless it was there before."""
    if ray.is_initialized():
        yield
        return
    try:
        if address == LOCAL:
            _start(ray)
        else:
            _refuse_silence(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(
            f"--ray {address}: no connection to a Ray cluster: {_in_short(error)} Start "
            "specmeasure on a node of the cluster, with its versions of Ray and Python."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _start(ray: Any) -> None:
    ray.init(
        address=LOCAL,
        num_cpus=usable_cores(),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
    )


def _refuse_silence(address: str) -> None:
    """Ray itself would try for many minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "//" in host:
        raise ClusterError(
            f"--ray {address}: not an address. Give local, auto, or the head's HOST:PORT (6379 "
            "unless it was started otherwise); ray:// addresses cannot stream trials."
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(
            f"--ray {address}: nothing answers there within {CONNECT_TIMEOUT_S:.0f} s ({error}). "
            "Start the cluster with ray start --head, or name its head's address."
        ) from error


def _layout(ray: Any, fleet: Fleet) -> Layout:
    """What every worker gets; work that has just ended is given time to be out of the way.

    Raises:
        ClusterError: there is no room, or none that is free.
    """
    best = lay_out(fleet, _nodes(ray, {}))
    deadline = time.monotonic() + SETTLE_S
    while True:
        free = _nodes(ray, ray._private.state.available_resources_per_node())  # noqa: SLF001
        try:
            found = lay_out(fleet, free)
        except ClusterError:
            if time.monotonic() > deadline:
                raise
        else:
            if found.num_cores == best.num_cores or time.monotonic() > deadline:
                return found
        time.sleep(POLL_S)


def _nodes(ray: Any, free: dict[str, dict[str, float]]) -> list[Node]:
    """What is free on each node, as far as it is told; else what it has."""
    return [
        Node(
            name=str(node["NodeManagerHostname"]),
            num_cores=int(resources.get("CPU", 0)),
            num_gpus=float(resources.get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
        for resources in [free.get(node["NodeID"], node["Resources"])]
    ]


def _in_short(error: BaseException) -> str:
    """The first lines of what Ray says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:REASON_LINES])[:MOST_SAID].rstrip(".") + "."


def _death(error: BaseException) -> str:
    """Why a worker is no more, without Ray's advice and numbers."""
    said = str(error)
    if "node has died" in said or "node died" in said:
        return "the node is gone."
    if "low on memory" in said:
        return "memory ran out on it, and Ray ended the worker."
    if "has died" in said or "died unexpectedly" in said:
        return "its process ended: it was killed, crashed, or ran out of memory."
    return f"{type(error).__name__}: {_in_short(error)}"
