"""A story model and the embedded pair, whose tokenizers are of two families, draft for another."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from specmeasure import demo
from specmeasure.brief.provenance import write_provenance
from specmeasure.decode.teacher import Finished
from specmeasure.engines.replay import ReplayEngine
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.errors import TokenizerMismatch
from specmeasure.records.corpus import AskedSampling, Prompt
from specmeasure.records.plan import (
    BASELINE,
    GREEDY,
    Arm,
    DraftSampling,
    Method,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.records.trace import Observation
from tests.brief.examples import manifest
from tests.e2e.command import said, specmeasure

pytestmark = pytest.mark.slow

SAMPLED = Sampling(temperature=0.8)
TEXTS = ("Once upon a time, there was a little dog", "Tom has 12 apples, 'and' €3.", "猫 and été")


def plan_for(target: str, draft: str, sampling: Sampling, way: DraftSampling, k: int = 4) -> Plan:
    arm = Arm(
        name="draft",
        method=Method.DRAFT_MODEL,
        num_speculative_tokens=k,
        draft=draft,
        draft_sampling=way,
    )
    return Plan(
        target=target,
        arms=(BASELINE, arm),
        sampling=sampling,
        max_new_tokens=32,
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )


@pytest.fixture(scope="module")
def both_ways(stories: tuple[str, str]) -> list[tuple[Plan, TransformersEngine]]:
    """Stories drafted by the embedded draft, and the embedded target's answers by stories."""
    pairs = [(stories[0], demo.DRAFT), (demo.TARGET, stories[0])]
    plans = [plan_for(*pair, GREEDY, DraftSampling.PROBABILISTIC) for pair in pairs]
    return [(plan, TransformersEngine.load(plan)) for plan in plans]


def contexts(engine: TransformersEngine) -> list[list[int]]:
    prompts = [Prompt(prompt_id=one, category="c", source="f:1", text=one) for one in TEXTS]
    return [engine.context_ids(prompt, []) for prompt in prompts]


def observe(engine: TransformersEngine, plan: Plan, ids: Sequence[int], arm: Arm) -> Observation:
    return engine.observe(ids, arm, plan.settings_for(AskedSampling()))


def test_greedy_answers_are_the_targets(both_ways: list[tuple[Plan, TransformersEngine]]):
    """Drafts are matched by text; some are kept, and every answer is the baseline's."""
    kept = 0
    for plan, engine in both_ways:
        for ids in contexts(engine):
            plain, fast = (observe(engine, plan, ids, arm) for arm in plan.arms)
            kept += sum(block.num_accepted_tokens for block in fast.blocks)

            assert plain.token_ids == fast.token_ids

    assert kept


def test_the_way_is_stated(both_ways: list[tuple[Plan, TransformersEngine]]):
    """To whoever runs it, in the trace's facts, and where a brief says what was run."""
    _, engine = both_ways[0]
    drafts = engine.models[1]

    assert any("388 of the target's 512 tokens are also its own" in one for one in engine.warnings)
    assert drafts.other_vocabulary is not None
    assert 388 == drafts.other_vocabulary.num_shared_tokens

    said = [fact.text for fact in write_provenance(manifest(models=engine.models))]
    assert any("matched by text where answers are greedy" in text for text in said)


def test_sampled_answers_are_audited_without_the_drafts_law(
    both_ways: list[tuple[Plan, TransformersEngine]],
):
    """No reading of the answer in the target's ids tells what the draft would have said."""
    plan, engine = both_ways[0]
    settings = plan_for("t", "d", SAMPLED, DraftSampling.PROBABILISTIC).settings_for(
        AskedSampling()
    )
    arm = plan.arms[1]
    for ids in contexts(engine):
        seen = engine.observe(ids, arm, settings)
        found = engine.audit_sampled(ids, seen, arm, settings)

        assert any(block.num_draft_tokens for block in seen.blocks)
        assert found.pull is None
        assert 0 == found.num_impossible
        assert engine.token_probs(ids, seen, arm, settings.sampling).draft is None


@pytest.mark.parametrize(
    ("sampling", "way"),
    [(GREEDY, DraftSampling.PROBABILISTIC), (SAMPLED, DraftSampling.GREEDY)],
    ids=["by text", "among shared tokens"],
)
def test_a_replay_foresees_the_blocks_of_a_real_run(
    stories: tuple[str, str], sampling: Sampling, way: DraftSampling
):
    """From each place where a block began: as many drafts, as many kept."""
    plan = plan_for(stories[0], demo.DRAFT, sampling, way)
    engine, replaying, arm = TransformersEngine.load(plan), ReplayEngine.load(plan), plan.arms[1]
    judged = 0
    for ids in contexts(engine):
        seen = observe(engine, plan, ids, arm)
        answer = Finished(context_ids=ids, token_ids=seen.token_ids)
        scores, place = replaying.look_up(arm, answer, sampling), 0
        for block in seen.blocks:
            if place and place + block.num_draft_tokens < len(seen.token_ids) - arm.draft_depth:
                judged += 1

                assert block.num_draft_tokens == scores.num_drafts[place]
                assert block.num_accepted_tokens == scores.num_matching[place]
            place += block.num_emitted_tokens

    assert judged > 10


def test_rows_that_are_sampled_are_known_before_anything_is_decoded(stories: tuple[str, str]):
    """A greedy plan is refused by a row's own temperature; both ways to draft are told."""
    plan = plan_for(stories[0], demo.DRAFT, GREEDY, DraftSampling.PROBABILISTIC)
    engine = TransformersEngine.load(plan, samplings=[GREEDY, SAMPLED])

    assert 1 == sum("of greedy answers, drafts are matched" in one for one in engine.warnings)
    assert 1 == sum("of sampled answers, drafts are among" in one for one in engine.warnings)
    with pytest.raises(TokenizerMismatch, match=r"embedded:draft.* specmeasure run"):
        ReplayEngine.load(plan, samplings=[GREEDY, SAMPLED])


def test_a_row_that_no_replay_can_score_ends_it_before_answers(
    stories: tuple[str, str], tmp_path: Path
):
    """The row's own temperature is read from the file: one line, exit code 1, no folder."""
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "Once upon a time"}, {"prompt": "One day", "temperature": 0.8}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = tmp_path / "replay"
    done = specmeasure(
        *("replay", str(prompts), "--target", stories[0], "--draft", demo.DRAFT),
        *("--threads", "1", "--out", str(folder)),
    )

    assert 1 == done.returncode, said(done)
    assert "no replay can score" in said(done)
    assert not folder.exists()


def test_a_replay_of_drawn_drafts_is_refused(stories: tuple[str, str]):
    """By name, and with what to do."""
    plan = plan_for(stories[0], demo.DRAFT, SAMPLED, DraftSampling.PROBABILISTIC)

    with pytest.raises(TokenizerMismatch, match=r"embedded:draft.* specmeasure run"):
        ReplayEngine.load(plan)
