"""Hand-made records: three runs that end in GO, NO_GO and INCONCLUSIVE. No number was measured."""

from dataclasses import replace
from typing import Any

from specmeasure.records.corpus import CorpusOptions, Dropped, SourceFile
from specmeasure.records.decision import (
    ArmDecision,
    Decision,
    Policy,
    RuleFinding,
    RuleOutcome,
    SliceVerdict,
    Verdict,
)
from specmeasure.records.estimates import (
    Accuracy,
    ArmEstimates,
    Costs,
    CrowdedArm,
    CrowdedTrials,
    Drift,
    Estimate,
    Estimates,
    FirstDivergence,
    Interval,
    Losslessness,
    NearTie,
    Outlier,
    Quantiles,
    SampledLosslessness,
    SliceEstimates,
    SpeedStep,
    Steadiness,
    Stopping,
    Textbook,
    Unmeasured,
)
from specmeasure.records.machine import Environment
from specmeasure.records.plan import (
    BASELINE,
    BASELINE_AGAIN,
    Arm,
    Method,
    Plan,
    Sampling,
    TrialKey,
    TypicalAcceptance,
)
from specmeasure.records.trace import (
    Audit,
    BlockRecord,
    Checks,
    CorpusFacts,
    Divergence,
    FinishReason,
    Manifest,
    ModelFacts,
    SuspectToken,
    Trace,
    TrialRecord,
)

MIB = 1024 * 1024

Records = tuple[Manifest, Estimates, Decision]

DRAFT_4 = Arm(
    name="draft k=4", method=Method.DRAFT_MODEL, num_speculative_tokens=4, draft="models/tiny-draft"
)
NGRAM_8 = Arm(
    name="ngram k=8", method=Method.NGRAM, num_speculative_tokens=8, max_ngram=3, min_ngram=1
)

SPEED_RULE = "decode speedup ≥ 1.10 at the lower bound"
SLICE_RULE = "no category's speedup below 1.00 at its upper bound"
OUTPUT_RULE = "at most 0 divergent trials"
PROMPTS_RULE = "at least 20 prompts"
NOISE_RULE = "A/A interval reaches 1 ± 0.02"


def interval(
    value: float, low: float, high: float, *, level: float = 0.95, num_prompts: int = 160
) -> Interval:
    return Interval(value=value, low=low, high=high, level=level, num_clusters=num_prompts)


def manifest(**changes: Any) -> Manifest:
    plan = Plan(
        target="models/tiny-target",
        arms=(BASELINE, BASELINE_AGAIN, DRAFT_4, NGRAM_8),
        max_new_tokens=128,
        num_repeats=2,
        seed=7,
    )
    corpus = CorpusFacts(
        sources=("/srv/logs/prompts.jsonl",),
        options=CorpusOptions(limit=160),
        fingerprint="9f2c4b1d77aa0c55" * 4,
        num_prompts=160,
        files=(
            SourceFile(
                path="/srv/logs/prompts.jsonl", format="jsonl", num_rows=163, num_prompts=160
            ),
        ),
        dropped=(
            Dropped(
                reason="empty prompt",
                num_rows=2,
                places=("prompts.jsonl:17", "prompts.jsonl:40"),
            ),
            Dropped(reason="duplicate", num_rows=1, places=("prompts.jsonl:91",)),
        ),
    )
    environment = Environment(
        versions={"torch": "2.13.0", "transformers": "5.23.0", "specmeasure": "0.1.0"},
        platform="Linux-6.1-x86_64",
        cpu="AMD EPYC 7B13",
        num_cores=2,
        memory_bytes=24 * 1024 * MIB,
        num_threads=2,
        load_average=0.42,
    )
    made = Manifest(
        schema_version=1,
        started_at="2026-11-23T18:00:00Z",
        argv=("specmeasure", "run", "/srv/logs/prompts.jsonl", "--draft", "models/tiny-draft"),
        plan=plan,
        corpus=corpus,
        environment=environment,
        models=(
            model("models/tiny-target", num_parameters=3_400_000),
            model("models/tiny-draft", num_parameters=300_000),
        ),
        num_planned_trials=1280,
        policy=Policy(),
        warnings=("load average 0.42 before the run: other work shares the cores",),
    )
    return replace(made, **changes)


