"""Medusa heads on a workload: what they know and take, from one pass along its answers.

    trace = start_profile(ReplayRequest(request=Request(plan=plan, sources=("prompts/",))), folder)
    write_profile(conclude_profile(trace), folder)

A profile is a replay whose candidates are heads; its folder is a replay's. ``head_trees`` reads
it to trees.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specmeasure.api import replays
from specmeasure.api.head_trees import STANDARD, tree_files
from specmeasure.errors import InsufficientEvidence, UsageError
from specmeasure.estimate.head_profile import profile_heads
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.estimate.tree_choice import study_trees
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.heads import HeadsProfile, TreeStudy
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import ReplayRequest, ReplayTrace
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace import store

if TYPE_CHECKING:
    from specmeasure.brief.heads import HeadsContent

PROFILE_PAGE, PROFILE_FILE = "heads.md", "heads.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileReport:
    """One profile, read to its conclusion."""

    trace: ReplayTrace
    predictions: Predictions
    profiles: tuple[HeadsProfile, ...]
    studies: tuple[TreeStudy | Unmeasured, ...]  # of the same heads


def start_profile(
    request: ReplayRequest,
    folder: Path,
    *,
    replace_profile: bool = False,
    watchers: Watchers = SILENT,
) -> ReplayTrace:
    """Record what heads know of the target's answers, and what they take.

    Raises:
        SpecmeasureError: no heads among the candidates, bad input, models, or an interruption.
    """
    arms = request.request.plan.speculative_arms
    if not arms or any(arm.heads is None for arm in arms):
        raise UsageError("a profile is of heads: name them with --medusa.")
    trace = replays.start_replay(request, folder, replace_replay=replace_profile, watchers=watchers)
    for path in [folder / PROFILE_PAGE, folder / PROFILE_FILE, *tree_files(folder)]:
        path.unlink(missing_ok=True)  # an old report does not speak for a new profile
    return trace


def conclude_profile(trace: ReplayTrace, *, seed: int = 0) -> ProfileReport:
    """Accuracies, price and chains; beside them the trees of the standard sizes.

    Raises:
        InsufficientEvidence: a replay without heads, or without an answer to look at.
    """
    intervals = Intervals(seed=seed)
    predictions = predict(trace, intervals, seed=seed)
    profiles = profile_heads(trace, intervals, predictions=predictions)
    return ProfileReport(
        trace=trace,
        predictions=predictions,
        profiles=profiles,
        studies=tuple(_study(trace, one.name, intervals, seed=seed) for one in profiles),
    )


def write_profile(report: ProfileReport, folder: Path) -> Path:
    """Write heads.md, heads.json and a figure of each set of heads; returns the page's path."""
    from specmeasure.brief.heads import render_heads
    from specmeasure.brief.heads_figures import accuracy_figure

    figures = {}
    for number, one in enumerate(report.profiles, start=1):
        picture = accuracy_figure(one)
        if picture is not None:
            suffix = "" if number == 1 else f"-{number}"
            figures[one.name] = f"accuracy{suffix}.svg"
            (folder / figures[one.name]).write_bytes(picture.svg)
    (folder / PROFILE_FILE).write_bytes(profile_as_json(report).encode())
    page = folder / PROFILE_PAGE
    page.write_text(render_heads(profile_content(report), figures=figures), encoding="utf-8")
    return page


def profile_content(report: ProfileReport) -> "HeadsContent":
    """Everything that the page and the terminal say of a profile."""
    from specmeasure.brief.heads import ProfiledHeads, heads_content

    heads = [
        ProfiledHeads(profile=profile, trees=study)
        for profile, study in zip(report.profiles, report.studies, strict=True)
    ]
    return heads_content(report.trace, report.predictions, heads)


def profile_as_json(report: ProfileReport) -> str:
    """Profiles and the trees beside them, as one document."""
    return store.plain({"heads": report.profiles, "trees": report.studies}).decode()


def _study(
    trace: ReplayTrace, name: str, intervals: Intervals, *, seed: int
) -> TreeStudy | Unmeasured:
    try:
        return study_trees(trace, name, STANDARD, intervals, seed=seed)
    except InsufficientEvidence as lacking:
        return Unmeasured(reason=str(lacking))
