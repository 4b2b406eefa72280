"""Arms whose passes are captured emit what they emitted before, and say what they did.

The stand-in for graphs repeats tensor operations without Python; times are not looked at.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from specmeasure import demo
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.shared_exit import SharedExit
from specmeasure.decode.static_check import NUM_ROWS
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.engines import costs
from specmeasure.engines.models import LoadedModels
from specmeasure.engines.proposing import drafting_for, longest_read, target_rows
from specmeasure.engines.replay import ReplayEngine
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.errors import OutOfMemory
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import (
    BASELINE,
    GREEDY,
    Arm,
    DecodeSettings,
    DraftSampling,
    Method,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.run.recorder import Recorder
from tests.decode import tiny_models
from tests.decode.recorded_graphs import RecordedGraphs
from tests.decode.tree_proposer import BUSHY

OPTIONS = ModelOptions(device="cpu", dtype="float32", num_threads=1)
NUM_NEW = 40
DRAFTED = Arm(name="draft", method=Method.DRAFT_MODEL, num_speculative_tokens=1, draft=demo.DRAFT)
LOOKUP = Arm(name="ngram", method=Method.NGRAM, num_speculative_tokens=1, max_ngram=4, min_ngram=1)
CHAIN = Arm(name="chain", method=Method.MEDUSA, num_speculative_tokens=3, heads=demo.MEDUSA)
TREE = replace(CHAIN, name="tree", tree=BUSHY, num_speculative_tokens=BUSHY.num_nodes)
EXIT = Arm(name="exit", method=Method.EARLY_EXIT, num_speculative_tokens=2, exit_layer=2)
ARMS = (BASELINE, *(DRAFTED.at(k) for k in (1, 4, 8)), LOOKUP.at(8), CHAIN, TREE)


def engine_for(
    arms: tuple[Arm, ...], graphs: RecordedGraphs | None, target: str = demo.TARGET, **plan: Any
) -> TransformersEngine:
    made = Plan(target=target, arms=arms, options=OPTIONS, ignore_eos=True, **plan)
    models = LoadedModels.load(made, most_threads=1, graphs=graphs)
    return TransformersEngine.load(made, loaded=models)


def context_ids(engine: TransformersEngine, length: int) -> list[int]:
    """A prompt of so many tokens that says something again and again."""
    text = "def add(a, b):\n    return a + b\n\n"
    prompt = Prompt(prompt_id="1", category="c", source="f:1", text=text * (length // 8))
    return engine.context_ids(prompt, [])[:length]


@pytest.fixture(scope="module")
def graphs() -> RecordedGraphs:
    return RecordedGraphs()


@pytest.fixture(scope="module")
def captured(graphs: RecordedGraphs) -> TransformersEngine:
    return engine_for(ARMS, graphs)


@pytest.fixture(scope="module")
def plain() -> TransformersEngine:
    return engine_for(ARMS, None)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
@pytest.mark.parametrize("length", [30, 240, 370])
def test_greedy_answers_stay_the_same(
    captured: TransformersEngine, plain: TransformersEngine, arm: Arm, length: int
):
    """Within the first room, from it into the second, and on into the third: block by block."""
    ids = context_ids(plain, length)
    settings = DecodeSettings(max_new_tokens=NUM_NEW)
    found, expected = (engine.observe(ids, arm, settings) for engine in (captured, plain))

    assert expected.token_ids == found.token_ids
    assert [block.draft_ids for block in expected.blocks] == [one.draft_ids for one in found.blocks]
    assert expected.cache_bytes == found.cache_bytes
    assert expected.model_bytes == found.model_bytes


@pytest.mark.parametrize("arm", [BASELINE, DRAFTED.at(4), CHAIN, TREE], ids=lambda arm: arm.name)
def test_sampled_answers_stay_the_same(
    captured: TransformersEngine, plain: TransformersEngine, arm: Arm
):
    """The same seed draws the same drafts and the same tokens."""
    ids = context_ids(plain, 250)
    settings = DecodeSettings(
        max_new_tokens=24, sampling=Sampling(temperature=0.8, top_p=0.9), seed=7
    )
    found, expected = (engine.observe(ids, arm, settings) for engine in (captured, plain))

    assert expected.token_ids == found.token_ids
    assert [block.draft_ids for block in expected.blocks] == [one.draft_ids for one in found.blocks]


def test_greedy_drafts_of_a_sampled_target_stay_the_same(
    captured: TransformersEngine, plain: TransformersEngine
):
    """Point masses, verified against the same laws."""
    arm = replace(DRAFTED.at(4), draft_sampling=DraftSampling.GREEDY)
    settings = DecodeSettings(max_new_tokens=24, sampling=Sampling(temperature=1.0), seed=3)
    ids = context_ids(plain, 30)

    assert (
        plain.observe(ids, arm, settings).token_ids
        == captured.observe(ids, arm, settings).token_ids
    )


def test_answers_are_those_of_generate(captured: TransformersEngine):
    """transformers' own greedy loop on its own cache, token for token."""
    ids = context_ids(captured, 240)
    with torch.inference_mode():
        wanted = captured._target.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=NUM_NEW,
            min_new_tokens=NUM_NEW,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=-1,
        )[0, len(ids) :]
    settings = DecodeSettings(max_new_tokens=NUM_NEW)

    assert {tuple(wanted.tolist())} == {
        captured.observe(ids, arm, settings).token_ids for arm in ARMS[:5]
    }


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 4, 8])
def test_answers_stay_the_same_on_a_real_pair(stories: tuple[str, str], k: int):
    """260K parameters and a weak draft of them, past the first room."""
    target, draft = stories
    arms = (BASELINE, replace(DRAFTED, draft=draft).at(k), LOOKUP.at(k))
    engines = [engine_for(arms, graphs, target) for graphs in (RecordedGraphs(), None)]
    prompt = Prompt(prompt_id="1", category="c", source="f:1", text="Once upon a time, there was")
    ids = engines[0].context_ids(prompt, [])
    settings = DecodeSettings(max_new_tokens=260)
    found, expected = (
        [engine.observe(ids, arm, settings).token_ids for arm in arms] for engine in engines
    )

    assert expected == found
    assert [expected[0]] * 3 == expected