def model(name: str, *, num_parameters: int) -> ModelFacts:
    return ModelFacts(
        name=name,
        fingerprint="4be1d0c9aa5577e3" * 4,
        num_parameters=num_parameters,
        dtype="float32",
        device="cpu",
        cache="crop",
        vocab_size=2048,
    )


def quantiles(*values: float, num_prompts: int = 160) -> Quantiles:
    """p50, p95 and p99 in seconds, 4 % around them."""
    made = [interval(v, 0.96 * v, 1.04 * v, num_prompts=num_prompts) for v in values]
    return Quantiles(p50=made[0], p95=made[1], p99=made[2])


def slice_estimates(
    name: str, num_prompts: int, speed: Estimate, tau: Estimate, accepted: Estimate
) -> SliceEstimates:
    return SliceEstimates(
        axis="category",
        name=name,
        num_prompts=num_prompts,
        decode_speedup=speed,
        mean_acceptance_length=tau,
        draft_acceptance_rate=accepted,
    )


def baseline() -> ArmEstimates:
    return ArmEstimates(
        name="baseline",
        num_speculative_tokens=0,
        num_prompts=160,
        num_trials=320,
        num_failed_trials=0,
        num_planned_trials=320,
        num_emitted_tokens=30_112,
        ttft_s=interval(0.0182, 0.0176, 0.0189),
        tpot_s=interval(0.01231, 0.01222, 0.01240),
        memory_bytes=14 * MIB,
        ttft_quantiles=quantiles(0.0181, 0.0414, 0.0602),
        tpot_quantiles=quantiles(0.01229, 0.01373, 0.01415),
        end_to_end_quantiles=quantiles(1.171, 1.603, 1.721),
        losslessness=Losslessness(
            num_trials=320,
            num_identical=317,
            num_near_tie=3,
            num_divergent=0,
            num_checked_tokens=30_112,
            num_differing_from_baseline=0,
            worst_delta=0.000021,
            worst_noise=0.000034,
            divergent_prompts=(),
        ),
    )


def draft_arm(**changes: Any) -> ArmEstimates:
    made = ArmEstimates(
        name="draft k=4",
        num_speculative_tokens=4,
        num_prompts=160,
        num_trials=320,
        num_failed_trials=1,
        num_planned_trials=320,
        num_emitted_tokens=30_020,
        ttft_s=interval(0.0199, 0.0191, 0.0207),
        tpot_s=interval(0.00867, 0.00829, 0.00911),
        memory_bytes=16 * MIB,
        ttft_quantiles=quantiles(0.0198, 0.0452, 0.0671),
        tpot_quantiles=quantiles(0.00857, 0.01181, 0.01342),
        end_to_end_quantiles=quantiles(0.864, 1.312, 1.498),
        extra_memory_bytes=2 * MIB,
        draft_acceptance_rate=interval(0.7132, 0.6912, 0.7299),
        mean_acceptance_length=interval(2.941, 2.853, 3.022),
        tokens_per_target_pass=interval(2.912, 2.823, 2.997),
        acceptance_survival=(
            interval(0.783, 0.765, 0.801),
            interval(0.571, 0.548, 0.595),
            interval(0.362, 0.334, 0.389),
            interval(0.225, 0.199, 0.252),
        ),
        conditional_acceptance=(
            interval(0.783, 0.765, 0.801),
            interval(0.731, 0.709, 0.752),
            interval(0.637, 0.604, 0.668),
            interval(0.623, 0.575, 0.671),
        ),
        decode_speedup=interval(1.421, 1.359, 1.484),
        decode_speedup_corrected=interval(1.421, 1.352, 1.493, level=0.975),
        end_to_end_speedup=interval(1.352, 1.291, 1.411),
        median_prompt_speedup=interval(1.389, 1.331, 1.442),
        share_slower=interval(0.0437, 0.0187, 0.0812),
        slices=(
            slice_estimates(
                "booking",
                80,
                interval(1.812, 1.721, 1.903, level=0.983, num_prompts=80),
                interval(3.71, 3.60, 3.83, num_prompts=80),
                interval(0.812, 0.788, 0.834, num_prompts=80),
            ),
            slice_estimates(
                "tools",
                50,
                interval(1.301, 1.202, 1.409, level=0.983, num_prompts=50),
                interval(2.61, 2.44, 2.79, num_prompts=50),
                interval(0.655, 0.611, 0.699, num_prompts=50),
            ),
            slice_estimates(
                "code",
                30,
                interval(1.012, 0.934, 1.097, level=0.983, num_prompts=30),
                interval(1.92, 1.77, 2.10, num_prompts=30),
                Unmeasured(reason="fewer than 2 prompts of this category drafted"),
            ),
        ),
        losslessness=Losslessness(
            num_trials=319,
            num_identical=316,
            num_near_tie=3,
            num_divergent=0,
            num_checked_tokens=30_020,
            num_differing_from_baseline=3,
            worst_delta=0.000021,
            worst_noise=0.000034,
            divergent_prompts=(),
            near_ties=(
                NearTie(place="p-017, turn 1, token 4", delta=0.000021, noise=0.000034),
                NearTie(place="p-058, turn 1, token 87", delta=0.000013, noise=0.000032),
            ),
            first_divergences=(
                FirstDivergence(
                    place="p-017, turn 1, token 4",
                    token_id=603,
                    baseline_token_id=511,
                    gap=0.000021,
                    noise=0.000034,
                ),
                FirstDivergence(
                    place="p-058, turn 1, token 87",
                    token_id=None,
                    baseline_token_id=29,
                    gap=None,
                    noise=None,
                ),
            ),
        ),
        costs=Costs(
            target_step_s=0.01218,
            draft_ratio=0.0812,
            verify_ratio=1.352,
            overhead_ratio=0.0711,
            overhead_share=0.034,
            tokens_per_pass=2.483,
            break_even_tokens_per_pass=1.748,
        ),
        textbook=Textbook(
            acceptance=interval(0.7213, 0.7014, 0.7391),
            tokens_per_pass=2.891,
            decode_speedup=2.182,
            speedup_with_verification=1.724,
            speedup_with_overhead=1.654,
        ),
    )
    return replace(made, **changes)


