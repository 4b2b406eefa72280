"""Trees of drafts for a workload, made of a profile's ranks, and the best of them run for real.

report = conclude_trees(read_replay(folder), folder)
write_trees(confirm_trees(report, folder), folder)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from specmeasure.api import reports, runs
from specmeasure.api.arms import between_baselines
from specmeasure.api.beginnings import refuse_other_machine
from specmeasure.api.replays import CONFIRMED
from specmeasure.api.texts import detokeniser
from specmeasure.api.trees import write_tree
from specmeasure.errors import InsufficientEvidence, UsageError
from specmeasure.estimate.head_profile import heads_arms
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.tree_agreement import find_tree_agreement
from specmeasure.estimate.tree_choice import TreeQuestion, study_trees, value_arms
from specmeasure.records.heads import SizedTree, TreeAgreement, TreeStudy
from specmeasure.records.medusa_tree import PAPER_TREE
from specmeasure.records.plan import Arm
from specmeasure.records.replay import ReplayTrace
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace import store

if TYPE_CHECKING:
    from specmeasure.brief.heads_trees import TreesContent

TREE_PAGE, TREES_FILE, TREES_FIGURE = "tree.md", "trees.json", "trees.svg"
STANDARD = TreeQuestion(paper=PAPER_TREE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreesReport:
    """Trees of one set of heads, and what became of those that were run for real."""

    trace: ReplayTrace
    heads: str  # folder or hub id
    study: TreeStudy
    agreements: tuple[TreeAgreement, ...]


def read_heads(trace: ReplayTrace, name: str | None = None) -> Arm:
    """The candidate of heads that trees are made of.

    Args:
        trace: a profile, or any replay with heads.
        name: the candidate's, or its heads' as they were given; None: there is one alone.

    Raises:
        InsufficientEvidence: no heads were recorded.
        UsageError: several, and none is named; or none of that name.
    """
    arms = heads_arms(trace)
    if not arms:
        raise InsufficientEvidence(
            "this replay has no heads among its candidates, so that there are no ranks to make "
            "trees of. Record some with specmeasure heads profile."
        )
    named = [arm for arm in arms if name in (None, arm.name, arm.heads)]
    if len(named) == 1:
        return named[0]
    known = ", ".join(arm.name for arm in arms)
    raise UsageError(
        f"--medusa {name}: no such heads; recorded are: {known}."
        if name is not None
        else f"several heads were recorded: {known}. Name one with --medusa."
    )


def conclude_trees(
    trace: ReplayTrace,
    folder: Path | None = None,
    question: TreeQuestion = STANDARD,
    *,
    heads: str | None = None,
    seed: int = 0,
) -> TreesReport:
    """Study trees, and read the real run in ``folder`` where it is finished.

    Args:
        trace: the profile.
        folder: of the profile; None looks at no real run.
        question: which trees.
        heads: name of the candidate, where there are several.
        seed: of the halves.

    Raises:
        InsufficientEvidence: nothing greedy was recorded, or no heads.
        UsageError: heads that are not told apart.
    """
    intervals, arm = Intervals(seed=seed), read_heads(trace, heads)
    study = study_trees(trace, arm.name, question, intervals, seed=seed)
    confirmed = None if folder is None else folder / CONFIRMED
    agreements: tuple[TreeAgreement, ...] = ()
    if confirmed is not None and store.is_sealed(confirmed):
        agreements = _agreements(
            trace, arm, reports.conclude(store.read_trace(confirmed)), intervals
        )
    return TreesReport(trace=trace, heads=arm.heads or arm.name, study=study, agreements=agreements)


def confirm_trees(report: TreesReport, folder: Path, *, watchers: Watchers = SILENT) -> TreesReport:
    """Run the chosen tree and the best chain for real on the profile's prompts, then read it.

    What is there already is gone on with; a finished run of these arms is read as it is.

    Raises:
        UsageError: no tree was timed, the prompts came from stdin, this is another machine, or
            other arms were run there.
        SpecmeasureError: whatever a run raises.
    """
    trace, confirmed = report.trace, folder / CONFIRMED
    arms = between_baselines(_chosen_arms(report))
    begun = (confirmed / store.MANIFEST).is_file()
    if begun:
        _refuse_other_arms(confirmed, arms)
    if not store.is_sealed(confirmed):
        refuse_other_machine(trace.manifest.environment, folder)
        if begun:
            runs.resume(confirmed, watchers=watchers)
        else:
            _run(trace, arms, confirmed, watchers)
    run = reports.conclude(store.read_trace(confirmed))
    reports.write_report(run, confirmed, detokenise=detokeniser(run.trace))
    arm, intervals = read_heads(trace, report.study.candidate), Intervals(seed=report.study.seed)
    return replace(report, agreements=_agreements(trace, arm, run, intervals))


def write_trees(report: TreesReport, folder: Path, *, write: Path | None = None) -> Path:
    """Write tree.md, its figure, trees.json and a file for each size; returns the page's path.

    ``--tree`` takes any of these files; trees.json stands for the tree to run, as does ``write``.
    """
    from specmeasure.brief.heads_figures import trees_figure
    from specmeasure.brief.heads_trees import render_trees

    for path in tree_files(folder):
        path.unlink()
    for one in report.study.sizes:
        (folder / f"tree-{one.num_nodes}.json").write_text(write_tree(one.best.tree))
    (folder / TREES_FILE).write_bytes(trees_as_json(report).encode())
    if write is not None:
        write.write_text(write_tree(_shown(report.study).best.tree))
    picture = trees_figure(report.study, report.agreements)
    if picture is not None:
        (folder / TREES_FIGURE).write_bytes(picture.svg)
    page = folder / TREE_PAGE
    content = trees_content_of(report, folder)
    figures = {} if picture is None else {"trees": TREES_FIGURE}
    page.write_text(render_trees(content, figures=figures), encoding="utf-8")
    return page


def trees_content_of(report: TreesReport, folder: Path) -> "TreesContent":
    """Everything that the page and the terminal say of trees."""
    from specmeasure.brief.heads_trees import trees_content

    best = report.study.best
    return trees_content(
        report.trace,
        report.study,
        report.agreements,
        heads=report.heads,
        tree_file=None if best is None else str(folder / f"tree-{best.num_nodes}.json"),
    )


def trees_as_json(report: TreesReport) -> str:
    """The tree to run, the study and what real runs made of it, as one document."""
    return store.plain(
        {
            "paths": _shown(report.study).best.tree.paths,
            "study": report.study,
            "agreements": report.agreements,
        }
    ).decode()


def tree_files(folder: Path) -> list[Path]:
    """What an earlier study wrote."""
    names = (TREE_PAGE, TREES_FILE, TREES_FIGURE)
    return [
        *(path for name in names if (path := folder / name).is_file()),
        *sorted(folder.glob("tree-*.json")),
    ]


def _shown(study: TreeStudy) -> SizedTree:
    """The tree to run; where none was timed, the largest."""
    return study.best or study.sizes[-1]


def _chosen_arms(report: TreesReport) -> list[Arm]:
    arm, best = read_heads(report.trace, report.study.candidate), report.study.best
    if best is None:
        raise UsageError(
            "no tree was timed in this profile, so that none can be chosen by its speed. Record "
            "the profile again on a target whose cache can verify trees."
        )
    size = best.num_nodes
    tree = replace(
        arm,
        name=f"{arm.name} tree {size}",
        num_speculative_tokens=size,
        tree=best.best.tree,
    )
    return [tree, arm.at(report.study.best_chain.tree.num_nodes)]


def _run(trace: ReplayTrace, arms: Sequence[Arm], confirmed: Path, watchers: Watchers) -> None:
    request = trace.manifest.request.request
    if "-" in trace.manifest.corpus.sources:
        raise UsageError(
            "the profile's prompts came from stdin and cannot be read again: run the tree with "
            "specmeasure run --tree."
        )
    watchers.stage(f"running for real: {', '.join(arm.name for arm in arms[1:-1])}")
    plan = replace(request.plan, arms=tuple(arms))
    runs.start(
        replace(request, plan=plan, sources=trace.manifest.corpus.sources),
        confirmed,
        watchers=watchers,
    )


def _refuse_other_arms(confirmed: Path, arms: Sequence[Arm]) -> None:
    """A run of other trees is kept: whoever wants it replaced deletes it."""
    ran = store.read_manifest(confirmed).plan.arms
    if ran != tuple(arms):
        raise UsageError(
            f"{confirmed} holds a run of {', '.join(arm.name for arm in ran[1:-1])}, not of "
            f"{', '.join(arm.name for arm in arms[1:-1])}. Move it away to run these."
        )


def _agreements(
    trace: ReplayTrace, heads: Arm, run: reports.Report, intervals: Intervals
) -> tuple[TreeAgreement, ...]:
    """Of all arms of the run that draft with these heads, in its order."""
    measured = {one.name: one for one in run.estimates.arms}
    arms = [
        arm
        for arm in run.trace.manifest.plan.speculative_arms
        if arm.heads == heads.heads and arm.name in measured
    ]
    values = value_arms(trace, heads.name, arms, intervals, seed=intervals.seed)
    return tuple(
        find_tree_agreement(trace, heads.name, value, run.trace, measured[arm.name])
        for arm, value in zip(arms, values, strict=True)
    )
