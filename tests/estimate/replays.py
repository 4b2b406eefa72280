"""Replays without a model: answers, scores and cost tables that are drawn or written by hand.

``replay_trace`` has two draft models and a lookup on traffic of three categories: code drafts well,
translation badly; the larger draft is likelier right and costs more. Costs are drawn around stated
ones, several times over.
"""

from array import array
from itertools import product

import numpy as np

from specmeasure.records.costs import CostRound, CostTable, DraftCosts
from specmeasure.records.plan import BASELINE, GREEDY, Arm, Method, TrialKey
from specmeasure.records.replay import (
    TOKEN_CLASSES,
    Answer,
    CandidateFacts,
    DraftScores,
    HeadScores,
    LookupScores,
    RecordingFacts,
    ReplayManifest,
    ReplayRequest,
    ReplayTrace,
    TargetScores,
)
from specmeasure.records.request import Request
from specmeasure.records.trace import FinishReason, ModelFacts
from tests.fakes import make_manifest, make_plan

CATEGORIES = ("chat", "code", "translation")
RATES = {"small": (0.6, 0.8, 0.4), "large": (0.75, 0.9, 0.6)}  # by category
DRAFT_RATIOS = {"small": 0.05, "large": 0.2, "ngram": 0.001}  # one draft / one step
COVERAGE = (0.15, 0.5, 0.3)  # of the lookup, by category
CONTEXTS, ROWS, DRAFTS = (32, 128, 512), (1, 2, 3, 5, 9, 17, 33), (1, 2, 4, 8, 16, 32)


def make_answer(prompt_id="p0", *, num_tokens, budget=None, turn=0, **changes):
    """An answer of so many tokens, which a budget ended if it is spent."""
    spent = num_tokens == budget
    values = {
        "key": TrialKey(prompt_id=prompt_id, turn=turn, repeat=0, arm=BASELINE.name),
        "labels": {"category": "chat"},
        "prompt_hash": f"hash of {prompt_id}",
        "sampling": GREEDY,
        "max_new_tokens": budget,
        "num_prompt_tokens": 20,
        "num_tokens": num_tokens,
        "finish_reason": FinishReason.BUDGET if spent else FinishReason.EOS,
        "ids_hash": f"ids of {prompt_id}/{turn}",
    }
    return Answer(**{**values, **changes})


def draft_scores(chances):
    """A draft model's, by its acceptance chances."""
    chances = np.asarray(chances, dtype=np.float32)
    nothing = np.zeros(len(chances), dtype=np.float32)
    return DraftScores(
        accept_chance=array("f", chances.tolist()),
        argmax_hit=array("b", (chances > 0.5).tolist()),
        entropy=array("f", nothing.tolist()),
        total_variation=array("f", (1 - chances).tolist()),
        token_rank=array("i", (chances <= 0.5).tolist()),
    )


def lookup_scores(num_drafts, num_matching):
    """A lookup's, by what it finds at every token."""
    return LookupScores(
        num_drafts=array("h", list(num_drafts)), num_matching=array("h", list(num_matching))
    )


def head_scores(chances):
    """Heads', by their acceptance chances [T, H] for the block that starts at a token."""
    chances = np.asarray(chances, dtype=np.float32)
    ranks = np.where(chances > 0.5, 0, 1)
    ahead = np.add.outer(np.arange(len(chances)), np.arange(chances.shape[1]))
    is_there = (ahead < len(chances)) & (np.arange(len(chances)) > 0)[:, None]
    return HeadScores(
        num_heads=chances.shape[1],
        rank=array("i", np.where(is_there, ranks, -1).ravel().tolist()),
        accept_chance=array("f", np.where(is_there, chances, 0).ravel().tolist()),
    )


def target_scores(entropy, token_class):
    """The target's, by its entropies and its tokens' classes."""
    chances = np.exp(-np.asarray(entropy))
    return TargetScores(
        token_class=array("b", list(token_class)),
        entropy=array("f", list(entropy)),
        token_prob=array("f", chances.tolist()),
        token_rank=array("i", (chances < 0.2).tolist()),
    )


def make_costs(  # noqa: PLR0913 - what tests vary
    ratios=None, *, num_rounds=1, noise=0.0, seed=0, step_s=0.01, verify_slope=0.02
):
    """A table of ``num_rounds``; ``noise`` is the deviation of every time's logarithm.

    A step is 0.01 s and grows by a tenth in 512 tokens; a pass of R > 1 rows takes 1.2 steps and
    ``verify_slope`` more for each row after the second; a block's overhead is 0.03 steps.
    """
    rng = np.random.default_rng(seed)
    ratios = DRAFT_RATIOS if ratios is None else ratios
    steps = step_s * (1 + np.array(CONTEXTS) / 5120)
    rows, drafts = np.array(ROWS), np.array(DRAFTS)
    verify = np.where(rows > 1, 1.2 + verify_slope * (rows - 2), 1.0) * steps[:, None]

    def timed(seconds):
        return seconds * np.exp(noise * rng.normal(size=np.shape(seconds)))

    rounds = [
        CostRound(
            step_s=tuple(timed(steps)),
            verify_s=tuple(map(tuple, timed(verify))),
            drafts={
                name: DraftCosts(
                    draft_s=tuple(map(tuple, timed(ratio * drafts * steps[:, None]))),
                    overhead_s=tuple(timed(0.03 * steps)),
                )
                for name, ratio in ratios.items()
            },
        )
        for _ in range(num_rounds)
    ]
    return CostTable(
        machine="a machine",
        context_lengths=CONTEXTS,
        num_rows=ROWS,
        num_drafts=DRAFTS,
        rounds=tuple(rounds),
    )


