"""Arms that draft with heads, in the engine: chains and trees beside the plain target."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from specmeasure import demo
from specmeasure.engines.heads import save_heads
from specmeasure.engines.models import LoadedModels
from specmeasure.engines.replay import ReplayEngine
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.errors import ModelNotFound, UnsupportedModel
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.records.corpus import Prompt
from specmeasure.records.heads import HeadsLayout
from specmeasure.records.medusa_tree import PAPER_TREE
from specmeasure.records.plan import (
    BASELINE,
    Arm,
    DecodeSettings,
    Method,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.records.tree import TokenTree
from tests.decode.tree_proposer import BUSHY

OPTIONS = ModelOptions(device="cpu", num_threads=1)
PROMPT = "def add(a, b):\n    return"
NUM_HEADS = 4
SETTINGS = DecodeSettings(max_new_tokens=32)


def context_ids(engine: TransformersEngine) -> list[int]:
    prompt = Prompt(prompt_id="one", category="code", source="here:1", text=PROMPT)
    return engine.context_ids(prompt, [])


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Heads that know one answer by heart: fewer states than dimensions, so an exact fit."""
    plan = Plan(target=demo.TARGET, arms=(BASELINE,), options=OPTIONS, ignore_eos=True)
    engine = TransformersEngine.load(plan)
    ids = context_ids(engine)
    answer = list(engine.observe(ids, BASELINE, SETTINGS).token_ids)
    target = engine._loaded.target
    with torch.inference_mode():
        read = target.model.model(torch.tensor([[*ids, *answer]])).last_hidden_state[0]
    known = MedusaHeads(
        hidden_size=read.shape[1],
        vocab_size=target.vocab_size,
        num_heads=NUM_HEADS,
        num_layers=0,
    )
    for head, matrix in enumerate(known.lm_heads):
        tokens = torch.tensor(answer[1 + head :])
        states = read[len(ids) - 1 :][: len(tokens)]
        wanted = torch.eye(target.vocab_size)[tokens]
        matrix.weight = torch.nn.Parameter((torch.linalg.pinv(states) @ wanted).T.contiguous())
    folder = tmp_path_factory.mktemp("heads")
    save_heads(known, folder, base_model=demo.TARGET, layout=HeadsLayout.MEDUSA)
    return str(folder)


def arms_of(heads: str) -> tuple[Arm, ...]:
    chain = Arm(name="chain", method=Method.MEDUSA, num_speculative_tokens=3, heads=heads)
    trees = {"one chain": TokenTree.chain(3), "bushy": BUSHY, "paper": PAPER_TREE}
    return (
        BASELINE,
        chain,
        *(
            replace(chain, name=name, tree=tree, num_speculative_tokens=tree.num_nodes)
            for name, tree in trees.items()
        ),
    )


@pytest.fixture(scope="module")
def engine(heads: str) -> TransformersEngine:
    plan = Plan(target=demo.TARGET, arms=arms_of(heads), options=OPTIONS, ignore_eos=True)
    return TransformersEngine.load(plan)


def test_greedy_answers_are_the_targets_own(engine: TransformersEngine):
    """Chain and trees on a real target; a chain drawn as a tree goes through the same blocks."""
    ids = context_ids(engine)
    seen = {arm.name: engine.observe(ids, arm, SETTINGS) for arm in engine._plan.arms}
    kept = {name: [block.num_accepted_tokens for block in one.blocks] for name, one in seen.items()}

    assert {seen["baseline"].token_ids} == {one.token_ids for one in seen.values()}
    assert kept["chain"] == kept["one chain"]
    assert [3] * 7 == kept["chain"][1:8] == kept["bushy"][1:8]
    assert [4] * 6 == kept["paper"][1:7]


def test_a_trees_blocks_tell_nodes_and_depth(engine: TransformersEngine):
    """K is the number of nodes; the budget cuts the last blocks by depth."""
    paper = engine._plan.arms[-1]
    _, *blocks = engine.observe(context_ids(engine), paper, SETTINGS).blocks

    assert (63, 4) == (blocks[0].num_draft_tokens, blocks[0].draft_depth)
    left = SETTINGS.max_new_tokens - 1
    for block in blocks:
        cut = PAPER_TREE.down_to(min(4, left - 1))
        assert (cut.num_nodes if cut else 0) == block.num_draft_tokens
        left -= block.num_emitted_tokens


def test_sampled_answers_are_reproducible(engine: TransformersEngine):
    """The same seed, the same answer; every arm finishes its budget."""
    settings = DecodeSettings(max_new_tokens=12, sampling=Sampling(temperature=0.7), seed=5)
    for arm in engine._plan.arms[1:4]:
        first, second = (engine.observe(context_ids(engine), arm, settings) for _ in range(2))
        assert first.token_ids == second.token_ids
        assert 12 == len(first.token_ids)


def test_heads_are_among_the_models(engine: TransformersEngine, heads: str):
    """By name and fingerprint, and their bytes beside the target's; their cache is none."""
    target, facts = engine.models
    baseline, chain = engine._plan.arms[:2]
    ids = context_ids(engine)
    beside = (
        engine.observe(ids, chain, SETTINGS).model_bytes
        - engine.observe(ids, baseline, SETTINGS).model_bytes
    )

    assert (heads, "none", target.vocab_size) == (facts.name, facts.cache, facts.vocab_size)
    assert 64 == len(facts.fingerprint)
    assert 4 * facts.num_parameters == beside > 0


def test_dropped_heads_are_loaded_again(engine: TransformersEngine):
    """Their memory goes with the drafts'."""
    models, chain = engine._loaded, engine._plan.arms[1]
    before = models.heads_for(chain)
    models.drop_drafts()

    assert {} == models.heads
    after = models.heads_for(chain)
    assert after is not before
    assert after is not None


def test_trees_deeper_than_the_heads_are_refused(engine: TransformersEngine, heads: str):
    """A tree of depth five needs five heads."""
    deep = Arm(
        name="deep",
        method=Method.MEDUSA,
        num_speculative_tokens=5,
        heads=heads,
        tree=TokenTree.chain(5),
    )
    with pytest.raises(UnsupportedModel, match=r"'deep': its tree is 5 deep.* holds 4 heads"):
        engine._loaded.heads_for(deep)


def test_heads_are_refused_before_the_target_is_loaded(heads: str, tmp_path: Path):
    """Names are read first: there is no such target either."""
    arms = (BASELINE, replace(arms_of(heads)[1], heads=str(tmp_path)))
    with pytest.raises(ModelNotFound, match="no weights were found"):
        LoadedModels.load(Plan(target=demo.TARGET, arms=arms, options=OPTIONS), most_threads=1)


def test_a_replay_knows_what_heads_weigh(engine: TransformersEngine):
    """A draft passes one head, here its vocabulary matrix alone."""
    chain, (target, facts) = engine._plan.arms[1], engine.models
    weighed = ReplayEngine(engine._plan, engine._loaded).facts(chain)
    hidden = engine._loaded.heads_for(chain).hidden_size

    assert (facts,) == weighed.models
    assert 4 * facts.num_parameters == weighed.model_bytes
    assert 2 * hidden * target.vocab_size == weighed.num_flops_per_draft