def ngram_arm(**changes: Any) -> ArmEstimates:
    made = ArmEstimates(
        name="ngram k=8",
        num_speculative_tokens=8,
        num_prompts=160,
        num_trials=320,
        num_failed_trials=0,
        num_planned_trials=320,
        num_emitted_tokens=30_112,
        ttft_s=interval(0.0183, 0.0177, 0.0190),
        tpot_s=interval(0.01402, 0.01345, 0.01466),
        memory_bytes=14 * MIB,
        ttft_quantiles=quantiles(0.0182, 0.0416, 0.0603),
        tpot_quantiles=quantiles(0.01391, 0.01583, 0.01612),
        end_to_end_quantiles=Unmeasured(reason="one request of this arm has no first token"),
        extra_memory_bytes=0,
        draft_acceptance_rate=interval(0.183, 0.151, 0.221),
        mean_acceptance_length=interval(1.88, 1.71, 2.09),
        tokens_per_target_pass=interval(1.31, 1.22, 1.42),
        acceptance_survival=(
            interval(0.41, 0.37, 0.46),
            interval(0.21, 0.17, 0.25),
            interval(0.12, 0.09, 0.16),
            interval(0.07, 0.04, 0.11),
            interval(0.04, 0.02, 0.07),
            interval(0.02, 0.01, 0.05),
            interval(0.01, 0.0, 0.03),
            Unmeasured(reason="no block kept 7 drafts"),
        ),
        conditional_acceptance=(
            interval(0.41, 0.37, 0.46),
            interval(0.51, 0.45, 0.58),
            interval(0.57, 0.48, 0.67),
            interval(0.58, 0.42, 0.73),
            interval(0.57, 0.37, 0.78),
            interval(0.50, 0.21, 0.79),
            interval(0.50, 0.05, 0.95),
            Unmeasured(reason="no block kept 7 drafts"),
        ),
        decode_speedup=interval(0.878, 0.844, 0.911),
        decode_speedup_corrected=interval(0.878, 0.838, 0.917, level=0.975),
        end_to_end_speedup=interval(0.891, 0.859, 0.921),
        median_prompt_speedup=interval(0.882, 0.861, 0.903),
        share_slower=interval(0.825, 0.762, 0.881),
        slices=(
            slice_estimates(
                "booking",
                80,
                interval(0.871, 0.812, 0.932, level=0.983, num_prompts=80),
                interval(1.81, 1.62, 2.02, num_prompts=80),
                interval(0.171, 0.131, 0.217, num_prompts=80),
            ),
            slice_estimates(
                "tools",
                79,
                interval(0.951, 0.911, 0.992, level=0.983, num_prompts=79),
                interval(2.11, 1.84, 2.43, num_prompts=79),
                interval(0.241, 0.181, 0.311, num_prompts=79),
            ),
            slice_estimates(
                "code",
                1,
                Unmeasured(reason="1 prompt is too few to resample"),
                Unmeasured(reason="1 prompt is too few to resample"),
                Unmeasured(reason="1 prompt is too few to resample"),
            ),
        ),
        losslessness=Losslessness(
            num_trials=320,
            num_identical=320,
            num_near_tie=0,
            num_divergent=0,
            num_checked_tokens=30_112,
            num_differing_from_baseline=0,
            worst_delta=None,
            worst_noise=None,
            divergent_prompts=(),
        ),
        costs=Costs(
            target_step_s=0.01218,
            draft_ratio=None,  # as where no draft was timed
            verify_ratio=1.431,
            overhead_ratio=0.0612,
            overhead_share=0.041,
            tokens_per_pass=1.312,
            break_even_tokens_per_pass=1.495,
        ),
        textbook=Unmeasured(reason="no draft was timed"),
    )
    return replace(made, **changes)


