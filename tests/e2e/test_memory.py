"""Memory stays where it is while trials go by."""

import os
from pathlib import Path

import psutil
import pytest

from specmeasure import api, demo
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.plan import ModelOptions, Plan

MIB = 2**20


@pytest.mark.slow
def test_500_trials_need_no_more_memory_than_20(tmp_path: Path):
    """At most 15 MB more resident memory after trial 500 than after trial 20.

    Caches of 12 tokens and a prompt, were they kept, would come to twice that.
    """
    prompts = tmp_path / "many.txt"
    prompts.write_text("\n".join(f"def function_{n}(value):" for n in range(260)))
    plan = Plan(
        target=demo.DRAFT_LARGE,
        arms=api.plan_arms(api.Drafters(drafts=[demo.DRAFT]), lengths=[4])[:-1],
        max_new_tokens=12,
        options=ModelOptions(device="cpu", num_threads=1),
    )
    resident: list[int] = []
    process = psutil.Process(os.getpid())
    api.start(
        api.Request(plan=plan, sources=(str(prompts),), options=CorpusOptions()),
        tmp_path / "run",
        watchers=api.Watchers(trial=lambda: resident.append(process.memory_info().rss)),
    )
    growth = (resident[499] - resident[19]) / MIB

    assert growth <= 15, f"{growth:.1f} MiB more"
