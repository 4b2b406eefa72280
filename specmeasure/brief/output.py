"""Did the output change? Every arm's answer in a sentence, and what the counts mean.

Says what was tested and with what power; a rule that was not tested is said to be untested.
"""

from collections.abc import Sequence

from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import chance, count, nats, points, rate
from specmeasure.brief.provenance import Fact
from specmeasure.records.estimates import (
    Accuracy,
    ArmEstimates,
    Drift,
    Losslessness,
    SampledLosslessness,
    Unmeasured,
)
from specmeasure.records.plan import BASELINE
from specmeasure.records.trace import Manifest

UNTESTED = (
    "Sampled answers were not tested: verification keeps the target's distribution in exact "
    "arithmetic, and this run did not check that it does."
)
_COARSE = ("float16", "bfloat16")  # in which exact ties of logits are common


def write_output(manifest: Manifest, arms: Sequence[JoinedArm]) -> tuple[Fact, ...]:
    """Whether each arm's answers are the target's: greedy, sampled, drifted, right."""
    return tuple(Fact(label=plain(arm.plan.name), text=_output(manifest, arm)) for arm in arms)


def write_output_notes(
    manifest: Manifest, baseline: ArmEstimates, arms: Sequence[JoinedArm]
) -> tuple[str, ...]:
    """What near-ties mean where there are any, and what a lossy arm may do."""
    notes = []
    audits = [baseline.losslessness, *(arm.estimates.losslessness for arm in arms)]
    if any(isinstance(audit, Losslessness) and audit.num_near_tie for audit in audits):
        notes.append(_near_ties(manifest, baseline.losslessness))
    if any(arm.plan.lossy for arm in arms):
        notes.append("A lossy arm changes the output by its own rule; the policy bounds how far.")
    return tuple(notes)


def _output(manifest: Manifest, arm: JoinedArm) -> str:
    found = arm.estimates
    is_tested = isinstance(found.sampled_losslessness, SampledLosslessness)
    is_moot = isinstance(found.losslessness, Unmeasured) and is_tested  # none was greedy
    said = [
        "" if is_moot else _greedy(found.losslessness, arm, manifest),
        _sampled(found.sampled_losslessness),
        _drift(found.drift),
        _accuracy(found.accuracy),
        UNTESTED if _is_untested(manifest, arm) else "",
    ]
    return " ".join(one for one in said if one) or "Not audited: the run holds no audit."


def _greedy(audit: Losslessness | Unmeasured | None, arm: JoinedArm, manifest: Manifest) -> str:
    if isinstance(audit, Unmeasured):
        return f"Not audited: {_clause(audit.reason)}."
    if audit is None or (audit.num_sampled and not audit.num_trials):
        return ""
    if manifest.servers and not audit.num_checked_tokens:
        return _by_text(audit, arm, manifest)
    by = " against the baseline server's answers and logprobs" if manifest.servers else ""
    said = (
        f"{count(audit.num_trials, 'greedy answer')} checked token by token{by} "
        f"({count(audit.num_checked_tokens, 'token')}): {count(audit.num_identical)} identical, "
        f"{count(audit.num_near_tie, 'near-tie')}, {count(audit.num_divergent)} divergent."
    )
    if audit.num_differing_from_baseline:
        differing = count(audit.num_differing_from_baseline)
        said += f" Not the same text as the baseline's: {differing}."
    if audit.divergent_prompts and arm.plan.lossy is None:
        places = "; ".join(map(plain, audit.divergent_prompts))
        said += f" Divergent by more than rounding explains: {places}."
    return said


def _by_text(audit: Losslessness, arm: JoinedArm, manifest: Manifest) -> str:
    """Where no token was checked; nothing is said of answers that nobody compared."""
    asked = [one for one in manifest.servers if one.arm in (BASELINE.name, arm.plan.name)]
    why = "the baseline's server could read none of its answers again"
    if not all(one.gives_ids for one in asked):
        why = "the servers gave no token ids to check"
    said = f"Not audited token by token: {why}."
    if not audit.num_compared:
        return said
    how = "Compared as text" if audit.compared_as_text else "Compared by token ids"
    compared = count(audit.num_compared, "answer")
    if not audit.num_differing_from_baseline:
        return f"{how}: {compared}, all equal to the baseline's. {said}"
    differing = count(audit.num_differing_from_baseline)
    return (
        f"{how}: {differing} of {compared} differ from the baseline's. {said} What differs may be "
        "a near-tie or a fault."
    )


def _sampled(audit: SampledLosslessness | Unmeasured | None) -> str:
    if isinstance(audit, Unmeasured):
        return f"Sampled answers were not tested: {_clause(audit.reason)}."
    if audit is None:
        return ""
    tested = count(audit.num_tokens, "sampled token")
    power = (
        "How small a fault so many tokens would show is not known without a draft's law."
        if audit.detectable_acceptance is None
        else f"So many tokens show a verifier that accepts {100 * audit.detectable_acceptance:.2g} "
        "points too much in four runs of five."
    )
    return (
        f"{tested} tested against the target's own distribution: p = {chance(audit.p_value)} "
        f"(small is bad), {count(audit.num_impossible)} impossible. {power}"
    )


def _drift(drift: Drift | Unmeasured | None) -> str:
    if isinstance(drift, Unmeasured):
        return f"Drift was not measured: {_clause(drift.reason)}."
    if drift is None:
        return ""
    drifts = f"By its lossy rule it drifts {nats(drift.nats_per_token)} nats per token"
    tokens = count(drift.num_tokens, "token")
    if isinstance(drift.changed_share, Unmeasured):
        return f"{drifts} over {tokens}; how many changed was not measured."
    return (
        f"{drifts}; {rate(drift.changed_share)} of {tokens} are not those that greedy decoding "
        "picks."
    )


def _accuracy(accuracy: Accuracy | Unmeasured | None) -> str:
    if isinstance(accuracy, Unmeasured):
        return f"Answers were not graded: {_clause(accuracy.reason)}."
    if accuracy is None:
        return ""
    return (
        f"Of {count(accuracy.num_answers, 'graded answer')} ({plain(accuracy.check)}) "
        f"{rate(accuracy.arm)} are right, of the baseline's {rate(accuracy.baseline)}: "
        f"{points(accuracy.difference)}."
    )


def _is_untested(manifest: Manifest, arm: JoinedArm) -> bool:
    """Whether answers were drawn by chance and nothing tests them."""
    used = [sampling for sampling, _ in manifest.corpus.samplings] or [manifest.plan.sampling]
    is_sampled = not all(sampling.is_greedy for sampling in used)
    return is_sampled and arm.estimates.sampled_losslessness is None and arm.plan.lossy is None


def _near_ties(manifest: Manifest, baseline: Losslessness | Unmeasured | None) -> str:
    dtype = next((plain(one.dtype).removeprefix("torch.") for one in manifest.models), None)
    said = (
        "A near-tie is a token whose rival scored within the rounding noise of the target's own "
        "logits: plain batching would do the same."
    )
    if dtype in _COARSE:
        said += f" In {dtype} they are expected: two logits often share its last digit."
    if isinstance(baseline, Losslessness) and baseline.num_trials:
        said += (
            f" The target alone has {count(baseline.num_near_tie, 'near-tie')} in "
            f"{count(baseline.num_trials, 'answer')}."
        )
    return said


def _clause(sentence: str) -> str:
    return plain(sentence).removesuffix(".")