def estimates(**changes: Any) -> Estimates:
    made = Estimates(
        num_prompts=160,
        num_planned_trials=1280,
        num_recorded_trials=1280,
        noise_floor=interval(1.0034, 0.9941, 1.0127),
        baseline=baseline(),
        arms=(draft_arm(), ngram_arm()),
        steadiness=Steadiness(
            pace=(1.0, 0.98, 1.01, 1.14, 1.16, 1.13),
            steps=(SpeedStep(cycle=3, ratio=1.147),),
            outliers=(Outlier(place="p-031, turn 1, draft k=4", ratio=2.314),),
            num_outliers=1,
        ),
        num_resamples=5000,
        seed=0,
    )
    return replace(made, **changes)


def crowding(**changes: Any) -> CrowdedTrials:
    """Two cores of which others kept 1.3 busy during two fifths of the trials."""
    made = CrowdedTrials(
        num_trials=1280,
        crowded_share=525 / 1280,
        num_cores=2,
        other_cores=1.312,
        stalled_share=0.3461,
        arms=tuple(
            CrowdedArm(name=name, num_trials=320, crowded_share=number / 320)
            for name, number in (
                ("baseline", 133),
                ("baseline A/A", 127),
                ("draft k=4", 134),
                ("ngram k=8", 131),
            )
        ),
        p_value=0.617,
        crowded_noise_floor=interval(1.0981, 1.0211, 1.1752, num_prompts=71),
        quiet_noise_floor=interval(1.0031, 0.9962, 1.0102, num_prompts=89),
    )
    return replace(made, **changes)


def finding(
    rule: str, outcome: RuleOutcome, observed: str, *, blocks_no_go: bool = False
) -> RuleFinding:
    return RuleFinding(rule=rule, outcome=outcome, observed=observed, blocks_no_go=blocks_no_go)


def ngram_decision() -> ArmDecision:
    return ArmDecision(
        arm="ngram k=8",
        verdict=Verdict.NO_GO,
        findings=(
            finding(SPEED_RULE, RuleOutcome.FAILED, "0.88 [0.84, 0.92], 160 prompts"),
            finding(SLICE_RULE, RuleOutcome.FAILED, "booking 0.87 [0.81, 0.93]"),
            finding(OUTPUT_RULE, RuleOutcome.MET, "0 of 320 trials"),
        ),
        slices=(
            SliceVerdict(axis="category", name="booking", verdict=Verdict.NO_GO),
            SliceVerdict(axis="category", name="tools", verdict=Verdict.NO_GO),
            SliceVerdict(axis="category", name="code", verdict=Verdict.INCONCLUSIVE),
        ),
        num_prompts_to_settle=None,
    )


