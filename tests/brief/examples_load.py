"""Hand-made records of runs on servers. No number was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from specmeasure.records.decision import Decision, LoadVerdict, Policy, RuleOutcome, Verdict
from specmeasure.records.estimates import (
    ArmEstimates,
    Estimates,
    Interval,
    Losslessness,
    Unmeasured,
)
from specmeasure.records.load_curve import (
    ArmUnderLoad,
    BatchSizes,
    Crossover,
    LoadCurve,
    LoadPoint,
)
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method
from specmeasure.records.serving import (
    Endpoint,
    Evidence,
    Load,
    ServerFacts,
    Serving,
    ServingEngine,
    Slo,
)
from specmeasure.records.trace import Manifest
from tests.brief import examples
from tests.brief.examples import MIB, Records, finding

UNTIMED = Unmeasured(reason="a server does not time its passes")
UNSEEN = Unmeasured(reason="the server tells nothing of its drafts")
NOTHING = Unmeasured(reason="no window of this arm was recorded beside the baseline's")
CONFIG = '{{"method": "draft_model", "model": "/models/tiny-draft", "num_speculative_tokens": {}}}'
LOADS = tuple(Load(concurrency=number) for number in (1, 4, 16))
DRAFT_2 = replace(examples.DRAFT_4, name="draft k=2", num_speculative_tokens=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedExample:
    """A run on servers, concluded."""

    manifest: Manifest
    decision: Decision
    curve: LoadCurve

    @property
    def records(self) -> Records:
        """With the estimates of the load decided on."""
        point = next(one for one in self.curve.points if one.load == self.decision.load)
        return self.manifest, point.estimates, self.decision


def interval(value: float, half: float, *, num_windows: int = 10) -> Interval:
    return Interval(
        value=value,
        low=value - half,
        high=value + half,
        level=0.95,
        num_clusters=num_windows,
        cluster="window",
    )


def quantiles(median: float) -> Any:
    made = [interval(median * times, 0.04 * median) for times in (1.0, 1.9, 2.7)]
    return replace(examples.quantiles(1, 2, 3), p50=made[0], p95=made[1], p99=made[2])


def lossless(**changes: Any) -> Losslessness:
    made = Losslessness(
        num_trials=157,
        num_identical=155,
        num_near_tie=2,
        num_divergent=0,
        num_checked_tokens=19_873,
        num_differing_from_baseline=2,
        worst_delta=0.000013,
        worst_noise=0.000029,
        divergent_prompts=(),
        num_compared=157,
    )
    return replace(made, **changes)


def baseline_at(tpot_s: float, **changes: Any) -> ArmEstimates:
    made = replace(
        examples.baseline(),
        num_trials=160,
        num_planned_trials=160,
        num_emitted_tokens=20_117,
        ttft_s=interval(2.9 * tpot_s, 0.1 * tpot_s),
        tpot_s=interval(tpot_s, 0.03 * tpot_s),
        memory_bytes=2913 * MIB,
        ttft_quantiles=quantiles(2.8 * tpot_s),
        tpot_quantiles=quantiles(0.99 * tpot_s),
        end_to_end_quantiles=quantiles(61 * tpot_s),
        losslessness=lossless(num_differing_from_baseline=0),
    )
    return replace(made, **changes)


def arm_at(name: str, speed: float, tpot_s: float, **changes: Any) -> ArmEstimates:
    length = int(name.partition("k=")[2] or 5)
    made = replace(
        examples.draft_arm(),
        name=name,
        num_speculative_tokens=length,
        num_failed_trials=0,
        num_trials=160,
        num_planned_trials=160,
        num_emitted_tokens=20_093,
        ttft_s=interval(3.1 * tpot_s, 0.1 * tpot_s),
        tpot_s=interval(tpot_s / speed, 0.03 * tpot_s),
        memory_bytes=3011 * MIB,
        extra_memory_bytes=98 * MIB,
        ttft_quantiles=quantiles(3.2 * tpot_s),
        tpot_quantiles=quantiles(tpot_s / speed),
        end_to_end_quantiles=quantiles(61 * tpot_s / speed),
        draft_acceptance_rate=interval(0.4731, 0.0217),
        mean_acceptance_length=interval(2.892, 0.083),
        tokens_per_target_pass=UNTIMED,
        acceptance_survival=tuple(interval(0.74**place, 0.021) for place in range(1, 1 + length)),
        conditional_acceptance=(interval(0.743, 0.018),) * length,
        decode_speedup=interval(speed, 0.061),
        decode_speedup_corrected=interval(speed, 0.072),
        end_to_end_speedup=interval(0.97 * speed, 0.057),
        median_prompt_speedup=interval(1.01 * speed, 0.064),
        share_slower=interval(0.1127, 0.0413),
        slices=(),
        losslessness=lossless(),
        costs=UNTIMED,
        textbook=UNTIMED,
    )
    return replace(made, **changes)


def under_load(name: str, tokens_per_s: float, in_flight: float, **changes: Any) -> ArmUnderLoad:
    made = ArmUnderLoad(
        name=name,
        tokens_per_s=interval(tokens_per_s, 0.02 * tokens_per_s),
        goodput=interval(0.0081 * tokens_per_s, 0.0003 * tokens_per_s),
        slo_share=interval(0.9318, 0.0271),
        mean_in_flight=in_flight,
        num_retries=0,
        num_in_one_piece=0,
    )
    return replace(made, **changes)


def point(
    load: Load, tokens_per_s: float, in_flight: float, speeds: Mapping[str, float]
) -> LoadPoint:
    """Each token takes as long as the requests in flight share the throughput."""
    tpot_s = in_flight / tokens_per_s
    return LoadPoint(
        load=load,
        estimates=Estimates(
            num_prompts=160,
            num_planned_trials=160 * (2 + len(speeds)),
            num_recorded_trials=160 * (2 + len(speeds)),
            noise_floor=interval(1.0021, 0.0113),
            baseline=baseline_at(tpot_s),
            arms=tuple(
                arm_at(
                    name,
                    speed,
                    tpot_s,
                    decode_speedup_corrected=replace(
                        interval(speed, 0.072), level=1 - 0.05 / len(speeds)
                    ),
                )
                for name, speed in speeds.items()
            ),
            steadiness=None,
            num_resamples=5000,
            seed=0,
        ),
        baseline=under_load("baseline", tokens_per_s, in_flight),
        arms=tuple(
            under_load(
                name,
                0.96 * speed * tokens_per_s,
                0.98 * in_flight,
                throughput_ratio=interval(0.96 * speed, 0.047),
                goodput_ratio=interval(0.95 * speed, 0.053),
            )
            for name, speed in speeds.items()
        ),
    )


def facts(arm: str, **changes: Any) -> ServerFacts:
    length = int(arm.partition("k=")[2] or 0)
    config = ("--speculative-config", CONFIG.format(length)) if length else ()
    made = ServerFacts(
        arm=arm,
        engine=ServingEngine.VLLM,
        model="tiny-target",
        version="0.32.0",
        url=None,
        command=("python", "-m", "vllm.entrypoints.openai.api_server", "--port", "8102", *config),
        evidence=Evidence.BLOCKS if config else Evidence.NONE,
        gives_ids=True,
        num_speculative_tokens=length or None,
    )
    return replace(made, **changes)


def manifest(serving: Serving, servers: tuple[ServerFacts, ...], *arms: Arm) -> Manifest:
    made = examples.manifest()
    plan = replace(
        made.plan, arms=(BASELINE, BASELINE_AGAIN, *arms), num_repeats=1, serving=serving
    )
    return replace(made, plan=plan, models=(), servers=servers, warnings=())


def managed() -> ServedExample:
    """vLLM started by the run: K = 4 pays up to 4 requests, and nothing does at 16."""
    speeds = (
        {"draft k=4": 1.617, "draft k=2": 1.423},
        {"draft k=4": 1.312, "draft k=2": 1.274},
        {"draft k=4": 0.941, "draft k=2": 0.987},
    )
    rates = ((52.31, 0.997), (171.42, 3.946), (388.73, 15.218))
    points = tuple(
        point(load, *rate, speed) for load, rate, speed in zip(LOADS, rates, speeds, strict=True)
    )
    failed = replace(points[2].estimates.arms[0], num_failed_trials=3)
    points = (
        *points[:2],
        replace(
            points[2],
            estimates=replace(points[2].estimates, arms=(failed, points[2].estimates.arms[1])),
            baseline=replace(points[2].baseline, num_retries=7),
        ),
    )
    policy = Policy(at_concurrency=4)
    chosen = replace(
        examples.go()[-1].arms[0],
        arm="draft k=4",
        findings=(
            finding(examples.SPEED_RULE, RuleOutcome.MET, "1.31 [1.24, 1.38], 10 windows"),
            finding(examples.OUTPUT_RULE, RuleOutcome.MET, "0 of 157 audited"),
        ),
        slices=(),
    )
    serving = Serving(
        engine=ServingEngine.VLLM,
        loads=LOADS,
        slo=Slo(ttft_s=0.5, tpot_s=0.05),
        engine_args=("--max-model-len", "1024"),
    )
    servers = (facts("baseline"), facts("baseline A/A"), facts("draft k=4"), facts("draft k=2"))
    return ServedExample(
        manifest=replace(manifest(serving, servers, examples.DRAFT_4, DRAFT_2), policy=policy),
        decision=Decision(
            verdict=Verdict.GO,
            arm="draft k=4",
            policy=policy,
            arms=(chosen, replace(chosen, arm="draft k=2")),
            load=LOADS[1],
            by_load=(
                LoadVerdict(load=LOADS[0], arm="draft k=4", verdict=Verdict.GO),
                LoadVerdict(load=LOADS[1], arm="draft k=4", verdict=Verdict.GO),
                LoadVerdict(load=LOADS[2], arm="draft k=2", verdict=Verdict.NO_GO),
            ),
        ),
        curve=LoadCurve(
            points=points,
            slo=serving.slo,
            crossovers=(
                Crossover(arm="draft k=4", pays_up_to=4, ends_at=16),
                Crossover(arm="draft k=2", pays_up_to=4, ends_at=16),
            ),
            batch_sizes=(BatchSizes(candidate="draft", ranges=((1, 4, 4), (5, 16, 0))),),
            foreign_share=0.0,
        ),
    )


def overloaded() -> ServedExample:
    """The same run under a policy that names no load: NO_GO at the highest."""
    made = managed()
    chosen = replace(
        made.decision.arms[0],
        arm="draft k=2",
        verdict=Verdict.NO_GO,
        findings=(
            finding(examples.SPEED_RULE, RuleOutcome.FAILED, "0.99 [0.92, 1.06], 10 windows"),
        ),
    )
    decision = replace(
        made.decision,
        verdict=Verdict.NO_GO,
        arm="draft k=2",
        policy=Policy(),
        arms=(chosen, replace(chosen, arm="draft k=4")),
        load=LOADS[2],
    )
    plain = replace(made.manifest, policy=Policy())
    return replace(made, manifest=plain, decision=decision)


def attached() -> ServedExample:
    """Two servers of somebody else that only stream: clocks alone, texts instead of ids."""
    name = "speculative"
    arm = Arm(name=name, method=Method.SERVED, num_speculative_tokens=5)
    loads = (Load(concurrency=2), Load(concurrency=8))
    urls = {"baseline": "http://10.0.0.7:8000", name: "http://10.0.0.8:8000"}
    servers = tuple(
        facts(
            which,
            engine=ServingEngine.OPENAI,
            version=None,
            url=url,
            command=(),
            evidence=Evidence.NONE,
            gives_ids=False,
            num_speculative_tokens=None,
        )
        for which, url in urls.items()
    )
    blind: dict[str, Any] = {
        "draft_acceptance_rate": UNSEEN,
        "mean_acceptance_length": UNSEEN,
        "acceptance_survival": (UNSEEN,) * 5,
        "conditional_acceptance": (UNSEEN,) * 5,
        "num_speculative_tokens": 5,
        "memory_bytes": None,
        "extra_memory_bytes": None,
        "losslessness": lossless(
            num_trials=0,
            num_identical=0,
            num_near_tie=0,
            num_checked_tokens=0,
            num_differing_from_baseline=6,
            worst_delta=None,
            worst_noise=None,
            num_compared=160,
            compared_as_text=True,
        ),
    }
    points = []
    for load, rate, speed in zip(loads, ((97.3, 1.98), (301.8, 7.71)), (1.214, 1.083), strict=True):
        made = point(load, *rate, {name: speed})
        (one,) = made.estimates.arms
        base = replace(made.estimates.baseline, memory_bytes=None, losslessness=None)
        points.append(
            replace(
                made,
                estimates=replace(made.estimates, baseline=base, arms=(replace(one, **blind),)),
                baseline=replace(made.baseline, goodput=None, slo_share=None),
                arms=(
                    replace(
                        made.arms[0],
                        goodput=None,
                        slo_share=None,
                        goodput_ratio=None,
                        throughput_ratio=NOTHING if load == loads[0] else interval(1.041, 0.033),
                    ),
                ),
            )
        )
    chosen = replace(
        examples.go()[-1].arms[0],
        arm=name,
        verdict=Verdict.INCONCLUSIVE,
        findings=(finding(examples.SPEED_RULE, RuleOutcome.OPEN, "1.08 [1.01, 1.16], 10 windows"),),
        slices=(),
    )
    endpoints = tuple(Endpoint(arm=which, url=url) for which, url in urls.items())
    serving = Serving(engine=ServingEngine.OPENAI, loads=loads, endpoints=endpoints)
    return ServedExample(
        manifest=manifest(serving, servers, arm),
        decision=Decision(
            verdict=Verdict.INCONCLUSIVE,
            arm=name,
            policy=Policy(),
            arms=(chosen,),
            load=loads[1],
            by_load=(
                LoadVerdict(load=loads[0], arm=name, verdict=Verdict.GO),
                LoadVerdict(load=loads[1], arm=name, verdict=Verdict.INCONCLUSIVE),
            ),
        ),
        curve=LoadCurve(
            points=tuple(points),
            slo=None,
            crossovers=(Crossover(arm=name, pays_up_to=8, ends_at=None),),
            batch_sizes=(),
            foreign_share=None,
        ),
    )


def llamacpp() -> ServedExample:
    """llama.cpp at two rates of arrival, counters alone, others on it meanwhile; GO at both."""
    arm = replace(examples.NGRAM_8, name="ngram k=4", num_speculative_tokens=4)
    loads = (Load(rate=0.5), Load(rate=2.5))
    ordered = ("llama-server", "--model", "/models/tiny target.gguf", "--port", "8123")
    servers = tuple(
        facts(
            which,
            engine=ServingEngine.LLAMACPP,
            version="b6712",
            command=ordered,
            evidence=Evidence.COUNTERS,
            num_speculative_tokens=None,
        )
        for which in ("baseline", arm.name)
    )
    points = (
        point(loads[0], 61.7, 0.41, {arm.name: 1.512}),
        point(loads[1], 212.9, 2.87, {arm.name: 1.338}),
    )
    policy = Policy()
    chosen = replace(
        examples.go()[-1].arms[0],
        arm=arm.name,
        findings=(finding(examples.SPEED_RULE, RuleOutcome.MET, "1.34 [1.27, 1.41], 10 windows"),),
        slices=(),
    )
    serving = Serving(
        engine=ServingEngine.LLAMACPP,
        loads=loads,
        program="/opt/llama-server",
        engine_args=("--mlock",),
        keep_apart=True,
    )
    made = manifest(serving, servers, arm)
    return ServedExample(
        manifest=replace(made, plan=replace(made.plan, target="/models/tiny target.gguf")),
        decision=Decision(
            verdict=Verdict.GO,
            arm=arm.name,
            policy=policy,
            arms=(chosen,),
            load=loads[1],
            by_load=tuple(
                LoadVerdict(load=load, arm=arm.name, verdict=Verdict.GO) for load in loads
            ),
        ),
        curve=LoadCurve(
            points=tuple(
                replace(
                    one,
                    baseline=replace(one.baseline, goodput=None, slo_share=None),
                    arms=tuple(
                        replace(own, goodput=None, slo_share=None, goodput_ratio=None)
                        for own in one.arms
                    ),
                )
                for one in points
            ),
            slo=None,
            crossovers=(),
            batch_sizes=(),
            foreign_share=0.0312,
        ),
    )


EXAMPLES = {
    "managed": managed,
    "overloaded": overloaded,
    "attached": attached,
    "llamacpp": llamacpp,
}