def replay_trace(  # noqa: PLR0913 - what tests vary
    num_prompts=30,
    seed=0,
    *,
    num_turns=1,
    most=8,
    budget=96,
    sampling=GREEDY,
    costs=None,
    recording=None,
):
    """A recorded replay of the candidates "small", "large" and "ngram", each up to ``most``."""
    rng = np.random.default_rng(seed)
    answers, targets = [], []
    scores = {name: [] for name in (*RATES, "ngram")}
    for prompt, turn in product(range(num_prompts), range(num_turns)):
        kind = prompt % len(CATEGORIES)
        length = int(min(budget, max(1, np.round(np.exp(rng.normal(3.6, 0.7))))))
        answers.append(_drawn_answer(prompt, turn, length, budget, sampling, rng))
        entropy = rng.exponential(0.7, size=length)
        targets.append(target_scores(entropy, rng.integers(len(TOKEN_CLASSES), size=length)))
        ease = rng.normal(0, 0.08) + 0.2 * (0.7 - np.minimum(entropy, 2))
        for name, rates in RATES.items():
            chances = np.clip(rates[kind] + ease, 0.02, 0.98)
            if sampling.is_greedy:
                chances = rng.random(length) < chances
            scores[name].append(draft_scores(chances))
        scores["ngram"].append(_drawn_lookup(length, most, COVERAGE[kind], rng))
    plan = make_plan(BASELINE, *_candidates(most), max_new_tokens=budget, sampling=sampling)
    return ReplayTrace(
        manifest=_manifest(plan),
        answers=tuple(answers),
        target=tuple(targets),
        scores={name: tuple(own) for name, own in scores.items()},
        candidates=_facts(),
        recording=recording or _recording(answers),
        costs=costs or make_costs(num_rounds=5, noise=0.02, seed=seed),
    )


def _candidates(most):
    models = [
        Arm(name=name, method=Method.DRAFT_MODEL, num_speculative_tokens=most, draft=f"/srv/{name}")
        for name in RATES
    ]
    lookup = Arm(
        name="ngram", method=Method.NGRAM, num_speculative_tokens=most, max_ngram=4, min_ngram=2
    )
    return [*models, lookup]


def _drawn_answer(prompt, turn, length, budget, sampling, rng):  # noqa: PLR0913, PLR0917
    return make_answer(
        f"p{prompt}",
        turn=turn,
        num_tokens=length,
        budget=budget,
        labels={"category": CATEGORIES[prompt % len(CATEGORIES)]},
        sampling=sampling,
        num_prompt_tokens=int(rng.integers(8, 300)),
    )


def _drawn_lookup(length, most, coverage, rng):
    num_drafts = np.where(rng.random(length) < coverage, most, 0)
    left = length - np.arange(length)
    matching = np.minimum(rng.geometric(0.4, size=length) - 1, np.minimum(num_drafts, left))
    return lookup_scores(num_drafts.tolist(), matching.tolist())


def _manifest(plan):
    of_run = make_manifest(plan, [])
    return ReplayManifest(
        schema_version=2,
        started_at=of_run.started_at,
        request=ReplayRequest(request=Request(plan=plan, sources=of_run.corpus.sources)),
        corpus=of_run.corpus,
        environment=of_run.environment,
        target=_model("target", 1_000_000_000),
    )


def _facts():
    sizes = {"small": 60_000_000, "large": 250_000_000}
    models = [
        CandidateFacts(
            name=name,
            models=(_model(f"/srv/{name}", size),),
            model_bytes=2 * size,
            cache_bytes_per_token=12_288.0,
            num_flops_per_draft=2.0 * size,
        )
        for name, size in sizes.items()
    ]
    return (*models, CandidateFacts(name="ngram"))


def _recording(answers):
    return RecordingFacts(
        generation_s=12.0,
        num_generated_tokens=sum(answer.num_tokens for answer in answers),
        peak_memory_bytes=None,
        largest_pair_bytes=2_500_000_000,
        num_target_flops_per_token=2e9,
        target_bytes=2_000_000_000,
        target_cache_bytes_per_token=49_152.0,
    )


def _model(name, num_parameters):
    return ModelFacts(
        name=name,
        fingerprint="f" * 64,
        num_parameters=num_parameters,
        dtype="float32",
        device="cpu",
        cache="crop",
        vocab_size=32_000,
    )