def go() -> Records:
    """A draft model that pays on two categories of three."""
    chosen = ArmDecision(
        arm="draft k=4",
        verdict=Verdict.GO,
        findings=(
            finding(SPEED_RULE, RuleOutcome.MET, "1.42 [1.35, 1.49], 160 prompts"),
            finding(SLICE_RULE, RuleOutcome.MET, "lowest is code, 1.01 [0.93, 1.10]"),
            finding(OUTPUT_RULE, RuleOutcome.MET, "0 of 319 trials"),
            finding(PROMPTS_RULE, RuleOutcome.MET, "160 prompts"),
            finding(NOISE_RULE, RuleOutcome.MET, "1.003 [0.994, 1.013]"),
        ),
        slices=(
            SliceVerdict(axis="category", name="booking", verdict=Verdict.GO),
            SliceVerdict(axis="category", name="tools", verdict=Verdict.GO),
            SliceVerdict(axis="category", name="code", verdict=Verdict.NO_GO),
        ),
        num_prompts_to_settle=None,
    )
    decision = Decision(
        verdict=Verdict.GO, arm="draft k=4", policy=Policy(), arms=(chosen, ngram_decision())
    )
    return manifest(), estimates(), decision


def no_go() -> Records:
    """n-gram lookup alone, slower than the target."""
    plan = replace(manifest().plan, arms=(BASELINE, BASELINE_AGAIN, NGRAM_8))
    decision = Decision(
        verdict=Verdict.NO_GO, arm="ngram k=8", policy=Policy(), arms=(ngram_decision(),)
    )
    corpus = replace(manifest().corpus, dropped=())
    made = manifest(plan=plan, corpus=corpus, models=manifest().models[:1], warnings=())
    found = estimates(arms=(ngram_arm(),), num_planned_trials=960, num_recorded_trials=960)
    return made, found, decision


def inconclusive() -> Records:
    """A sampled run of 24 prompts without categories that says too little."""
    plan = replace(
        manifest().plan,
        arms=(BASELINE, DRAFT_4),
        sampling=Sampling(temperature=0.7, top_p=0.9),
        num_repeats=1,
    )
    arm = draft_arm(
        num_prompts=24,
        num_trials=24,
        decode_speedup=interval(1.142, 1.021, 1.273, num_prompts=24),
        decode_speedup_corrected=interval(1.142, 1.021, 1.273, num_prompts=24),
        median_prompt_speedup=Unmeasured(reason="sampled texts differ in length, so no pairs"),
        share_slower=Unmeasured(reason="sampled texts differ in length, so no pairs"),
        slices=(),
        losslessness=Unmeasured(reason="only greedy runs are audited token by token"),
        costs=Unmeasured(reason="no pass without drafts was timed"),
        textbook=Unmeasured(reason="no pass without drafts was timed"),
    )
    decision = Decision(
        verdict=Verdict.INCONCLUSIVE,
        arm="draft k=4",
        policy=Policy(),
        arms=(
            ArmDecision(
                arm="draft k=4",
                verdict=Verdict.INCONCLUSIVE,
                findings=(
                    finding(SPEED_RULE, RuleOutcome.OPEN, "1.14 [1.02, 1.27], 24 prompts"),
                    finding(PROMPTS_RULE, RuleOutcome.MET, "24 prompts"),
                    finding(NOISE_RULE, RuleOutcome.OPEN, "not measured: no A/A arm"),
                ),
                slices=(),
                num_prompts_to_settle=230,
            ),
        ),
    )
    made = estimates(
        num_prompts=24,
        num_planned_trials=48,
        num_recorded_trials=47,
        noise_floor=Unmeasured(reason="the plan has no A/A arm"),
        baseline=replace(baseline(), losslessness=arm.losslessness),
        arms=(arm,),
    )
    return manifest(plan=plan), made, decision


