"""Audits: is the output the target's own? Of a recorded run, or of answers given anywhere.

    report = audit_answers(Request(plan=plan, sources=("answers.jsonl",)))
    write_audit(report, Path("reports/audit"))

A run has audited itself; answers of another engine are read by a target that is loaded here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from specmeasure.api.sequential import estimate_run, read_at_last_look
from specmeasure.corpus.emitted import read_emitted
from specmeasure.decide import judge_output
from specmeasure.estimate.audit_power import detectable_shift
from specmeasure.estimate.drift import losslessness
from specmeasure.estimate.sampled_drift import sampled_losslessness
from specmeasure.records.audit import BASELINE_NAME, AuditedArm, AuditReport
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import ArmEstimates, SampledLosslessness, Unmeasured
from specmeasure.records.plan import BASELINE_AGAIN, Sampling
from specmeasure.records.request import Request
from specmeasure.records.trace import Trace, TrialRecord
from specmeasure.run.auditing import Auditor, refuse_unreadable
from specmeasure.run.cores import free_cores
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace import store

if TYPE_CHECKING:
    from specmeasure.engines.engine import Engine

_NO_TIMES = Unmeasured(reason="recorded answers hold no times")


def audit_run(trace: Trace, *, subject: str, policy: Policy | None = None) -> AuditReport:
    """What a run found out about its own answers; needs no models."""
    manifest = trace.manifest
    policy = policy or manifest.policy
    if manifest.plan.serving:
        answered = [trial for trial in trace.trials if not trial.failed]
        own = [trial for trial in answered if trial.key.arm != BASELINE_AGAIN.name]
        baseline, arms = _estimates(own)
        target, dtype = manifest.servers[0].model, "as served"
    else:
        estimates = estimate_run(trace)
        baseline, arms = estimates.baseline, list(estimates.arms)
        target, dtype = manifest.models[0].name, manifest.models[0].dtype
    return AuditReport(
        subject=subject,
        target=target,
        dtype=dtype,
        samplings=_samplings(read_at_last_look(trace).trace.trials),
        policy=policy,
        arms=_judged(baseline, arms, policy),
    )


def audit_answers(request: Request, *, watchers: Watchers = SILENT) -> AuditReport:
    """Read recorded answers with the plan's target; rows that name no sampling have the plan's.

    Answers of an arm called "baseline" are what the others are compared with. Where the plan has an
    arm with a draft model, the others' sampled tokens are tested for a pull towards that, too.

    Raises:
        SpecmeasureError: files that cannot be audited (most before a model is loaded), models.
    """
    answers = read_emitted(request.sources)
    num_arms = len({answer.arm for answer in answers})
    watchers.stage(f"{len(answers)} answers of {num_arms} arms")
    num_silent = sum(answer.sampling is None for answer in answers)
    if num_silent:
        watchers.warning(
            f"{num_silent} of {len(answers)} answers name no temperature and are read as "
            f"{request.plan.sampling}; --temperature, --top-k and --top-p say otherwise."
        )
    engine = _load(request, watchers)
    limits = [limit for arm in request.plan.arms if (limit := engine.context_limit(arm))]
    refuse_unreadable(answers, engine.models[0], min(limits, default=None))
    watchers.planned(len(answers))
    trials = Auditor(engine, request.plan, answers).trials(watchers.trial)
    target, (baseline, arms) = engine.models[0], _estimates(trials)
    return AuditReport(
        subject=", ".join(request.sources),
        target=target.name,
        dtype=target.dtype,
        samplings=_samplings(trials),
        policy=request.policy,
        arms=_judged(baseline, arms, request.policy),
    )


def write_audit(report: AuditReport, folder: Path) -> Path:
    """Write audit.md and audit.json; returns the page's path."""
    from specmeasure.brief.audit import render_audit

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(audit_as_json(report), encoding="utf-8")
    page = folder / "audit.md"
    page.write_text(render_audit(report), encoding="utf-8")
    return page


def audit_as_json(report: AuditReport) -> str:
    """The report and its verdict as one document."""
    return store.plain({"verdict": report.verdict, "audit": report}).decode()


def _load(request: Request, watchers: Watchers) -> "Engine":
    from specmeasure.engines.transformers import TransformersEngine

    watchers.stage("loading the target")
    engine = TransformersEngine.load(request.plan, most_threads=free_cores())
    for warning in engine.warnings:
        watchers.warning(warning)
    return engine


def _samplings(trials: Sequence[TrialRecord]) -> tuple[tuple[Sampling, int], ...]:
    return tuple(Counter(trial.sampling for trial in trials if not trial.failed).most_common())


def _estimates(
    trials: Sequence[TrialRecord],
) -> tuple[ArmEstimates | None, list[ArmEstimates]]:
    """What the audits say of the baseline, None where it has no answers, and of the other arms."""
    by_arm: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        by_arm.setdefault(trial.key.arm, []).append(trial)
    undrafted = by_arm.pop(BASELINE_NAME, [])
    baseline = _arm_estimates(BASELINE_NAME, undrafted, []) if undrafted else None
    return baseline, [_arm_estimates(name, own, undrafted) for name, own in by_arm.items()]


def _arm_estimates(
    name: str, trials: Sequence[TrialRecord], undrafted: Sequence[TrialRecord]
) -> ArmEstimates:
    return ArmEstimates(
        name=name,
        num_speculative_tokens=0,
        num_prompts=len({trial.key.prompt_id for trial in trials}),
        num_trials=len(trials),
        num_failed_trials=0,
        num_planned_trials=len(trials),
        num_emitted_tokens=sum(trial.num_emitted_tokens or 0 for trial in trials),
        ttft_s=_NO_TIMES,
        tpot_s=_NO_TIMES,
        memory_bytes=None,
        losslessness=losslessness(trials),
        sampled_losslessness=_without_acceptance(sampled_losslessness(trials, undrafted)),
    )


def _without_acceptance(
    found: SampledLosslessness | Unmeasured | None,
) -> SampledLosslessness | Unmeasured | None:
    """The tests without what takes judged drafts to say; see ``observed``."""
    if not isinstance(found, SampledLosslessness):
        return found
    return replace(found, detectable_acceptance=None)


def _judged(
    baseline: ArmEstimates | None, arms: Sequence[ArmEstimates], policy: Policy
) -> tuple[AuditedArm, ...]:
    """The baseline alone, then every arm beside it."""
    alone = [] if baseline is None else [_audited(baseline, None, policy, is_baseline=True)]
    return (*alone, *(_audited(arm, baseline, policy, is_baseline=False) for arm in arms))


def _audited(
    arm: ArmEstimates, baseline: ArmEstimates | None, policy: Policy, *, is_baseline: bool
) -> AuditedArm:
    verdict, findings = judge_output(arm, baseline, policy)
    sampled = arm.sampled_losslessness
    shift = detectable_shift(sampled) if isinstance(sampled, SampledLosslessness) else None
    return AuditedArm(
        name=arm.name,
        num_prompts=arm.num_prompts,
        num_answers=arm.num_trials - arm.num_failed_trials,
        num_tokens=arm.num_emitted_tokens,
        is_baseline=is_baseline,
        losslessness=arm.losslessness,
        sampled_losslessness=sampled,
        detectable_shift=shift,
        drift=arm.drift,
        verdict=verdict,
        findings=findings,
    )
