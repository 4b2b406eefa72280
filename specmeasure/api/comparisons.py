"""Recorded runs beside each other: the best of their candidates, or what changed since one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from specmeasure.api.reports import Report, conclude
from specmeasure.api.sequential import read_at_last_look
from specmeasure.brief.joined import published_speedup
from specmeasure.decide import RANK
from specmeasure.errors import UsageError
from specmeasure.estimate.comparison import (
    Entrant,
    compare,
    compare_all,
    enter,
    find_leaders,
    pareto_front,
)
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.regression import ArmPair, judge_drop, match_arms
from specmeasure.estimate.shared_prompts import Run, SharedRun, share_prompts
from specmeasure.records.comparison import ArmChange, Candidate, Comparison, Regression
from specmeasure.records.decision import Verdict
from specmeasure.records.estimates import ArmEstimates, Interval
from specmeasure.records.plan import Arm
from specmeasure.records.trace import Manifest
from specmeasure.trace import store

INTERVALS = Intervals()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonReport:
    """Candidates compared, and the runs that they come from."""

    comparison: Comparison
    reports: tuple[Report, ...]  # on the common prompts, in the comparison's order of runs

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        return tuple(report.trace.manifest for report in self.reports)

    @property
    def winner(self) -> ArmEstimates:
        """The winner's estimates in its own run."""
        best = self.comparison.winner
        runs = [run.name for run in self.comparison.runs]
        arms = self.reports[runs.index(best.run)].estimates.arms
        return next(arm for arm in arms if arm.name == best.arm)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionReport:
    """What changed since an old run, and both runs on their common prompts."""

    regression: Regression
    new: Report
    old: Report

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        return self.new.trace.manifest, self.old.trace.manifest


def compare_runs(folders: Sequence[Path]) -> ComparisonReport:
    """Every speculative arm of these runs against every other, on their common prompts.

    Raises:
        UsageError: fewer than two candidates, or runs that decode differently.
        UnpairedPrompts: no prompt is in all the runs.
        UnreadableTrace: a folder without a readable run.
    """
    return compare_recorded(read_runs(folders))


def compare_recorded(runs: Sequence[Run]) -> ComparisonReport:
    """As ``compare_runs``, of runs that were read before."""
    sides = _conclude(runs)
    candidates = _ranked(sides)
    if len(candidates) < 2:
        raise UsageError(
            f"{', '.join(run.name for run in runs)}: one speculative arm, and nothing to compare "
            "it with. Name another run, or record several arms with --k or --draft."
        )
    by_run = {side.shared.facts.name: side for side in sides}
    entrants = [by_run[one.run].enter(one.name, one.arm) for one in candidates]
    return ComparisonReport(
        comparison=Comparison(
            runs=tuple(side.shared.facts for side in sides),
            candidates=candidates,
            differences=compare_all(entrants, INTERVALS),
            leaders=find_leaders(entrants, sides[0].shared.baseline_trials, INTERVALS),
        ),
        reports=tuple(side.report for side in sides),
    )


def compare_to_baseline(
    folder: Path, baseline: Path, *, fail_if_lower: float | None = None
) -> RegressionReport:
    """What changed since an old run, arm by arm, and whether acceptance fell by too much.

    Args:
        folder: of the new run.
        baseline: of the old run.
        fail_if_lower: drop of the acceptance rate that is tolerated, 0.02 for 2 points; None: any.

    Raises:
        UsageError: as ``compare_runs``, or no arm has a partner.
    """
    if fail_if_lower is not None and not 0 <= fail_if_lower < 1:
        raise UsageError(f"--fail-if-lower {fail_if_lower:g}: use a share; 0.02 is 2 points.")
    new, old = _conclude(read_runs([folder, baseline]))
    pairs = match_arms(new.report.trace.manifest, old.report.trace.manifest)
    look = INTERVALS.corrected(len(pairs))
    return RegressionReport(
        regression=Regression(
            new=new.shared.facts,
            old=old.shared.facts,
            fail_if_lower=fail_if_lower,
            changes=tuple(_change(pair, new, old, look, fail_if_lower) for pair in pairs),
            only_new=new.arms_beside([pair.new for pair in pairs]),
            only_old=old.arms_beside([pair.old for pair in pairs]),
        ),
        new=new.report,
        old=old.report,
    )


def comparison_as_json(report: ComparisonReport | RegressionReport) -> str:
    """The outcome, and everything behind it, as one document."""
    return _document(report).decode()


