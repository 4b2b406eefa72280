"""Replays of Medusa heads on the embedded target beside real runs of the same heads."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from specmeasure import demo
from specmeasure.api.replay_reports import conclude_replay
from specmeasure.api.replays import read_replay, resume_replay, start_replay
from specmeasure.corpus import load_corpus
from specmeasure.decode.teacher import Finished
from specmeasure.engines.heads import save_heads
from specmeasure.engines.models import LoadedModels
from specmeasure.engines.replay import Asked, ReplayEngine
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.engines.tree_costs import NUM_NODES
from specmeasure.errors import UsageError
from specmeasure.estimate.replay import count_replay
from specmeasure.estimate.tree_costs import tree_costs
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.records.corpus import Prompt
from specmeasure.records.estimates import Interval
from specmeasure.records.heads import HeadsLayout
from specmeasure.records.plan import (
    BASELINE,
    GREEDY,
    Arm,
    DecodeSettings,
    Method,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.records.replay import HeadScores, ReplayRequest, ReplayTrace
from specmeasure.records.request import Request
from specmeasure.records.tree import TokenTree
from specmeasure.run.watch import Watchers
from tests.e2e.test_replay import Replayed, columns_of, real_counts, stops_at, write_prompts

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("timed_briefly")]

NUM_HEADS, BUDGET, EXIT_LAYER = 3, 24, 3


def plan_for(heads: Path, **changes: Any) -> Plan:
    """Heads, beside another way of drafting that reads the target's pass."""
    early = Arm(
        name="exit", method=Method.EARLY_EXIT, num_speculative_tokens=4, exit_layer=EXIT_LAYER
    )
    return Plan(
        **{
            "target": demo.TARGET,
            "arms": (BASELINE, chain_of(heads), early),
            "max_new_tokens": BUDGET,
            "options": ModelOptions(device="cpu", dtype="float32", num_threads=1),
            **changes,
        }
    )


def chain_of(heads: Path, **changes: Any) -> Arm:
    arm = Arm(
        name="medusa",
        method=Method.MEDUSA,
        num_speculative_tokens=NUM_HEADS,
        heads=str(heads),
    )
    return replace(arm, **changes)


def request_for(prompts: Path, plan: Plan, **changes: Any) -> ReplayRequest:
    return ReplayRequest(
        request=Request(plan=plan, sources=(str(prompts),)), batch_size=4, **changes
    )


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", 4)