class Silent:
    """A journal that keeps nothing."""

    def add_trial(self, trial: object) -> None: ...

    def add_checks(self, checks: object) -> None: ...


def test_after_the_warm_up_nothing_is_captured():
    """What answers need is captured before them: no capture in a trial, and none by chance."""
    graphs = RecordedGraphs()
    arms = (BASELINE, DRAFTED.at(3), LOOKUP.at(3))
    engine = engine_for(arms, graphs, max_new_tokens=16)
    prompts = [
        Prompt(prompt_id=str(n), category="c", source="f:1", text="def add(a, b):\n" * n)
        for n in (2, 6, 9)
    ]
    Recorder(plan=engine._plan, engine=engine, journal=Silent()).warm_up(prompts)
    num_captures, num_replays = graphs.num_captures, graphs.num_replays
    settings = DecodeSettings(max_new_tokens=16)
    seen = [
        engine.observe(engine.context_ids(prompt, []), arm, settings)
        for prompt in prompts
        for arm in arms
    ]

    assert {None} == {one.capture_s for one in seen}
    assert num_captures == graphs.num_captures
    assert graphs.num_replays - num_replays >= sum(len(one.blocks) - 1 for one in seen)


def test_every_pass_but_the_prompts_is_a_replay():
    """Blocks of the target, and a draft's one pass for each draft that it makes."""
    graphs = RecordedGraphs()
    engine = engine_for((BASELINE, DRAFTED.at(3), TREE), graphs)
    ids, settings = context_ids(engine, 30), DecodeSettings(max_new_tokens=20)
    for arm, of_draft in zip(engine._plan.arms, (0, 1, 0), strict=True):
        before = graphs.num_replays
        blocks = engine.observe(ids, arm, settings).blocks[1:]
        num_drafts = sum(block.num_draft_tokens for block in blocks)

        assert len(blocks) + of_draft * num_drafts == graphs.num_replays - before


