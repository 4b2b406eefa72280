"""Any records that a trace may hold."""

from hypothesis import strategies as st

from specmeasure.records.machine import Crowding
from specmeasure.records.plan import Sampling, TrialKey
from specmeasure.records.serving import Load
from specmeasure.records.trace import (
    Audit,
    BlockRecord,
    Checks,
    Divergence,
    DraftCounts,
    FinishReason,
    Pull,
    SampledAudit,
    Score,
    SuspectToken,
    TokenProbs,
    TrialRecord,
    WindowKey,
    WindowRecord,
)

names = st.text(max_size=8)
counts = st.integers(0, 2**31 - 1)
sizes = st.integers(0, 2**40)
seconds = st.floats(0, 1e6)
ids = st.none() | st.lists(counts, max_size=4).map(tuple)
loads = st.builds(Load, concurrency=st.integers(1, 999)) | st.builds(
    Load, rate=st.floats(0.01, 1e6)
)
keys = st.builds(
    TrialKey,
    prompt_id=names,
    turn=st.integers(0, 9),
    repeat=st.integers(0, 9),
    arm=names,
    load=st.none() | loads,
)
labels = st.dictionaries(names, names, max_size=2).map(lambda more: {**more, "category": "c"})
samplings = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    top_k=st.none() | st.integers(1, 99),
    top_p=st.none() | st.floats(0.1, 1),
)
audits = st.builds(
    Audit,
    num_checked_tokens=counts,
    suspects=st.lists(
        st.builds(SuspectToken, index=counts, delta=seconds, noise=seconds), max_size=2
    ).map(tuple),
    divergence=st.none()
    | st.builds(
        Divergence,
        index=counts,
        token_id=st.none() | counts,
        baseline_token_id=st.none() | counts,
        gap=st.none() | seconds,
        noise=st.none() | seconds,
    ),
)
scores = st.builds(Score, excess=seconds, variance=seconds, third_moment=seconds)
sampled_audits = st.builds(
    SampledAudit,
    pit=st.lists(st.floats(0, 1), max_size=3).map(tuple),
    num_impossible=counts,
    surprise=scores,
    pull=st.none()
    | st.builds(Pull, score=scores, shift=seconds, num_judged=counts, total_variation=seconds),
)
probs = st.lists(st.floats(0, 1), max_size=3).map(tuple)
maybe_probs = st.lists(st.none() | st.floats(0, 1), max_size=3).map(tuple)
checks = st.builds(
    Checks,
    audit=st.none() | audits,
    sampled_audit=st.none() | sampled_audits,
    is_correct=st.none() | st.booleans(),
    token_probs=st.none()
    | st.builds(
        TokenProbs,
        target=probs,
        draft=st.none() | probs,
        rejected_target=maybe_probs,
        rejected_draft=maybe_probs,
    ),
)


@st.composite
def blocks(draw):
    num_drafted = draw(st.integers(0, 8))
    num_accepted = draw(st.integers(0, num_drafted))
    truncated = draw(st.booleans())
    return BlockRecord(
        num_draft_tokens=num_drafted,
        num_accepted_tokens=num_accepted,
        num_emitted_tokens=num_accepted + (not truncated),
        context_length=draw(counts),
        draft_s=draw(seconds),
        verify_s=draw(seconds),
        truncated=truncated,
        draft_depth=draw(st.none() | st.integers(num_accepted, num_drafted)),
        draft_ids=draw(ids),
        emitted_ids=draw(ids),
    )


@st.composite
def draft_counts(draw):
    """Counts whose every view follows from the same blocks, and as many of the views as drawn."""
    drafted = draw(st.lists(st.integers(1, 6), max_size=5))
    steps = tuple((most, draw(st.integers(0, most))) for most in drafted)
    kept = [accepted for _, accepted in steps]
    views = {
        "num_drafted_blocks": len(steps),
        "accepted_by_position": tuple(sum(one > i for one in kept) for i in range(6)),
        "histogram": tuple(kept.count(j) for j in range(7)),
        "steps": steps,
    }
    told = draw(st.sets(st.sampled_from(sorted(views))))
    return DraftCounts(
        num_draft_tokens=sum(drafted),
        num_accepted_tokens=sum(kept),
        **{name: views[name] for name in told},
    )


failed_trials = st.builds(
    TrialRecord,
    key=keys,
    prompt_hash=names,
    labels=labels,
    sampling=samplings,
    error=st.text(max_size=20),
)
answered_trials = st.builds(
    TrialRecord,
    key=keys,
    prompt_hash=names,
    labels=labels,
    sampling=samplings,
    num_prompt_tokens=counts,
    num_emitted_tokens=counts,
    ids_hash=names,
    token_ids=ids,
    prompt_ids=ids,
    finish_reason=st.sampled_from(FinishReason),
    ttft_s=seconds,
    decode_s=seconds,
    model_bytes=sizes,
    cache_bytes=st.none() | sizes,
    peak_memory_bytes=st.none() | sizes,
    capture_s=st.none() | seconds,
    crowding=st.none()
    | st.builds(
        Crowding, other_cores=st.none() | seconds, stalled_share=st.none() | st.floats(0, 1)
    ),
    worker=st.none() | counts,
    checks=st.none() | checks,
    blocks=st.lists(blocks(), max_size=3).map(tuple),
    group=st.none() | counts,
    counts=st.none() | draft_counts(),
    sent_s=st.none() | seconds,
    num_retries=st.none() | counts,
)
runs = st.lists(failed_trials | answered_trials, max_size=4, unique_by=lambda trial: trial.key).map(
    tuple
)
windows = st.builds(
    WindowRecord,
    key=st.builds(WindowKey, load=loads, group=counts, arm=names),
    duration_s=seconds,
    num_emitted_tokens=sizes,
    mean_in_flight=seconds,
    counters=st.none() | draft_counts(),
    num_counted_tokens=st.none() | sizes,
    memory_bytes=st.none() | sizes,
)
window_runs = st.lists(windows, max_size=4, unique_by=lambda window: window.key).map(tuple)