def write_comparison(report: ComparisonReport | RegressionReport, folder: Path) -> Path:
    """Write the page, its figure and its numbers into a folder; returns the page's path.

    A comparison is compare.md, compare.json and pareto.svg, a regression regression.md and
    regression.json.
    """
    from specmeasure.brief.comparison import comparison_content
    from specmeasure.brief.pareto import pareto_figure
    from specmeasure.brief.regression import regression_content
    from specmeasure.brief.side_by_side import render_comparison, render_regression

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(report, RegressionReport):
        checked = regression_content(report.regression, report.manifests)
        page, stem = render_regression(checked), "regression"
    else:
        picture = pareto_figure(report.comparison)
        figures = {} if picture is None else {"pareto": "pareto.svg"}
        if picture is not None:
            (folder / figures["pareto"]).write_bytes(picture)
        content = comparison_content(report.comparison, report.manifests, report.winner.costs)
        page, stem = render_comparison(content, figures=figures), "compare"
    (folder / f"{stem}.json").write_bytes(_document(report))
    path = folder / f"{stem}.md"
    path.write_text(page, encoding="utf-8")
    return path


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Recorded runs, each under a name of its own.

    Raises:
        UsageError: one of them is on servers.
    """
    runs = [
        Run(name=name, trace=store.read_trace(folder))
        for name, folder in zip(run_names(folders), folders, strict=True)
    ]
    for run in runs:
        if run.trace.manifest.plan.serving:
            raise UsageError(
                f"{run.name}: a run on servers; compare takes runs in process. Put several drafts "
                "or Ks into one run on servers instead: their load curves stand side by side."
            )
    return runs


def run_names(folders: Sequence[Path]) -> list[str]:
    """As much of each folder's path as tells it from the others; a folder given twice is numbered.

    >>> run_names([Path("/new/a"), Path("/old/a"), Path("/old/a")])
    ['new/a', 'old/a', 'old/a (2)']
    """
    paths = [folder.resolve() for folder in folders]
    depth = next(
        depth for depth in count(1) if len({p.parts[-depth:] for p in paths}) == len(set(paths))
    )
    names = ["/".join(path.parts[-depth:]) for path in paths]
    uses = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [f"{name} ({use})" if use > 1 else name for name, use in zip(names, uses, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """A run on the common prompts, read to its conclusion."""

    shared: SharedRun
    report: Report

    def verdict(self, arm: str) -> Verdict:
        return next(one.verdict for one in self.report.decision.arms if one.arm == arm)

    def enter(self, name: str, arm: str) -> Entrant:
        arms = {one.name: one for one in self.report.trace.manifest.plan.arms}
        return enter(name, self.shared.run, arms[arm])

    def arms_beside(self, paired: Sequence[Arm]) -> tuple[str, ...]:
        arms = self.report.trace.manifest.plan.speculative_arms
        return tuple(arm.name for arm in arms if arm not in paired)


def _conclude(runs: Sequence[Run]) -> list[_Side]:
    """Each run on the common prompts, at the level of the look at which it may be read."""
    readings = [read_at_last_look(run.trace) for run in runs]
    shared = share_prompts(
        [replace(run, trace=found.trace) for run, found in zip(runs, readings, strict=True)]
    )
    return [
        _Side(shared=one, report=conclude(one.run.trace, level=found.level))
        for one, found in zip(shared, readings, strict=True)
    ]


def _ranked(sides: Sequence[_Side]) -> tuple[Candidate, ...]:
    """By verdict, then by speedup."""
    uses = Counter(arm.name for side in sides for arm in side.report.estimates.arms)
    found = [
        _candidate(arm, side, has_namesake=uses[arm.name] > 1)
        for side in sides
        for arm in side.report.estimates.arms
    ]
    found.sort(key=lambda one: (RANK[one.verdict], -_speed(one)))
    places = {
        one.name: (_speed(one), one.extra_memory_bytes)
        for one in found
        if isinstance(one.decode_speedup, Interval) and one.extra_memory_bytes is not None
    }
    front = pareto_front(places)
    return tuple(
        replace(one, on_front=one.name in front if one.name in places else None) for one in found
    )


def _candidate(arm: ArmEstimates, side: _Side, *, has_namesake: bool) -> Candidate:
    run = side.shared.facts.name
    return Candidate(
        name=f"{arm.name} ({run})" if has_namesake else arm.name,
        run=run,
        arm=arm.name,
        verdict=side.verdict(arm.name),
        decode_speedup=published_speedup(arm),
        draft_acceptance_rate=arm.draft_acceptance_rate,
        mean_acceptance_length=arm.mean_acceptance_length,
        tokens_per_target_pass=arm.tokens_per_target_pass,
        extra_memory_bytes=arm.extra_memory_bytes,
        on_front=None,
    )


def _speed(one: Candidate) -> float:
    return one.decode_speedup.value if isinstance(one.decode_speedup, Interval) else 0.0


def _change(
    pair: ArmPair, new: _Side, old: _Side, look: Intervals, fail_if_lower: float | None
) -> ArmChange:
    ours, theirs = new.enter(pair.new.name, pair.new.name), old.enter(pair.old.name, pair.old.name)
    difference = compare(ours, theirs, look)
    return ArmChange(
        arm=pair.new.name,
        old_arm=pair.old.name,
        difference=difference,
        verdict=new.verdict(pair.new.name),
        old_verdict=old.verdict(pair.old.name),
        outcome=(
            None if fail_if_lower is None else judge_drop(difference.acceptance, fail_if_lower)
        ),
    )


def _document(report: ComparisonReport | RegressionReport) -> bytes:
    if isinstance(report, RegressionReport):
        return store.plain({"outcome": report.regression.outcome, "regression": report.regression})
    found = report.comparison
    return store.plain(
        {
            "winner": found.winner.name,
            "indistinguishable": found.indistinguishable,
            "comparison": found,
        }
    )
