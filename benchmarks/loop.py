"""Our loop against transformers' generate, on the embedded pair, interleaved in one process.

    python benchmarks/loop.py [--prompts 40] [--rounds 3] [--k 1,2,4,8] [--threads 1]

Every round decodes every prompt with every contestant back to back, in rotated order; figures are
ratios of summed times over the same prompts. transformers' assisted generation runs with the same
K, a constant schedule and no confidence stop. Model forwards are timed from inside, for the share
of decode time that the loop itself takes; v(K) and c come from our blocks.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from specmeasure import demo
from specmeasure.api import Drafters, plan_arms
from specmeasure.corpus import load_corpus
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.records.corpus import AskedSampling, CorpusOptions
from specmeasure.records.plan import Arm, ModelOptions, Plan
from specmeasure.records.trace import Observation

MAX_NEW_TOKENS = 96
MOST_ROWS = 17  # of a verification; contexts under it are left out of the overhead


class ForwardTimer:
    """Adds up the seconds inside a model's forward while decoding; prompts are longer reads."""

    def __init__(self, model: Any) -> None:
        self.seconds = 0.0
        self._forward = model.forward
        model.forward = self._timed

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._forward(*args, **kwargs)
        finally:
            if kwargs["input_ids"].shape[1] <= MOST_ROWS:
                self.seconds += time.perf_counter() - started


def generate(model: Any, draft: Any, k: int, ids: list[int]) -> int:
    """What transformers does; returns the number of new tokens."""
    assistance = {}
    if draft is not None:
        draft.generation_config.num_assistant_tokens = k
        draft.generation_config.num_assistant_tokens_schedule = "constant"
        draft.generation_config.assistant_confidence_threshold = 0.0
        assistance = {"assistant_model": draft}
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            **assistance,
        )
    return int(out.shape[1]) - len(ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--k", default="1,2,4,8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draft", default=demo.DRAFT)
    options = parser.parse_args()
    lengths = [int(part) for part in options.k.split(",")]

    plan = Plan(
        target=demo.TARGET,
        arms=plan_arms(Drafters(drafts=[options.draft]), lengths=lengths)[:-1],
        max_new_tokens=MAX_NEW_TOKENS,
        options=ModelOptions(device="cpu", dtype="float32", num_threads=options.threads),
    )
    engine = TransformersEngine.load(plan)
    root = Path(__file__).resolve().parents[1] / "prompts"
    prompts = load_corpus([str(root)], CorpusOptions(limit=options.prompts)).prompts
    contexts = [engine.context_ids(prompt, []) for prompt in prompts]
    target, draft = engine._target.model, engine._drafts[options.draft].model  # noqa: SLF001

    contest = Contest(engine, plan, target, draft)
    names = list(contest.contestants)
    for name in names:  # warm-up
        contest.contestants[name](contexts[0])
    contest.seen.clear()
    for round_number in range(options.rounds):
        for place, ids in enumerate(contexts):
            shift = (round_number + place) % len(names)
            for name in names[shift:] + names[:shift]:
                contest.time(name, ids)
    print(f"{len(contexts)} prompts x {options.rounds} rounds, {options.threads} threads")
    report_speed(plan, contest)
    report_costs(plan, contest.seen)
    report_overhead(plan, engine, contexts)


class Contest:
    """All contestants and what they took."""

    def __init__(self, engine: TransformersEngine, plan: Plan, target: Any, draft: Any) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tokens: dict[str, int] = defaultdict(int)
        self.seen: dict[str, list[Observation]] = defaultdict(list)
        self._engine = engine
        self._settings = plan.settings_for(AskedSampling())
        self.contestants: dict[str, Callable[[list[int]], int]] = {
            "generate": partial(generate, target, None, 0)
        }
        for arm in plan.arms:
            k = arm.num_speculative_tokens
            if k:
                self.contestants[f"assisted k={k}"] = partial(generate, target, draft, k)
            self.contestants[f"ours k={k}"] = partial(self._ours, arm)

    def time(self, name: str, ids: list[int]) -> None:
        started = time.perf_counter()
        self.tokens[name] += self.contestants[name](ids)
        self.seconds[name] += time.perf_counter() - started

    def rate(self, name: str) -> float:
        return self.tokens[name] / self.seconds[name]

    def _ours(self, arm: Arm, ids: list[int]) -> int:
        self.seen[arm.name].append(self._engine.observe(ids, arm, self._settings))
        return len(self.seen[arm.name][-1].token_ids)


def report_speed(plan: Plan, contest: Contest) -> None:
    """Tokens per second over whole answers, prefill included, and the ratios."""
    for name in contest.contestants:
        print(f"{name:16} {contest.tokens[name]:6d} tokens {contest.rate(name):8.1f} tokens/s")
    plain = contest.rate("generate")
    print(f"our baseline / generate: {contest.rate('ours k=0') / plain:.2f}")
    for arm in plan.speculative_arms:
        k = arm.num_speculative_tokens
        ours = contest.rate(f"ours k={k}")
        print(
            f"our K={k}: {ours / plain:.2f} x generate, "
            f"{ours / contest.rate(f'assisted k={k}'):.2f} x assisted generate, "
            f"{ours / contest.rate('ours k=0'):.2f} x our baseline"
        )


def report_costs(plan: Plan, seen: dict[str, list[Observation]]) -> None:
    """v(K) and c in units of a one-row step, from whole blocks."""
    base = [block for one in seen["baseline"] for block in one.blocks[1:]]
    step = sum(block.verify_s for block in base) / len(base)
    print(f"one-row step {1000 * step:.2f} ms")
    for arm in plan.speculative_arms:
        blocks = [
            block
            for one in seen[arm.name]
            for block in one.blocks[1:]
            if block.num_draft_tokens == arm.num_speculative_tokens
        ]
        drafts = sum(block.num_draft_tokens for block in blocks)
        accepted = sum(block.num_accepted_tokens for block in blocks)
        print(
            f"K={arm.num_speculative_tokens}: "
            f"v {sum(block.verify_s for block in blocks) / len(blocks) / step:.2f}, "
            f"c {sum(block.draft_s for block in blocks) / drafts / step:.3f}, "
            f"accepted {accepted / drafts:.3f}"
        )


def report_overhead(plan: Plan, engine: TransformersEngine, contexts: list[list[int]]) -> None:
    """Share of decode time outside model forwards, prefills excluded."""
    models = [engine._target.model, *(one.model for one in engine._drafts.values())]  # noqa: SLF001
    timers = [ForwardTimer(model) for model in models]
    for arm in plan.arms:
        decode_s = forward_s = 0.0
        for ids in contexts:
            if len(ids) <= MOST_ROWS:
                continue
            for timer in timers:
                timer.seconds = 0.0
            decode_s += engine.observe(ids, arm, plan.settings_for(AskedSampling())).decode_s
            forward_s += sum(timer.seconds for timer in timers)
        print(f"{arm.name:14} outside forwards: {1 - forward_s / decode_s:.1%} of decode time")


if __name__ == "__main__":
    main()
