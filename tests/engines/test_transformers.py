import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from specmeasure import demo
from specmeasure.api import plan_arms
from specmeasure.api.arms import arms_at
from specmeasure.api.candidates import Drafters, NgramSizes, plan_candidates
from specmeasure.corpus import load_corpus
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.estimate.acceptance import acceptance_survival, count_acceptance
from specmeasure.estimate.intervals import Intervals
from specmeasure.records.corpus import AskedSampling, CorpusOptions, Message, Prompt
from specmeasure.records.estimates import Interval
from specmeasure.records.plan import Arm, DecodeSettings, ModelOptions, Plan, Sampling, TrialKey
from specmeasure.records.trace import FinishReason, Observation, TrialRecord
from tests.engines.oracle import assisted_blocks

SHIPPED = [
    file
    for file in sorted(Path(demo.__file__).parents[2].glob("prompts/*"))
    if file.suffix != ".md"
]
STORY_OPENINGS = [
    "Once upon a time, there was a little dog",
    "Lily and Ben went to the park",
    "The sun was hot and the cat",
    "Tom had a big red ball. He",
    "One day, a girl named Sue",
    "There was a boat on the sea",
]


def engine_for(
    target: str,
    drafts: Sequence[str],
    lengths: Sequence[int],
    *,
    ngram: bool = False,
    **plan: Any,
) -> tuple[Plan, TransformersEngine]:
    made = Plan(
        target=target,
        arms=plan_arms(
            Drafters(drafts=drafts, ngrams=[NgramSizes()] if ngram else []), lengths=lengths
        ),
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
        **{"max_new_tokens": 64, **plan},
    )
    return made, TransformersEngine.load(made)


def observe(engine: TransformersEngine, ids: Sequence[int], arm: Arm, *, seed: int) -> Observation:
    """Decode under the engine's own plan."""
    settings = engine._plan.settings_for(AskedSampling())
    return engine.observe(ids, arm, replace(settings, seed=seed))


def completion(text: str) -> Prompt:
    return Prompt(prompt_id=text, category="c", source="f:1", text=text)


@pytest.mark.slow
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_greedy_output_is_the_baselines_on_every_shipped_prompt(file: Path):
    """fp32, K = 1, 2, 4, 8 and n-gram: token for token, on all of prompts/."""
    plan, engine = engine_for(
        demo.TARGET, [demo.DRAFT], [1, 2, 4, 8], ngram=True, max_new_tokens=24
    )
    prompts = load_corpus([str(file)]).prompts
    differing = []
    for prompt in prompts:
        ids = engine.context_ids(prompt, [])
        plain, *fast = [observe(engine, ids, arm, seed=0).token_ids for arm in plan.arms]
        differing += [
            (prompt.prompt_id, arm.name)
            for arm, answer in zip(plan.arms[1:], fast, strict=True)
            if answer != plain
        ]

    assert len(prompts) >= 30
    assert [] == differing


@pytest.mark.slow
def test_early_exits_keep_the_output_and_add_no_memory():
    """The target's own first layers draft: token for token the baseline, and the same cache.

    An answer that ends inside a block leaves up to four drafts behind its end in there.
    """
    arms = arms_at(plan_candidates(Drafters(exit_layers=[2, 6]), most=1), [1, 4])
    options = ModelOptions(device="cpu", num_threads=1)
    plan = Plan(target=demo.TARGET, arms=arms, max_new_tokens=32, options=options)
    engine = TransformersEngine.load(plan)
    for prompt in load_corpus(["prompts/"], CorpusOptions(limit=6)).prompts:
        ids = engine.context_ids(prompt, [])
        plain, *fast, _ = [observe(engine, ids, arm, seed=0) for arm in plan.arms]

        assert {plain.token_ids} == {one.token_ids for one in fast}
        assert {plain.model_bytes} == {one.model_bytes for one in fast}
        row = plain.cache_bytes / (plain.num_prompt_tokens + len(plain.token_ids) - 1)
        assert all(0 <= one.cache_bytes - plain.cache_bytes <= 4 * row for one in fast)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3, 5])