def sampled() -> Records:
    """The GO example drawn by chance, tested, stopped at its third look; and a lossy arm beside it.

    Its n-gram arm accepts by typical acceptance, so that its drift and its answers were measured.
    """
    manifest_, found, decision = go()
    lossy = replace(NGRAM_8, lossy=TypicalAcceptance())
    plan = replace(
        manifest_.plan,
        arms=(BASELINE, BASELINE_AGAIN, DRAFT_4, lossy),
        sampling=Sampling(temperature=0.7, top_p=0.9),
    )
    tested = SampledLosslessness(
        num_trials=320,
        num_tokens=30_020,
        num_impossible=0,
        p_uniform=0.3127,
        p_baseline=0.6214,
        p_surprise=0.4418,
        p_pull=0.1093,
        p_value=0.4372,
        excess_nats=0.000731,
        pull_share=0.0113,
        detectable_share=0.0241,
        detectable_acceptance=0.0158,
    )
    accuracy = Accuracy(
        check="number",
        num_answers=148,
        baseline=interval(0.6418, 0.5612, 0.7153),
        arm=interval(0.6283, 0.5471, 0.7027),
        difference=interval(-0.0135, -0.0431, 0.0161),
    )
    drift = Drift(
        num_tokens=30_112,
        nats_per_token=interval(0.0213, 0.0192, 0.0234),
        changed_share=interval(0.0378, 0.0341, 0.0416),
    )
    arms = (
        draft_arm(losslessness=None, sampled_losslessness=tested),
        ngram_arm(losslessness=None, drift=drift, accuracy=accuracy),
    )
    stopping = Stopping(look=3, num_looks=5, num_prompts=160, max_prompts=400, level=0.9914)
    found = replace(
        found, arms=arms, stopping=stopping, baseline=replace(found.baseline, losslessness=None)
    )
    return replace(manifest_, plan=plan), found, decision


def noisy() -> Records:
    """The GO example on a machine whose A/A interval excludes what the policy tolerates."""
    manifest_, found, decision = go()
    chosen = replace(
        decision.arms[0],
        verdict=Verdict.INCONCLUSIVE,
        findings=(
            *decision.arms[0].findings[:-1],
            finding(NOISE_RULE, RuleOutcome.FAILED, "1.051 [1.032, 1.069]", blocks_no_go=True),
        ),
    )
    found = replace(found, noise_floor=interval(1.0512, 1.0318, 1.0694), crowding=crowding())
    decided = replace(decision, verdict=Verdict.INCONCLUSIVE, arms=(chosen, *decision.arms[1:]))
    return manifest_, found, decided


def trial(*, with_text: bool, arm: str = "draft k=4") -> TrialRecord:
    """Nine tokens in four passes: prefill, a rejection, a full acceptance, a cut block."""
    passes: tuple[tuple[tuple[int, ...], tuple[int, ...], int, int, bool], ...] = (
        ((), (1,), 0, 30, False),
        ((2, 3, 4, 5), (2, 3, 6), 2, 31, False),
        ((7, 8), (7, 8, 9), 2, 34, False),
        ((10, 11), (10, 11), 2, 37, True),
    )
    blocks = tuple(
        BlockRecord(
            num_draft_tokens=len(draft_ids),
            num_accepted_tokens=num_accepted,
            num_emitted_tokens=len(emitted_ids),
            context_length=context_length,
            draft_s=0.0011,
            verify_s=0.0152,
            truncated=truncated,
            draft_ids=draft_ids if with_text else None,
            emitted_ids=emitted_ids if with_text else None,
        )
        for draft_ids, emitted_ids, num_accepted, context_length, truncated in passes
    )
    return TrialRecord(
        key=TrialKey(prompt_id="p-017", turn=0, repeat=1, arm=arm),
        prompt_hash="0123456789abcdef",
        labels={"category": "booking"},
        num_prompt_tokens=30,
        num_emitted_tokens=9,
        ids_hash="ab" * 32,
        token_ids=(1, 2, 3, 6, 7, 8, 9, 10, 11) if with_text else None,
        finish_reason=FinishReason.EOS,
        ttft_s=0.0182,
        decode_s=0.0613,
        checks=Checks(
            audit=Audit(
                num_checked_tokens=9,
                suspects=(SuspectToken(index=3, delta=2e-5, noise=3e-5),),
                divergence=Divergence(
                    index=3, token_id=6, baseline_token_id=5, gap=2e-5, noise=3e-5
                ),
            )
        ),
        blocks=blocks,
    )


def failed_trial() -> TrialRecord:
    key = TrialKey(prompt_id="p-018", turn=0, repeat=1, arm="draft k=4")
    return TrialRecord(
        key=key,
        prompt_hash="fedcba9876543210",
        labels={"category": "code"},
        error="OutOfMemory: 12 GiB asked, 8 GiB free",
    )


def trace(*trials: TrialRecord) -> Trace:
    return Trace(manifest=manifest(num_planned_trials=3), trials=trials, sealed=False)
