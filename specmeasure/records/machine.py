"""Where a run took place: the machine, its workers, and what else kept it busy."""

from dataclasses import dataclass

SPARE_CORES = 0.5  # other work may exceed what is left by so much: half a core, on average
MOST_STALLED = 0.1  # of the time, before waits for a core are more than odd jobs of the system


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a run took place."""

    versions: dict[str, str]  # package → version
    platform: str
    cpu: str
    num_cores: int  # that the process may run on
    memory_bytes: int
    accelerators: tuple[str, ...] = ()
    num_threads: int
    load_average: float | None  # one minute, before the run; None where the system has none
    other_cores: float | None = None  # kept busy by other work before the run; None: not observed
    cpu_quota: float | None = None  # cores that a container is granted; None: no limit
    num_physical_cores: int | None = None  # fewer where two share one; None: the system tells none
    threads_capped_by: str | None = None  # "OMP_NUM_THREADS=1", as found; None: by no variable

    def threads_on(self, device: str) -> int:
        """CPU threads that decode with a target there: on an accelerator one, which launches."""
        return self.num_threads if device == "cpu" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowding:
    """What other work did to a trial; each None where the system does not tell."""

    other_cores: float | None = None  # kept busy by other processes, on average over the trial
    stalled_share: float | None = None  # of the trial, in which something waited for a core

    def is_crowded(self, num_threads: int, num_cores: int) -> bool | None:
        """Whether other work can have slowed the trial; None where nothing is known.

        It can where it and our threads want more than the cores and half a one, or where something
        waited for a core more than a tenth of the time.
        """
        signs = []
        if self.other_cores is not None:
            signs.append(self.other_cores + num_threads > num_cores + SPARE_CORES)
        if self.stalled_share is not None:
            signs.append(self.stalled_share > MOST_STALLED)
        return any(signs) if signs else None


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
        if self.gpus_per_worker > 1 and not float(self.gpus_per_worker).is_integer():
            raise ValueError(
                f"{self.gpus_per_worker:g} GPUs for each worker: Ray gives out parts of one GPU, "
                "or whole ones"
            )

    @property
    def shares_gpus(self) -> bool:
        """Whether several workers may compute on one GPU at the same time."""
        return 0 < self.gpus_per_worker < 1


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
        quota = () if found.cpu_quota is None else (f"granted {found.cpu_quota:g} cores",)
        threads = _number(found.num_threads, "thread")
        return (found.cpu, _number(found.num_cores, "core"), *quota, threads, *found.accelerators)


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
