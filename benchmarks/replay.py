"""How long a replay's arithmetic takes on one core, on drawn scores.

    python benchmarks/replay.py [--prompts 1000] [--tokens 512] [--most 32]

Counts every K of one draft model's and of a lookup's scores, then of three draft models', and at
last makes the whole prediction of three. The best of three runs each; nothing is loaded or decoded.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy reads it

import argparse
import time
from array import array
from collections.abc import Callable

import numpy as np

from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.estimate.replay import count_replay
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.costs import CostRound, CostTable, DraftCosts
from specmeasure.records.machine import Environment
from specmeasure.records.plan import BASELINE, GREEDY, Arm, Method, Plan, TrialKey
from specmeasure.records.replay import (
    TOKEN_CLASSES,
    Answer,
    CandidateFacts,
    DraftScores,
    LookupScores,
    RecordingFacts,
    ReplayManifest,
    ReplayRequest,
    ReplayTrace,
    TargetScores,
)
from specmeasure.records.request import Request
from specmeasure.records.trace import CorpusFacts, FinishReason, ModelFacts

CONTEXTS, ROWS, DRAFTS = (128, 512, 2048), (1, 2, 3, 5, 9, 17, 33), (1, 2, 4, 8, 16, 32)
CATEGORIES = ("chat", "code", "news", "translation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--most", type=int, default=32)
    options = parser.parse_args()
    size = f"{options.prompts} answers x {options.tokens} tokens, K = 1 ... {options.most}"
    rng = np.random.default_rng(0)
    answers = [make_answer(i, options.tokens, rng) for i in range(options.prompts)]
    models = {f"draft {i}": draw_drafts(answers, 0.5 + 0.15 * i, rng) for i in range(3)}
    lookup = draw_lookups(answers, options.most, rng)

    report(f"counting one draft model: {size}", lambda: count(answers, options.most, models, 1))
    report("counting three", lambda: count(answers, options.most, models, 3))
    report("counting a lookup", lambda: count_replay(answers, lookup, options.most))
    trace = make_trace(answers, models, options.most, rng)
    report("the whole prediction of three", lambda: predict(trace, Intervals()))


def report(name: str, work: Callable[[], object]) -> None:
    """Print the best of three."""
    spent = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    print(f"{min(spent):7.2f} s  {name}")


def count(
    answers: list[Answer], most: int, models: dict[str, list[DraftScores]], num_models: int
) -> None:
    for scores in list(models.values())[:num_models]:
        count_replay(answers, scores, most)


def make_answer(number: int, num_tokens: int, rng: np.random.Generator) -> Answer:
    return Answer(
        key=TrialKey(prompt_id=f"p{number}", turn=0, repeat=0, arm=BASELINE.name),
        labels={"category": CATEGORIES[number % len(CATEGORIES)]},
        prompt_hash="h",
        sampling=GREEDY,
        max_new_tokens=num_tokens,
        num_prompt_tokens=int(rng.integers(20, 1000)),
        num_tokens=num_tokens,
        finish_reason=FinishReason.BUDGET,
        ids_hash="h",
    )


def draw_drafts(answers: list[Answer], rate: float, rng: np.random.Generator) -> list[DraftScores]:
    """Chances of a sampled target around a rate."""
    drawn = []
    for answer in answers:
        chances = rng.beta(4 * rate, 4 * (1 - rate), size=answer.num_tokens)
        zeros = [0] * answer.num_tokens
        drawn.append(
            DraftScores(
                accept_chance=array("f", chances.tolist()),
                argmax_hit=array("b", zeros),
                entropy=array("f", zeros),
                total_variation=array("f", zeros),
                token_rank=array("i", zeros),
            )
        )
    return drawn


def draw_lookups(answers: list[Answer], most: int, rng: np.random.Generator) -> list[LookupScores]:
    """A quarter of the tokens have drafts."""
    drawn = []
    for answer in answers:
        found = np.where(rng.random(answer.num_tokens) < 0.25, most, 0)
        matching = np.minimum(found, rng.geometric(0.3, size=answer.num_tokens) - 1)
        drawn.append(
            LookupScores(
                num_drafts=array("h", found.tolist()), num_matching=array("h", matching.tolist())
            )
        )
    return drawn


def make_trace(
    answers: list[Answer],
    models: dict[str, list[DraftScores]],
    most: int,
    rng: np.random.Generator,
) -> ReplayTrace:
    arms = [
        Arm(name=name, method=Method.DRAFT_MODEL, num_speculative_tokens=most, draft=name)
        for name in models
    ]
    plan = Plan(target="target", arms=(BASELINE, *arms))
    return ReplayTrace(
        manifest=make_manifest(plan, len(answers)),
        answers=tuple(answers),
        target=tuple(draw_target(answer, rng) for answer in answers),
        scores={name: tuple(scores) for name, scores in models.items()},
        candidates=tuple(CandidateFacts(name=name, num_flops_per_draft=1e8) for name in models),
        recording=RecordingFacts(
            generation_s=None,
            num_generated_tokens=0,
            peak_memory_bytes=None,
            largest_pair_bytes=0,
            num_target_flops_per_token=1e9,
            target_bytes=0,
            target_cache_bytes_per_token=0.0,
        ),
        costs=make_costs(list(models), rng),
    )


def draw_target(answer: Answer, rng: np.random.Generator) -> TargetScores:
    size = answer.num_tokens
    return TargetScores(
        token_class=array("b", rng.integers(len(TOKEN_CLASSES), size=size).tolist()),
        entropy=array("f", rng.exponential(0.7, size=size).tolist()),
        token_prob=array("f", [0.5] * size),
        token_rank=array("i", [0] * size),
    )


def make_costs(names: list[str], rng: np.random.Generator) -> CostTable:
    """Five rounds, each time 2 % off."""

    def timed(seconds: float) -> float:
        return float(seconds * np.exp(0.02 * rng.normal()))

    rounds = [
        CostRound(
            step_s=tuple(timed(1.0) for _ in CONTEXTS),
            verify_s=tuple(tuple(timed(1 + 0.02 * r) for r in ROWS) for _ in CONTEXTS),
            drafts={
                name: DraftCosts(
                    draft_s=tuple(tuple(timed(0.05 * d) for d in DRAFTS) for _ in CONTEXTS),
                    overhead_s=tuple(timed(0.03) for _ in CONTEXTS),
                )
                for name in names
            },
        )
        for _ in range(5)
    ]
    return CostTable(
        machine="drawn",
        context_lengths=CONTEXTS,
        num_rows=ROWS,
        num_drafts=DRAFTS,
        rounds=tuple(rounds),
    )


def make_manifest(plan: Plan, num_prompts: int) -> ReplayManifest:
    return ReplayManifest(
        schema_version=1,
        started_at="",
        request=ReplayRequest(request=Request(plan=plan, sources=())),
        corpus=CorpusFacts(
            sources=(),
            options=CorpusOptions(),
            fingerprint="",
            num_prompts=num_prompts,
            files=(),
            dropped=(),
        ),
        environment=Environment(
            versions={},
            platform="",
            cpu="",
            num_cores=1,
            memory_bytes=0,
            num_threads=1,
            load_average=None,
        ),
        target=ModelFacts(
            name="target",
            fingerprint="",
            num_parameters=0,
            dtype="",
            device="",
            cache="",
            vocab_size=0,
        ),
    )


if __name__ == "__main__":
    main()
