"""A fixed run whose brief is kept: 40 prompts of three kinds, two arms, no model."""

from dataclasses import replace
from functools import cache

from specmeasure import api
from specmeasure.records.corpus import Dropped, SourceFile
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
from specmeasure.records.trace import Trace
from tests.brief.examples import Records
from tests.fakes import (
    DRAFT_4,
    NGRAM_4,
    FakeEngine,
    make_plan,
    make_prompts,
    recorded_trace,
)


@cache
def golden_records() -> Records:
    """Estimated and decided."""
    report = api.conclude(golden_trace())
    return report.trace.manifest, report.estimates, report.decision


def golden_trace() -> Trace:
    """The same trials in every process."""
    plan = make_plan(BASELINE, DRAFT_4, NGRAM_4, BASELINE_AGAIN, num_repeats=2)
    prompts = make_prompts(40, categories=["chat", "code", "sums"])
    trace = recorded_trace(FakeEngine(plan=plan, seed=8), prompts)
    corpus = replace(
        trace.manifest.corpus,
        files=(SourceFile(path="prompts.jsonl", format="jsonl", num_rows=43, num_prompts=40),),
        dropped=(Dropped(reason="empty prompt", num_rows=3, places=("prompts.jsonl:7",)),),
    )
    argv = ("specmeasure", "run", "prompts.jsonl", "--target", "target", "--draft", "draft")
    return replace(trace, manifest=replace(trace.manifest, corpus=corpus, argv=argv))
