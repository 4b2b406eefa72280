"""Recorded profiles of heads that never ran: ranks that are drawn, costs that are written by hand.

Heads know less the further they look ahead, and are right together more often than their
accuracies multiply to. Code is easy for them, translation is hard.
"""

from array import array
from dataclasses import replace

import numpy as np

from specmeasure.records.costs import CostTable
from specmeasure.records.plan import BASELINE, GREEDY, Arm, Method
from specmeasure.records.replay import CandidateFacts, HeadScores, ReplayTrace
from specmeasure.records.trace import ModelFacts
from tests.estimate.replays import make_costs, replay_trace
from tests.fakes import make_plan

NAME, NUM_HEADS = "medusa", 4
NODES = (1, 4, 16, 64)
EASE = {"chat": 0.55, "code": 0.75, "translation": 0.35}  # of the first head


def heads_trace(  # noqa: PLR0913 - what tests vary
    num_prompts=30, seed=0, *, num_heads=NUM_HEADS, sampling=GREEDY, costs=None, num_turns=1
):
    """A recorded profile: the answers of ``replay_trace``, one candidate of heads."""
    trace = replay_trace(num_prompts, seed, sampling=sampling, num_turns=num_turns)
    rng = np.random.default_rng(seed + 1)
    scores = tuple(
        rank_scores(drawn_ranks(answer.num_tokens, num_heads, EASE[answer.labels["category"]], rng))
        for answer in trace.answers
    )
    arm = Arm(name=NAME, method=Method.MEDUSA, num_speculative_tokens=num_heads, heads="/srv/heads")
    request = trace.manifest.request
    plan = make_plan(BASELINE, arm, max_new_tokens=96, sampling=sampling)
    request = replace(request, request=replace(request.request, plan=plan))
    return ReplayTrace(
        manifest=replace(trace.manifest, request=request),
        answers=trace.answers,
        target=trace.target,
        scores={NAME: scores},
        candidates=(_facts(),),
        recording=trace.recording,
        costs=costs or tree_costs(num_rounds=5, noise=0.02, seed=seed),
    )


def rank_scores(ranks):
    """Heads', by the ranks [T, H] that they give; a chain's chances are 1 where a rank is 0."""
    ranks = np.asarray(ranks)
    return HeadScores(
        num_heads=ranks.shape[1],
        rank=array("i", ranks.ravel().tolist()),
        accept_chance=array("f", (ranks == 0).ravel().astype(float).tolist()),
    )


def drawn_ranks(num_tokens, num_heads, ease, rng):
    """[T, H]: the further ahead, the less is known; a hard place is hard for all heads."""
    hard = rng.random(num_tokens)[:, None] * 0.5
    chance = np.clip(ease + 0.25 - hard - 0.12 * np.arange(num_heads), 0.08, 0.95)
    ranks = rng.geometric(np.broadcast_to(chance, (num_tokens, num_heads))) - 1
    ahead = np.arange(num_tokens)[:, None] + np.arange(num_heads)
    is_there = (ahead < num_tokens) & (np.arange(num_tokens) > 0)[:, None]
    return np.where(is_there, ranks, -1)


def tree_costs(*, num_rounds=1, noise=0.0, seed=0, per_node=0.015, ratio=0.02) -> CostTable:
    """The costs of ``make_costs`` with trees: a block of n nodes takes 1.3 steps and a bit each."""
    table = make_costs({NAME: ratio}, num_rounds=num_rounds, noise=noise, seed=seed)
    rng = np.random.default_rng(seed + 2)
    rounds = []
    for one in table.rounds:
        steps = np.array(one.step_s)[:, None]
        seconds = (1.3 + per_node * np.array(NODES)) * steps
        seconds *= np.exp(noise * rng.normal(size=seconds.shape))
        own = replace(one.drafts[NAME], tree_s=tuple(map(tuple, seconds)))
        rounds.append(replace(one, drafts={NAME: own}))
    return replace(table, rounds=tuple(rounds), num_nodes=NODES)


def _facts():
    model = ModelFacts(
        name="/srv/heads",
        fingerprint="e" * 64,
        num_parameters=40_000_000,
        dtype="float32",
        device="cpu",
        cache="none",
        vocab_size=32_000,
    )
    return CandidateFacts(
        name=NAME, models=(model,), model_bytes=160_000_000, num_flops_per_draft=2e7
    )
