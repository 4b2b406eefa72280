"""Tokens per second of batched answers against one by one, interleaved, on the embedded target.

    python benchmarks/batch.py [--batch 16] [--prompts 96] [--rounds 3] [--temperature 0]

One by one is the baseline arm's loop. Every round answers the same prompts both ways; the figure is
the ratio of tokens per second over all rounds.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from specmeasure import demo
from specmeasure.corpus import load_corpus
from specmeasure.engines.replay import Asked, ReplayEngine
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.plan import (
    BASELINE,
    DecodeSettings,
    ModelOptions,
    Plan,
    Sampling,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=0.0)
    options = parser.parse_args()
    plan = Plan(target=demo.TARGET, arms=(BASELINE,), options=ModelOptions(num_threads=1))
    engine = ReplayEngine.load(plan)
    single = TransformersEngine.load(plan, loaded=engine.loaded)
    prompts = load_corpus(["prompts/"], CorpusOptions(limit=options.prompts)).prompts
    settings = DecodeSettings(sampling=Sampling(temperature=options.temperature))
    contexts = [engine.context_ids(prompt, []) for prompt in prompts]
    tokens, seconds = [0, 0], [0.0, 0.0]
    for _ in range(options.rounds):
        started = time.perf_counter()
        for ids in contexts:
            tokens[0] += len(single.observe(ids, BASELINE, settings).token_ids)
        seconds[0] += time.perf_counter() - started
        asked = [
            Asked(context_ids=ids, settings=settings, seed=place)
            for place, ids in enumerate(contexts)
        ]
        started = time.perf_counter()
        for _, generated in engine.answer(asked, batch_size=options.batch):
            tokens[1] += len(generated.token_ids)
        seconds[1] += time.perf_counter() - started
    one, many = (count / spent for count, spent in zip(tokens, seconds, strict=True))
    print(
        f"{len(contexts)} prompts, {options.rounds} rounds: {one:.0f} tokens/s one by one, "
        f"{many:.0f} in batches of {options.batch}, {many / one:.2f} times"
    )


if __name__ == "__main__":
    main()