def test_the_first_answer_tells_what_capturing_took():
    """Seconds of the answer that needed it, in none of its times; then none."""
    engine = engine_for((BASELINE,), RecordedGraphs())
    ids, settings = context_ids(engine, 30), DecodeSettings(max_new_tokens=8)
    first, second = (engine.observe(ids, BASELINE, settings) for _ in range(2))

    assert first.capture_s is not None
    assert first.capture_s > 0
    assert second.capture_s is None


def test_facts_and_warnings_of_captured_models(
    captured: TransformersEngine, plain: TransformersEngine
):
    """Target and draft replay; on a plain CPU there is nothing to capture, and nothing to say."""
    assert [True, True, False] == [one.replays_graphs for one in captured.models]  # heads have none
    assert [False] * 3 == [one.replays_graphs for one in plain.models]
    (said,) = set(captured.warnings) - set(plain.warnings)
    assert said.startswith(f"Heads {demo.MEDUSA} draft without CUDA graphs: ")
    assert set(plain.warnings) <= set(captured.warnings)


def loaded(target: Any, **drafts: Any) -> LoadedModels:
    models = LoadedModels("tiny", None, cached(target), OPTIONS, graphs=RecordedGraphs())
    models.drafts |= {name: cached(draft) for name, draft in drafts.items()}
    models.vocabularies |= dict.fromkeys(drafts)
    return models


def cached(model: Any) -> CachedCausalLM:
    return CachedCausalLM(model, vocab_size=tiny_models.VOCAB)


def drafted_by(name: str) -> Arm:
    return replace(DRAFTED, draft=name)


@pytest.mark.parametrize("kind", ["sliding", "recurrent"])
def test_a_target_that_cannot_is_named(kind: str):
    """It decodes as before, with one line that says why, and its drafts are not faster than it."""
    models = loaded(tiny_models.ALL[kind](), small=tiny_models.llama())
    arm = drafted_by("small")
    drafting = drafting_for(arm, models, GREEDY, generator=torch.Generator())

    assert models.target is drafting.target
    assert models.drafts["small"] is drafting.draft_model
    (said,) = models.graph_warnings([BASELINE, arm])
    assert said.startswith("Target tiny decodes without CUDA graphs: its cache forgets by")


@pytest.mark.parametrize("kind", ["sliding", "recurrent"])
def test_a_draft_that_cannot_is_named(kind: str):
    """The baseline is captured, so that the arm's speedup is a lower bound; each draft once."""
    models = loaded(tiny_models.llama(), small=tiny_models.ALL[kind]())
    arms = [BASELINE, drafted_by("small"), replace(drafted_by("small").at(4))]
    drafting = drafting_for(arms[1], models, GREEDY, generator=torch.Generator())

    assert isinstance(drafting.target, StaticCausalLM)
    assert models.drafts["small"] is drafting.draft_model
    (said,) = models.graph_warnings(arms)
    assert said.startswith("Draft small decodes without CUDA graphs: its cache forgets by")
    assert "lower bounds" in said


def test_early_exits_stay_with_the_growing_cache():
    """Their first layers read into the target's own; the line says so."""
    models = loaded(tiny_models.llama())
    arm = replace(EXIT, exit_layer=1)
    drafting = drafting_for(arm, models, GREEDY, generator=torch.Generator())

    assert not isinstance(drafting.target, StaticCausalLM)
    (said,) = models.graph_warnings([BASELINE, arm])
    assert "Early exit after layer 1 decodes without CUDA graphs" in said