@pytest.fixture(scope="module")
def heads(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Linear heads, fitted by least squares to the very answers, so that many drafts are right."""
    folder = tmp_path_factory.mktemp("heads") / "fitted"
    plan = Plan(target=demo.TARGET, arms=(BASELINE,), options=ModelOptions(device="cpu"))
    loaded = LoadedModels.load(plan, most_threads=1)
    own = _own_answers(ReplayEngine(plan, loaded), load_corpus([str(prompts)]).prompts)
    states, tokens = zip(*(_along(loaded, one) for one in own), strict=True)
    made = MedusaHeads(
        hidden_size=states[0].shape[1],
        vocab_size=loaded.target.vocab_size,
        num_heads=NUM_HEADS,
        num_layers=0,
    )
    for head, matrix in enumerate(made.lm_heads):
        x = torch.cat([one[: len(one) - head - 1] for one in states])
        y = torch.cat([one[head + 1 :] for one in tokens])
        wanted = torch.nn.functional.one_hot(y, loaded.target.vocab_size).float()
        ridge = x.T @ x + 0.3 * torch.eye(x.shape[1]) * x.square().mean()
        matrix.weight.data = 20 * torch.linalg.solve(ridge, x.T @ wanted).T.contiguous()
    save_heads(made, folder, base_model=demo.TARGET, layout=HeadsLayout.MEDUSA)
    return folder


def _own_answers(engine: ReplayEngine, prompts: Sequence[Prompt]) -> Iterator[Finished]:
    contexts = [engine.context_ids(prompt, []) for prompt in prompts]
    settings = DecodeSettings(max_new_tokens=BUDGET)
    asked = [Asked(context_ids=ids, settings=settings, seed=0) for ids in contexts]
    for place, generated in engine.answer(asked, batch_size=4):
        yield Finished(context_ids=contexts[place], token_ids=generated.token_ids)


@torch.inference_mode()
def _along(loaded: LoadedModels, one: Finished) -> tuple[torch.Tensor, torch.Tensor]:
    """States [T, D] that the tokens [T] of an answer were predicted from."""
    ids = torch.tensor([[*one.context_ids, *one.token_ids]])
    output = loaded.target.model(input_ids=ids, output_hidden_states=True)
    first = len(one.context_ids) - 1
    return output.hidden_states[-1][0, first:-1].clone(), ids[0, first + 1 :]


@pytest.fixture(scope="module")
def greedy(prompts: Path, heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = tmp_path_factory.mktemp("greedy") / "replay"
    plan = plan_for(heads, include_text=True)
    return Replayed(folder, start_replay(request_for(prompts, plan, num_confirmed=2), folder))


def test_a_greedy_replay_counts_the_passes_of_the_real_run(greedy: Replayed):
    """Heads at their best K, prompt by prompt: the same answers, as many passes."""
    report, num_answers = conclude_replay(greedy.trace, greedy.folder), len(greedy.trace.answers)
    found = {one.candidate: one for one in report.agreements}

    assert {"medusa", "exit"} == set(found)
    for one in found.values():
        assert () == one.unequal
        assert (num_answers, num_answers) == (one.num_equal_counts, one.num_same_answers)


@pytest.fixture(scope="module")
def engine(greedy: Replayed) -> TransformersEngine:
    return TransformersEngine.load(greedy.trace.manifest.request.request.plan)


@pytest.mark.parametrize("k", range(1, NUM_HEADS + 1))
def test_a_greedy_replay_is_every_real_loop(greedy: Replayed, engine: TransformersEngine, k: int):
    """Passes, drafts and kept drafts at every K equal the real loop's, answer by answer."""
    candidate, answers = greedy.trace.manifest.request.request.plan.arms[1], greedy.trace.answers
    counts = count_replay(answers, greedy.trace.scores["medusa"], NUM_HEADS)
    predicted = [
        tuple(float(column[row, k - 1]) for column in columns_of(counts))
        for row in range(len(answers))
    ]

    assert [real_counts(engine, candidate.at(k), one) for one in answers] == predicted
    assert counts.num_accepted[:, k - 1].sum() > 3 * len(answers)


def test_what_heads_weigh_is_said(greedy: Replayed):
    """Their own weights, no cache, and operations of one head for a draft."""
    facts = greedy.trace.candidates[0]
    size = sum(one.weight.numel() for one in load_fitted(greedy).lm_heads)

    assert ("medusa", 4 * size, 0.0) == (
        facts.name,
        facts.model_bytes,
        facts.cache_bytes_per_token,
    )
    assert 2 * size / NUM_HEADS == facts.num_flops_per_draft


def load_fitted(replayed: Replayed) -> MedusaHeads:
    plan = replayed.trace.manifest.request.request.plan
    loaded = LoadedModels.load(plan, most_threads=1)
    return loaded.add_heads(plan.arms[1].heads or "")


def test_trees_of_heads_are_timed_beside_chains(greedy: Replayed):
    """Every number of nodes at every context; other candidates draft no trees."""
    table = greedy.trace.costs
    found = tree_costs(table, "medusa", NUM_NODES, seed=0)

    assert NUM_NODES == table.num_nodes
    assert (1, len(table.context_lengths), len(NUM_NODES)) == found.block_s.shape
    assert found.block_s.min() > 0
    assert {None} == {one.drafts["exit"].tree_s for one in table.rounds}


def test_a_sealed_replay_is_read_as_it_was_recorded(greedy: Replayed):
    """Reading, and resuming what is finished, give the very trace."""
    assert greedy.trace == read_replay(greedy.folder)
    assert greedy.trace == resume_replay(greedy.folder)


@pytest.fixture(scope="module")
def sampled(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """At a temperature, where chances count."""
    folder = tmp_path_factory.mktemp("sampled") / "replay"
    plan = plan_for(heads, sampling=Sampling(temperature=0.8))
    plan = replace(plan, arms=plan.arms[:2])
    prompts = write_prompts(folder.with_name("prompts.jsonl"), 8)
    return Replayed(folder, start_replay(request_for(prompts, plan, num_confirmed=1), folder))


def test_a_sampled_replay_predicts_the_length_that_is_measured(sampled: Replayed):
    """Other answers of the same prompts: no difference beyond what sampling explains.

    Twice the interval, so that another machine's rounding, and with it other draws, passes too.
    """
    (agreement,) = conclude_replay(sampled.trace, sampled.folder).agreements
    difference = agreement.length_difference

    assert isinstance(difference, Interval)
    assert abs(difference.value) < difference.high - difference.low
    assert any(0 < chance < 1 for one in head_scores(sampled.trace) for chance in one.accept_chance)


def head_scores(trace: ReplayTrace) -> Iterator[HeadScores]:
    for one in trace.scores["medusa"]:
        assert isinstance(one, HeadScores)
        yield one


@pytest.mark.parametrize("num_trials", [6, 12])
def test_an_interrupted_replay_goes_on_where_it_was(
    greedy: Replayed, prompts: Path, heads: Path, tmp_path: Path, num_trials: int
):
    """Stopped while the target and its heads are scored: the same trace."""
    folder = tmp_path / "replay"
    request = request_for(prompts, plan_for(heads, include_text=True))
    with pytest.raises(KeyboardInterrupt):
        start_replay(request, folder, watchers=Watchers(trial=stops_at(num_trials)))
    resumed = resume_replay(folder)

    assert greedy.trace.answers == resumed.answers
    assert greedy.trace.scores == resumed.scores
    assert greedy.trace.candidates == resumed.candidates


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_speculative_tokens": 5}, "5 drafts per block, and .* holds 3 heads"),
        ({"num_speculative_tokens": 2, "tree": TokenTree.chain(2)}, "predicts chains of heads"),
    ],
)
def test_what_is_not_predicted_is_refused(heads: Path, changes: dict[str, Any], message: str):
    """More drafts than heads, and trees."""
    plan = plan_for(heads, arms=(BASELINE, chain_of(heads, **changes)), sampling=GREEDY)

    with pytest.raises(UsageError, match=message):
        ReplayEngine.load(plan)
