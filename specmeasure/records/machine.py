"""Where a run took place: the machine, its workers, and what else kept it busy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a run took place."""

    versions: dict[str, str]  # package → version
    platform: str
    cpu: str
    num_cores: int
    memory_bytes: int
    accelerators: tuple[str, ...] = ()
    num_threads: int
    load_average: float | None  # one minute, before the run; None where the system has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowding:
    """What other work did to a trial; each None where the system does not tell."""

    other_cores: float | None = None  # kept busy by other processes, on average over the trial
    stalled_share: float | None = None  # of the trial, in which something waited for a core


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Workers on a Ray cluster, as they were asked for."""

    address: str  # of the cluster, or "local"
    num_workers: int
    gpus_per_worker: float = 0.0
    pools_hardware: bool = False  # one speedup over workers of unlike hardware

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.gpus_per_worker < 0:
            raise ValueError(
                f"{self.num_workers} workers with {self.gpus_per_worker:g} GPUs each: at least one "
                "worker, and no less than no GPU"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that measured whole prompts beside others."""

    number: int  # from 0; trials name it
    node: str  # of the cluster
    environment: Environment

    @property
    def hardware(self) -> tuple[str, ...]:
        """What its times depend on; workers that agree in it can be pooled."""
        found = self.environment
        return (found.cpu, f"{found.num_threads} threads", *found.accelerators)