def test_dropped_drafts_take_their_room_along():
    """Room goes, graphs with their memory; a draft that is loaded again is tried again."""
    models = loaded(tiny_models.llama(), small=tiny_models.llama())
    before = models.decoding_draft(drafted_by("small"))
    assert isinstance(before, StaticCausalLM)
    before.prepare((1,), first=3, last=8)
    num_renewals = before._graphs.num_renewals
    again = models.drafts["small"]
    models.drop_drafts()
    models.drafts["small"] = again

    assert 0 == before.room_bytes
    assert num_renewals + 1 == before._graphs.num_renewals
    assert before is not models.decoding_draft(drafted_by("small"))


def test_a_trial_that_runs_out_of_memory_is_no_verdict(monkeypatch: pytest.MonkeyPatch):
    """It says what to lower; the model is tried again when it is asked for again."""
    models = loaded(tiny_models.llama())

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(RecordedGraphs, "capture", run_out)
        with pytest.raises(OutOfMemory, match="while CUDA graphs of a model were tried"):
            _ = models.decoding_target

    assert isinstance(models.decoding_target, StaticCausalLM)


def test_a_replay_warns_without_loading_drafts():
    """It holds one at a time: what their trial would say is not said; what is known anyway is."""
    models = loaded(tiny_models.llama(), small=tiny_models.ALL["sliding"]())
    drafts = dict(models.drafts)
    models.drafts.clear()
    arms = [BASELINE, drafted_by("small"), replace(EXIT, exit_layer=1), LOOKUP]
    (said,) = models.graph_warnings(arms, loads_drafts=False)

    assert {} == models.drafts
    assert "Early exit after layer 1" in said
    models.drafts |= drafts
    assert 2 == len(models.graph_warnings(arms))


def test_after_captures_the_prompt_is_read_once_untimed(monkeypatch: pytest.MonkeyPatch):
    """By target and draft, before the answer's own prefill; with nothing captured it is not."""
    engine = engine_for((BASELINE, DRAFTED.at(2)), RecordedGraphs())
    ids, settings = context_ids(engine, 30), DecodeSettings(max_new_tokens=8)
    prefill, seen = StaticCausalLM.prefill, []

    def watched(model: StaticCausalLM, read: Any) -> Any:
        seen.append((model, len(read)))
        return prefill(model, read)

    monkeypatch.setattr(StaticCausalLM, "prefill", watched)
    for expected in (4, 2):
        seen.clear()
        engine.observe(ids, engine._plan.arms[1], settings)

        assert expected == sum(length >= len(ids) - 1 for _, length in seen)
        assert 2 == len({id(model) for model, _ in seen})


def test_rows_of_an_arm_are_those_of_its_blocks(captured: TransformersEngine):
    """Every block of every arm, to the end of the budget; and no pass reads past the room."""
    ids, settings = context_ids(captured, 30), DecodeSettings(max_new_tokens=NUM_NEW)
    for arm in ARMS:
        rows = target_rows(arm)
        blocks = captured.observe(ids, arm, settings).blocks[1:]

        assert {1 + block.num_draft_tokens for block in blocks} <= set(rows)
        assert max(one.context_length + 1 + one.num_draft_tokens for one in blocks) <= longest_read(
            arm, len(ids), NUM_NEW
        )
    assert (1, *range(2, 10)) == target_rows(DRAFTED.at(8))