def test_blocks_equal_transformers_assisted_generation(stories: tuple[str, str], k: int):
    """Block by block on a real pair: the same drafts, the same acceptance, the same tokens.

    transformers verifies its first drafts inside the prefill, we after the first token, so it is
    given that token. It stops drafting at a drafted EOS; an accepted EOS it reports one short.
    """
    target, draft = stories
    plan, engine = engine_for(target, [draft], [k], max_new_tokens=96)
    arm = plan.speculative_arms[0]
    for opening in STORY_OPENINGS:
        ids = engine.context_ids(completion(opening), [])
        ours = observe(engine, ids, arm, seed=0)
        emitted, theirs = assisted_blocks(
            engine._target.model,
            engine._drafts[draft].model,
            [*ids, ours.token_ids[0]],
            k=k,
            max_new_tokens=95,
        )
        blocks = ours.blocks[1:]

        assert emitted == list(ours.token_ids[1:])
        assert [one.num_matches + 1 for one in theirs] == [one.num_emitted_tokens for one in blocks]
        for one, block in zip(theirs, blocks, strict=True):
            assert block.draft_ids is not None
            assert one.draft_ids == block.draft_ids[: len(one.draft_ids)]


@pytest.mark.slow
def test_a_target_that_drafts_for_itself_is_always_accepted(stories: tuple[str, str]):
    """Acceptance is exactly 1 at every position, greedy and sampled."""
    target, _ = stories
    for sampling in (Sampling(), Sampling(temperature=0.8, top_p=0.9)):
        plan, engine = engine_for(target, [target], [4], sampling=sampling, max_new_tokens=48)
        arm = plan.speculative_arms[0]
        rows = []
        for place, opening in enumerate(STORY_OPENINGS):
            ids = engine.context_ids(completion(opening), [])
            rows.append([as_trial(place, observe(engine, ids, arm, seed=place))])
        curve = acceptance_survival(count_acceptance(rows, 4), Intervals())

        assert [1.0] * 4 == [one.value for one in curve if isinstance(one, Interval)]


def as_trial(place: int, seen: Observation) -> TrialRecord:
    return TrialRecord(
        key=TrialKey(prompt_id=str(place), turn=0, repeat=0, arm="a"),
        prompt_hash="h",
        labels={"category": "c"},
        num_emitted_tokens=len(seen.token_ids),
        blocks=seen.blocks,
    )


@pytest.mark.slow
def test_low_temperature_equals_greedy():
    """Temperature 0.01 must be greedy decoding, with speculation too.

    Two released engines fail exactly this (vLLM issue 55005, OpenVINO GenAI issue 4190).
    """
    greedy_plan, greedy = engine_for(demo.TARGET, [demo.DRAFT], [4], max_new_tokens=40)
    cold_plan, cold = engine_for(
        demo.TARGET, [demo.DRAFT], [4], max_new_tokens=40, sampling=Sampling(temperature=0.01)
    )
    ids = greedy.context_ids(chat("I want to find a restaurant in San Jose."), [])
    wanted = observe(greedy, ids, greedy_plan.arms[0], seed=0).token_ids

    assert {wanted} == {
        observe(cold, ids, arm, seed=seed).token_ids for arm in cold_plan.arms for seed in range(5)
    }


def chat(*contents: str) -> Prompt:
    messages = tuple(Message(role="user", content=content) for content in contents)
    return Prompt(prompt_id="1", category="c", source="f:1", messages=messages)


@pytest.fixture(scope="module")
def embedded() -> TransformersEngine:
    return engine_for(demo.TARGET, [demo.DRAFT], [4])[1]


def test_chats_go_through_the_template_with_one_bos(embedded: TransformersEngine):
    """The template writes BOS itself; the tokenizer does not add another."""
    text = embedded._chat.text(embedded.context_ids(chat("Hello"), []))

    assert "<|bos|><|user|>\nHello<|end|>\n<|assistant|>\n" == text


def test_replies_stand_between_the_turns(embedded: TransformersEngine):
    """Turn two sees turn one's reply as an assistant message."""
    text = embedded._chat.text(embedded.context_ids(chat("A", "B"), ["Yes."]))

    assert "<|user|>\nA<|end|>\n<|assistant|>\nYes.<|end|>\n<|user|>\nB<|end|>" in text


def test_completion_prompts_stay_raw(embedded: TransformersEngine):
    """No template, one BOS, also where the prompt begins with one."""
    plain = embedded.context_ids(completion("import os"), [])
    with_bos = embedded.context_ids(completion("<|bos|>import os"), [])

    assert "<|bos|>import os" == embedded._chat.text(plain)
    assert plain == with_bos


