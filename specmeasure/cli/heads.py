"""From parsed options to a profile of heads, to trees, and their results on the terminal."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from specmeasure import api, demo
from specmeasure.api import head_trees, replays
from specmeasure.api import heads as profiles
from specmeasure.api.trees import MOST_NODES
from specmeasure.brief.heads_console import heads_summary, trees_summary
from specmeasure.cli import running
from specmeasure.cli.progress import watched
from specmeasure.errors import UsageError
from specmeasure.estimate.tree_choice import TreeQuestion
from specmeasure.records.decision import Policy
from specmeasure.records.medusa_tree import PAPER_TREE
from specmeasure.records.plan import BASELINE
from specmeasure.records.replay import ReplayRequest, ReplayTrace
from specmeasure.records.request import Request

WITH_RESUME = {"resume", "prompts", "as_json", "quiet"}
_AGAIN = "heads profile"
_NOTHING_ELSE: dict[str, Any] = {  # ways to draft that a profile has no option for
    "draft": None,
    "early_exit": None,
    "ngram": False,
    "ngram_sizes": None,
    "ngram_pick": "earliest",
    "suffix": False,
    "past_outputs": None,
}


def profile(context: typer.Context) -> None:
    """Record or finish a profile, write its page, print the result."""
    asked = context.params
    if asked["resume"]:
        running.refuse_beside(context, "--resume", WITH_RESUME)
        folder: Path = asked["resume"]
        with watched(folder, quiet=asked["quiet"], command=_AGAIN) as watchers:
            trace = replays.resume_replay(folder, asked["prompts"] or (), watchers=watchers)
    else:
        folder, trace = _start(asked)
    report = profiles.conclude_profile(trace, seed=asked["seed"])
    page = profiles.write_profile(report, folder)
    if asked["as_json"]:
        print(profiles.profile_as_json(report))
    else:
        _show(heads_summary(profiles.profile_content(report)), page)


def tree(context: typer.Context, folder: Path) -> None:
    """Study a profile's trees, run the best for real where asked, write the page."""
    asked = context.params
    question = TreeQuestion(sizes=_sizes(asked["nodes"]), paper=PAPER_TREE)
    trace = replays.read_replay(folder)
    report = head_trees.conclude_trees(
        trace, folder, question, heads=asked["medusa"], seed=asked["seed"]
    )
    if asked["confirm"]:
        with watched(folder / replays.CONFIRMED, quiet=asked["quiet"]) as watchers:
            report = head_trees.confirm_trees(report, folder, watchers=watchers)
    page = head_trees.write_trees(report, folder, write=asked["write"])
    if asked["as_json"]:
        print(head_trees.trees_as_json(report))
    else:
        _show(trees_summary(head_trees.trees_content_of(report, folder)), page)


def _show(summary: Any, page: Path) -> None:
    console = running.wide_console()
    console.print(summary)
    console.print(f"Page: {page}", soft_wrap=True, highlight=False)


def _start(asked: dict[str, Any]) -> tuple[Path, ReplayTrace]:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - the user's own clock
    folder: Path = asked["out"] or Path("reports") / f"heads-{stamp}"
    with watched(folder, quiet=asked["quiet"], command=_AGAIN) as watchers:
        trace = profiles.start_profile(
            _request(asked, watchers),
            folder,
            replace_profile=asked["force"],
            watchers=watchers,
        )
    return folder, trace


def _request(asked: dict[str, Any], watchers: api.Watchers) -> ReplayRequest:
    if not asked["prompts"]:
        raise UsageError("no prompts: name files, folders or - for stdin (or --resume a profile).")
    target, medusa = asked["target"], asked["medusa"]
    if target is None:
        target, medusa = demo.TARGET, medusa or [demo.MEDUSA]
        watchers.stage("no --target: using the embedded pair")
    if not medusa:
        raise UsageError("no heads: name them with --medusa, a folder or a hub id.")
    named = {**_NOTHING_ELSE, **asked, "target": target, "medusa": medusa}
    plan = running.plan_for(named, watchers, lambda candidates: (BASELINE, *candidates))
    return ReplayRequest(
        request=Request(
            plan=plan,
            sources=tuple(asked["prompts"]),
            options=running.corpus_options(asked),
            policy=Policy(),
            argv=tuple(sys.argv),
        ),
        use_references=asked["responses"],
        batch_size=asked["batch_size"],
    )


def _sizes(text: str) -> tuple[int, ...]:
    """Rising numbers of nodes."""
    parts = text.split(",")
    if all(part.strip().isdecimal() for part in parts):
        sizes = tuple(int(part) for part in parts)
        if list(sizes) == sorted(set(sizes)) and sizes[0] >= 1 and sizes[-1] <= MOST_NODES:
            return sizes
    raise UsageError(
        f"--nodes {text}: use rising whole numbers from 1 to {MOST_NODES}, e.g. 8,16,32,64."
    )