@pytest.mark.slow
def test_half_precision_passes_the_audits():
    """bfloat16: greedy tokens are the target's own or near ties; sampled ones in the same passes.

    Their chances are those of the captured target's passes, not of another kernel's.
    """
    arms = (BASELINE, DRAFTED.at(4), TREE)
    plan = Plan(
        target=demo.TARGET,
        arms=arms,
        options=replace(OPTIONS, dtype="bfloat16"),
        ignore_eos=True,
    )
    models = LoadedModels.load(plan, most_threads=1, graphs=RecordedGraphs())
    engine = TransformersEngine.load(plan, loaded=models)
    ids = context_ids(engine, 240)
    cold = DecodeSettings(max_new_tokens=24, sampling=Sampling(temperature=0.2), seed=1)
    for arm in arms:
        greedy = engine.observe(ids, arm, DecodeSettings(max_new_tokens=NUM_NEW))
        audit = engine.audit(ids, greedy.token_ids)
        sampled = engine.observe(ids, arm, cold)

        assert all(one.delta <= 2 * one.noise for one in audit.suspects)
        assert 0 == engine.audit_sampled(ids, sampled, arm, cold).num_impossible


def test_costs_are_timed_in_captured_passes(monkeypatch: pytest.MonkeyPatch):
    """A replay's meter captures ahead of its sessions, then launches what it captured."""
    monkeypatch.setattr(costs, "NUM_ROUNDS", 1)
    graphs = RecordedGraphs()
    arms = (BASELINE, DRAFTED)
    plan = Plan(target=demo.TARGET, arms=arms, options=OPTIONS)
    engine = ReplayEngine(plan, LoadedModels.load(plan, most_threads=1, graphs=graphs))
    meter = engine.cost_meter([range(5, 15)], 2)
    target = meter.target()
    num_captures = graphs.num_captures
    assert meter.decoder.target is engine.loaded.decoding_target
    meter.drafts(engine.drafting(DRAFTED, GREEDY), target)

    of_trial = 2 * len(NUM_ROWS)  # the draft is loaded now, and not before
    assert num_captures + of_trial + 2 == graphs.num_captures  # its one and two rows
    assert isinstance(meter.decoder.target, StaticCausalLM)
    assert graphs.num_replays > 50


class ToldClock:
    """Moves when it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def mark(self) -> float:
        self.now += 2.0**-20
        return self.now

    def seconds(self, earlier: float, later: float) -> float:
        return later - earlier

    def spends(self, seconds: float, method: Any) -> Any:
        """The method, which takes so long."""

        def timed(*arguments: Any, **named: Any) -> Any:
            self.now += seconds
            return method(*arguments, **named)

        return timed


def test_an_early_exit_beside_captured_steps_costs_what_it_takes(
    monkeypatch: pytest.MonkeyPatch,
):
    """Its own steps are six times the baseline's, as in a run: they are not scaled to those.

    A machine that is slower while it is timed still changes no ratio.
    """
    monkeypatch.setattr(costs, "NUM_ROUNDS", 1)
    plan = Plan(target=demo.TARGET, arms=(BASELINE, EXIT), options=OPTIONS)
    models = LoadedModels.load(plan, most_threads=1, graphs=RecordedGraphs())
    engine, clock = ReplayEngine(plan, models), ToldClock()
    meter = engine.cost_meter([range(5, 15)], 2)
    meter = replace(meter, decoder=replace(meter.decoder, clock=clock))
    for kind, name, seconds in (
        (StaticCausalLM, "forward", 1.0),
        (CachedCausalLM, "forward", 6.0),
        (SharedExit, "draft", 4.0),
    ):
        monkeypatch.setattr(kind, name, clock.spends(seconds, getattr(kind, name)))
    drafting, target = engine.drafting(EXIT, GREEDY), meter.target()
    (found,) = meter.drafts(drafting, target)
    (slower,) = meter.drafts(drafting, replace(target, plain_s=(0.5,)))

    assert isinstance(drafting.target, SharedExit)
    assert [1.0] == pytest.approx(list(target.plain_s), abs=1e-4)
    assert [4.0, 8.0] == pytest.approx(list(found.draft_s[0]), abs=1e-3)
    assert 6.0 == pytest.approx((found.verify_s or ())[0][0], abs=1e-3)
    assert [2.0, 4.0] == pytest.approx(list(slower.draft_s[0]), abs=1e-3)
