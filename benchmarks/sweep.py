"""One replay against running every draft at every K: wall time on the embedded pair.

    python benchmarks/sweep.py [--most 16] [--subsample 8] [--limit 200] [PROMPTS ...]

Three candidates (two drafts and n-gram lookup) at K = 1 … 16 are replayed over all prompts. The
same 48 configurations, and a baseline, decode a subsample for real; their time per emitted token is
extrapolated to all answers. Models stay loaded for the real runs, so that only decoding counts.
"""

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

from specmeasure import demo
from specmeasure.api.arms import arms_at
from specmeasure.api.candidates import Drafters, NgramSizes, plan_candidates
from specmeasure.api.replays import start_replay
from specmeasure.corpus import load_corpus
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.plan import (
    BASELINE,
    DecodeSettings,
    ModelOptions,
    Plan,
)
from specmeasure.records.replay import ReplayRequest
from specmeasure.records.request import Request
from specmeasure.run.watch import Watchers

MAX_NEW_TOKENS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=["prompts/"])
    parser.add_argument("--most", type=int, default=16)
    parser.add_argument("--subsample", type=int, default=8)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    candidates = plan_candidates(
        Drafters(drafts=[demo.DRAFT, demo.DRAFT_LARGE], ngrams=[NgramSizes()]), most=options.most
    )
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE, *candidates),
        max_new_tokens=MAX_NEW_TOKENS,
        options=ModelOptions(num_threads=1),
    )
    corpus_options = CorpusOptions(limit=options.limit)
    request = Request(plan=plan, sources=tuple(options.sources), options=corpus_options)
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        watchers = Watchers(
            stage=lambda said: print(f"{time.perf_counter() - started:7.1f} s  {said}")
        )
        trace = start_replay(
            ReplayRequest(request=request), Path(folder) / "replay", watchers=watchers
        )
    replay_s = time.perf_counter() - started
    num_tokens = sum(answer.num_tokens for answer in trace.answers)
    print(f"replay: {replay_s:.1f} s for {len(trace.answers)} answers of {num_tokens} tokens")

    arms = arms_at(candidates, range(1, options.most + 1))[:-1]  # one baseline
    engine = TransformersEngine.load(Plan(target=demo.TARGET, arms=arms, options=plan.options))
    sampled = load_corpus(options.sources, CorpusOptions(limit=options.subsample)).prompts
    contexts = [engine.context_ids(prompt, []) for prompt in sampled]
    settings = DecodeSettings(max_new_tokens=MAX_NEW_TOKENS)
    started, num_emitted = time.perf_counter(), 0
    for ids in contexts:
        for arm in arms:
            num_emitted += len(engine.observe(ids, arm, settings).token_ids)
    real_s = time.perf_counter() - started
    whole_s = real_s / num_emitted * num_tokens * len(arms)
    print(
        f"{len(arms)} arms for real: {real_s:.1f} s for {num_emitted} tokens of {len(contexts)} "
        f"prompts; all {num_tokens} tokens of every arm: {whole_s:.0f} s, extrapolated; "
        f"{whole_s / replay_s:.1f} times the replay"
    )


if __name__ == "__main__":
    main()
