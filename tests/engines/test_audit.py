"""The audit on the embedded pair: what a run records, what it concludes, and what it catches."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from specmeasure import demo
from specmeasure.api import Drafters, NgramSizes, plan_arms
from specmeasure.corpus import load_corpus
from specmeasure.decide import decide
from specmeasure.engines import transformers
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.estimate.drift import is_near_tie, losslessness
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.records.corpus import CorpusOptions, Prompt
from specmeasure.records.decision import Policy, RuleOutcome, Verdict
from specmeasure.records.estimates import Losslessness, SampledLosslessness
from specmeasure.records.plan import (
    BASELINE,
    Arm,
    DecodeSettings,
    DraftSampling,
    Method,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.records.trace import Divergence, Trace
from specmeasure.run.recorder import Recorder
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import draw, sampling_probs
from specmeasure.speculate.verdict import Verdict as BlockVerdict
from specmeasure.speculate.verify import verify_strictly
from tests.fakes import MemoryJournal, make_manifest

PLAIN = Sampling(temperature=1.0)
DRAFT = Arm(name="draft k=4", method=Method.DRAFT_MODEL, num_speculative_tokens=4, draft=demo.DRAFT)
GREEDY_DRAFT = replace(DRAFT, name="greedy draft k=4", draft_sampling=DraftSampling.GREEDY)
EARLY_EXIT = Arm(name="exit k=2", method=Method.EARLY_EXIT, num_speculative_tokens=2, exit_layer=4)
NGRAM = Arm(
    name="ngram k=4", method=Method.NGRAM, num_speculative_tokens=4, max_ngram=4, min_ngram=2
)


def plan_of(*arms: Arm, dtype: str = "float32", **changes) -> Plan:
    options = ModelOptions(device="cpu", dtype=dtype, num_threads=1)
    made = {"max_new_tokens": 40, "sampling": PLAIN, **changes}
    return Plan(target=demo.TARGET, arms=arms, options=options, **made)


@cache
def prompts(num: int) -> tuple[Prompt, ...]:
    return load_corpus(["prompts/"], CorpusOptions(limit=num)).prompts


def recorded(plan: Plan, num_prompts: int) -> Trace:
    """A run of real models, kept in memory."""
    engine = TransformersEngine.load(plan)
    journal = MemoryJournal()
    Recorder(plan, engine, journal).record(prompts(num_prompts))
    return Trace(
        manifest=make_manifest(plan, prompts(num_prompts), models=engine.models),
        trials=tuple(journal.trials.values()),
        sealed=True,
    )


@pytest.mark.slow
def test_sampled_answers_of_every_method_follow_the_target():
    """Draft model, greedy drafts, early exit and lookup: all tokens audited, none unlikely."""
    trace = recorded(plan_of(BASELINE, DRAFT, GREEDY_DRAFT, EARLY_EXIT, NGRAM), 4)
    found = estimate(trace, Intervals(num_resamples=20))
    for arm in (found.baseline, *found.arms):
        audit = arm.sampled_losslessness

        assert isinstance(audit, SampledLosslessness)
        assert (arm.num_emitted_tokens, 0) == (audit.num_tokens, audit.num_impossible)
        assert audit.p_value > 0.01, audit
    for trial in trace.trials:
        judged = sum(
            min(block.num_draft_tokens, block.num_emitted_tokens) for block in trial.blocks
        )
        pull = trial.sampled_audit.pull

        assert judged == (pull.num_judged if pull else 0)


def lets_rejections_through(
    proposal: Proposal, logits: Tensor, sampling: Sampling, *, generator: torch.Generator
) -> BlockVerdict:
    """Keeps two rejected drafts in five."""
    verdict = verify_strictly(proposal, logits, sampling, generator=generator)
    place = verdict.num_accepted
    if place == proposal.num_tokens or float(torch.rand(1, generator=generator)) >= 0.4:
        return verdict
    after = sampling_probs(logits[place + 1 : place + 2], sampling)
    return replace(
        verdict, num_accepted=place + 1, next_token=int(draw(after, generator=generator))
    )


@pytest.mark.slow
def test_a_leaking_verifier_is_no_go(monkeypatch: pytest.MonkeyPatch):
    """From the loop through the trace to the verdict; the baseline stays beyond suspicion.

    What is judged after a leak is drawn from the target alone, so that the share is a little less
    than the leak.
    """
    monkeypatch.setattr(transformers, "verify_rule", lambda _: lets_rejections_through)
    trace = recorded(plan_of(BASELINE, DRAFT), 6)
    found = estimate(trace, Intervals(num_resamples=20))
    decision = decide(found, Policy())
    (rule,) = [one for one in decision.arms[0].findings if "sampled tokens" in one.rule]
    audit = found.arms[0].sampled_losslessness

    assert isinstance(audit, SampledLosslessness)
    assert audit.p_value < 1e-6
    assert 0.2 < audit.pull_share < 0.45
    assert (RuleOutcome.FAILED, Verdict.NO_GO) == (rule.outcome, decision.verdict)
    assert found.baseline.sampled_losslessness.p_value > 0.01


@pytest.mark.slow
def test_half_precision_has_near_ties_and_no_divergence():
    """bf16 rounds close rivals to the same logit: counted, listed, and explained by the noise."""
    trace = recorded(plan_of(BASELINE, DRAFT, dtype="bfloat16", sampling=Sampling()), 6)
    audits = [trial.audit for trial in trace.trials]
    suspects = [suspect for audit in audits for suspect in audit.suspects]
    found = losslessness(trace.trials)

    assert isinstance(found, Losslessness)
    assert (0, len(trace.trials)) == (
        found.num_divergent,
        found.num_identical + found.num_near_tie,
    )
    assert found.num_near_tie > 0
    assert all(map(is_near_tie, suspects))
    for audit in audits:
        if audit.divergence and audit.divergence.gap is not None:
            assert audit.divergence.gap <= 2 * audit.divergence.noise


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine.load(
        plan_of(*plan_arms(Drafters(drafts=[demo.DRAFT], ngrams=[NgramSizes()]), lengths=[4]))
    )


@pytest.fixture(scope="module")
def context(engine: TransformersEngine) -> list[int]:
    return engine.context_ids(prompts(1)[0], [])


def answer_of(engine: TransformersEngine, context: Sequence[int], **settings) -> tuple[int, ...]:
    return engine.observe(
        context, BASELINE, DecodeSettings(max_new_tokens=12, **settings)
    ).token_ids


@torch.inference_mode()
def test_a_planted_divergence_has_its_gap(engine: TransformersEngine, context: list[int]):
    """The logits of one pass over the common beginning, and fp32 noise far below the gap."""
    baseline = answer_of(engine, context)
    answer = (*baseline[:5], (baseline[5] + 1) % 2048, *baseline[6:])
    left = Divergence(
        index=5, token_id=answer[5], baseline_token_id=baseline[5], gap=None, noise=None
    )
    ids = torch.tensor([[*context, *baseline[:5]]])
    logits = engine._target.model(input_ids=ids, use_cache=False).logits[0, -1]

    found = engine.audit(context, answer, left).divergence

    assert found is not None
    assert float(logits[baseline[5]] - logits[answer[5]]) == pytest.approx(found.gap, abs=1e-3)
    assert 0 <= found.noise < 1e-3 < found.gap


def test_an_audit_does_not_move_what_is_decoded(engine: TransformersEngine, context: list[int]):
    """Neither the seed of the next trial nor a cache: the same answer before and after."""
    settings = DecodeSettings(sampling=PLAIN, max_new_tokens=12, seed=3)
    seen = engine.observe(context, DRAFT, settings)
    first = engine.audit_sampled(context, seen, DRAFT, settings)
    engine.token_probs(context, seen, DRAFT, PLAIN)

    assert seen.token_ids == engine.observe(context, DRAFT, settings).token_ids
    assert first == engine.audit_sampled(context, seen, DRAFT, settings)


def test_accepted_drafts_are_likely_under_the_draft(engine: TransformersEngine, context: list[int]):
    """Chances lie beside the blocks: what greedy decoding kept is the likeliest of both models."""
    seen = engine.observe(context, DRAFT, DecodeSettings(max_new_tokens=12))
    probs = engine.token_probs(context, seen, DRAFT, Sampling())
    assert probs.draft is not None
    place = 0
    for block, target, draft in zip(
        seen.blocks, probs.rejected_target, probs.rejected_draft, strict=True
    ):
        end = place + block.num_accepted_tokens
        if block.num_accepted_tokens < block.num_draft_tokens and not block.truncated:
            assert target < probs.target[end]  # the target's argmax stands there instead
            assert draft > probs.draft[end]  # which the draft found less likely than its own
        else:
            assert (None, None) == (target, draft)
        place += block.num_emitted_tokens

    assert len(seen.token_ids) == place == len(probs.target) == len(probs.draft)
