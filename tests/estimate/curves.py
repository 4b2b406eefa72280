"""Points of a load curve whose speedups are given."""

from specmeasure.records.estimates import ArmEstimates, Estimates, Interval, Unmeasured
from specmeasure.records.load_curve import ArmUnderLoad, LoadPoint
from specmeasure.records.serving import Load

UNKNOWN = Unmeasured(reason="nobody looked")


def between(low, high):
    """An interval around its middle, over ten windows."""
    return Interval(
        value=(low + high) / 2, low=low, high=high, level=0.95, num_clusters=10, cluster="window"
    )


def a_point(concurrency, speedups, *, rate=None):
    """One load at which these arms decoded so much faster."""
    return LoadPoint(
        load=Load(concurrency=concurrency, rate=rate),
        estimates=Estimates(
            num_prompts=80,
            num_planned_trials=240,
            num_recorded_trials=240,
            noise_floor=between(0.99, 1.01),
            baseline=_arm("baseline", None),
            arms=tuple(_arm(name, speedup) for name, speedup in speedups.items()),
            num_resamples=10,
            seed=0,
        ),
        baseline=_under_load("baseline"),
        arms=tuple(map(_under_load, speedups)),
    )


def _arm(name, speedup):
    return ArmEstimates(
        name=name,
        num_speculative_tokens=0 if speedup is None else 4,
        num_prompts=80,
        num_trials=80,
        num_failed_trials=0,
        num_planned_trials=80,
        num_emitted_tokens=4000,
        ttft_s=UNKNOWN,
        tpot_s=UNKNOWN,
        memory_bytes=None,
        decode_speedup=speedup,
        decode_speedup_corrected=speedup,
    )


def _under_load(name):
    return ArmUnderLoad(
        name=name,
        tokens_per_s=UNKNOWN,
        goodput=None,
        slo_share=None,
        mean_in_flight=None,
        num_retries=0,
        num_in_one_piece=0,
    )