def test_reply_text_drops_eos_and_keeps_call_marks(embedded: TransformersEngine):
    """A tool call's marker is part of what the next turn sees; the end mark is the template's."""
    ids = embedded._chat._tokenizer("<|call|>{}<|end|>", add_special_tokens=False)["input_ids"]

    assert "<|call|>{}" == embedded.reply_text(ids)


def test_extra_memory_is_the_drafts(embedded: TransformersEngine):
    """A draft arm needs the draft's weights and cache on top of the baseline's."""
    ids = embedded.context_ids(chat("Hello"), [])
    plain, fast = (observe(embedded, ids, arm, seed=0) for arm in embedded._plan.arms[:2])
    draft_weights = sum(
        weight.numel() * 4 for weight in embedded._drafts[demo.DRAFT].model.parameters()
    )

    assert draft_weights == fast.model_bytes - plain.model_bytes
    assert fast.cache_bytes > plain.cache_bytes


def test_audit_of_the_targets_own_answer_finds_nothing(embedded: TransformersEngine):
    """Greedy output is identical to the teacher-forced argmax in fp32."""
    ids = embedded.context_ids(chat("I need a taxi to the airport."), [])
    answer = observe(embedded, ids, embedded._plan.arms[1], seed=0).token_ids
    audit = embedded.audit(ids, answer)

    assert (len(answer), ()) == (audit.num_checked_tokens, audit.suspects)


def test_a_one_token_answer_is_audited_too(embedded: TransformersEngine):
    """Nothing but an end-of-sequence token is an answer like any other."""
    ids = embedded.context_ids(chat("Thanks, bye."), [])
    first = observe(embedded, ids, embedded._plan.arms[0], seed=0).token_ids[:1]

    audit = embedded.audit(ids, first)

    assert (1, ()) == (audit.num_checked_tokens, audit.suspects)


def test_audit_sees_a_planted_token(embedded: TransformersEngine):
    """Another token in the middle has a gap far above the noise between two shapes."""
    ids = embedded.context_ids(chat("I need a taxi to the airport."), [])
    answer = list(observe(embedded, ids, embedded._plan.arms[0], seed=0).token_ids)
    answer[3] = (answer[3] + 1) % 2048
    suspects = {one.index: one for one in embedded.audit(ids, answer).suspects}

    assert 3 in suspects
    assert suspects[3].delta > 100 * suspects[3].noise


def test_same_seed_same_sample():
    """A trial's seed fixes its sampled answer, whatever ran before."""
    plan, engine = engine_for(
        demo.TARGET, [demo.DRAFT], [4], sampling=Sampling(temperature=1.0), max_new_tokens=24
    )
    ids = engine.context_ids(chat("Find me a hotel."), [])
    arm = plan.speculative_arms[0]
    first = observe(engine, ids, arm, seed=5).token_ids
    observe(engine, ids, arm, seed=6)

    assert first == observe(engine, ids, arm, seed=5).token_ids


def test_loading_leaves_no_warnings_behind():
    """Nothing that transformers says of our models is an unexplained warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine_for(demo.TARGET, [], [4], ngram=True)

    assert torch.get_num_threads() == 1


@pytest.mark.slow
def test_a_stop_text_ends_all_arms_at_the_same_token(embedded: TransformersEngine):
    """The answer up to and with the token that completes the text, with and without drafts."""
    ids = embedded.context_ids(chat("I need a table for two in San Jose."), [])
    plain = DecodeSettings(max_new_tokens=48)
    whole = embedded.observe(ids, embedded._plan.arms[0], plain)
    text = embedded._chat.plain_text(whole.token_ids)
    stop = text[len(text) // 2 :][:3]
    first = next(
        n
        for n in range(1, len(whole.token_ids) + 1)
        if stop in embedded._chat.plain_text(whole.token_ids[:n])
    )

    stopped = [
        embedded.observe(ids, arm, replace(plain, stop=("never said", stop)))
        for arm in embedded._plan.arms
    ]

    assert {whole.token_ids[:first]} == {one.token_ids for one in stopped}
    assert {FinishReason.STOP} == {one.finish_reason for one in stopped}
