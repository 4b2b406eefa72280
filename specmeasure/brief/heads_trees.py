"""What a study says of trees of drafts, as finished strings. Nothing is computed here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specmeasure.brief.heads_tables import (
    comparison_table,
    depth_table,
    size_table,
    speed_of,
    tree_agreement_table,
)
from specmeasure.brief.markdown import render_template
from specmeasure.brief.names import command_line, listed, plain
from specmeasure.brief.numbers import count, quantity, speedup
from specmeasure.brief.provenance import Fact
from specmeasure.brief.replay_evidence import write_facts
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import Interval, Unmeasured
from specmeasure.records.heads import SizedTree, TreeAgreement, TreeStudy, TreeValue
from specmeasure.records.replay import ReplayTrace
from specmeasure.records.tree import TokenTree

_MOST_NODES = 64  # that are written out on the page
_EXACT = (
    "Passes of greedy answers are counted, not estimated: a block keeps the longest path of the "
    "tree that is the ranks of the tokens to come. A real run that gives the same answers takes as "
    "many target passes."
)
_GROWTH = (
    "Trees grow by the places whose tokens have a node's very path of ranks, all places of one "
    "weight; “by products” multiplies the heads' accuracies instead, as the paper does (Cai et al. "
    "2024, arXiv:2401.10774)."
)
_CROSS_FITTED = (
    "Cross-fitted: each half of the prompts with the tree that the other half grew; the interval "
    "takes both choices as given."
)
_NO_BATCHES = (
    "“Predicted” covers decoding after the prefill at concurrency 1, in this project's loop; "
    "batched serving verifies at another price."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreesContent:
    """One study. Empty tables are for the renderer to leave out."""

    headline: str
    notes: tuple[str, ...]
    sizes: Table
    comparison: Table
    agreements: Table
    agreement_notes: tuple[str, ...]
    shape_title: str
    shape: Table
    nodes: str  # of the tree to run, as rows of ranks
    run: str  # the command that runs it; empty: its tree is in no file
    evidence: tuple[str, ...]
    footnotes: tuple[str, ...]
    provenance: tuple[Fact, ...]


def trees_content(
    trace: ReplayTrace,
    study: TreeStudy,
    agreements: Sequence[TreeAgreement] = (),
    *,
    heads: str,
    tree_file: str | None = None,
) -> TreesContent:
    """Everything that a study says.

    Args:
        trace: the profile.
        study: of one set of its heads.
        agreements: of arms that were run for real.
        heads: folder or hub id of the heads.
        tree_file: where the tree to run is written; None: nowhere.
    """
    notes = Footnotes()
    shown = study.best or study.sizes[-1]
    return TreesContent(
        headline=_headline(study),
        notes=(
            *_gain(study),
            *_alike(study),
            *_halves(study),
            *_largest(study),
            *_flattery(study.sizes),
        ),
        sizes=size_table(study.sizes, notes),
        comparison=comparison_table(study, notes),
        agreements=tree_agreement_table(agreements, notes),
        agreement_notes=tuple(line for one in agreements for line in _agreement_notes(one)),
        shape_title=shown.best.name,
        shape=depth_table(shown.best.tree),
        nodes=_nodes(shown.best.tree),
        run="" if tree_file is None else _command(trace, heads, tree_file),
        evidence=_evidence(study, trace),
        footnotes=notes.lines,
        provenance=write_facts(trace),
    )


def render_trees(content: TreesContent, *, figures: Mapping[str, str]) -> str:
    """The page; ``figures`` are paths as it should link them, by "trees"."""
    return render_template("tree.md.j2", trees=content, figures=figures)


def _headline(study: TreeStudy) -> str:
    tree, chain = study.best, study.best_chain
    if tree is None:
        largest = study.sizes[-1]
        length = largest.best.mean_acceptance_length
        said = quantity(length) if isinstance(length, Interval) else "without interval"
        return f"no tree was timed: a tree of {largest.num_nodes} nodes has τ {said}, no speed"
    told = [f"the best chain, of {chain.tree.num_nodes}, at {speed_of(chain)}"]
    if study.paper is not None:
        told.append(f"the paper's default tree at {speed_of(study.paper)}")
    return (
        f"a tree of {count(tree.num_nodes, 'node')} is predicted at {speed_of(tree.best)}; "
        f"{listed(told)}"
    )


def _gain(study: TreeStudy) -> list[str]:
    """Whether a tree beats the chain, by what was not flattered."""
    tree, chain, lead = study.best, study.best_chain, study.lead_over_chain
    if tree is None or tree.best.speedup is None or chain.speedup is None:
        return []
    if tree.best.speedup <= chain.speedup:
        return ["No tree is predicted faster than the best chain: run the chain."]
    fitted = study.cross_fitted_speedup
    if not (isinstance(fitted, Interval) and isinstance(lead, Interval)):
        return []
    said = (
        f"Tree and size chosen on one half of the prompts, valued on the other: {speedup(fitted)}"
    )
    if lead.low > 1:
        return [f"{said}, {speedup(lead)} the best chain's speed."]
    return [f"{said}, not told from the best chain: {speedup(lead)} its speed."]


def _alike(study: TreeStudy) -> list[str]:
    others = [size for size in study.indistinguishable if size != study.best_size]
    if study.best_size is None or len(study.sizes) == 1:
        return []
    if not others:
        return [f"{study.best_size} nodes are told apart from every other size."]
    told = listed([str(size) for size in sorted(study.indistinguishable)])
    return [f"Trees of {told} nodes are not told apart by predicted speed."]


def _halves(study: TreeStudy) -> list[str]:
    if study.chosen_by_half is None or len(set(study.chosen_by_half)) == 1:
        return []
    first, second = study.chosen_by_half
    return [f"Halves of the prompts choose {first} and {second} nodes."]


def _largest(study: TreeStudy) -> list[str]:
    """Where the search ended at its edge, or went beyond what was timed."""
    said = []
    if len(study.sizes) > 1 and study.best_size == study.sizes[-1].num_nodes:
        said.append("The fastest size is the largest looked at: ask for larger ones with --nodes.")
    most = max(study.timed_nodes, default=None)
    if most is not None and study.sizes[-1].num_nodes > most:
        said.append(
            f"Trees of more than {most} nodes were not timed: their cost goes on as before."
        )
    return said


def _flattery(sizes: Sequence[SizedTree]) -> list[str]:
    """What choosing on the prompts it is valued on adds to the largest tree's τ."""
    own, fitted = sizes[-1].best.mean_acceptance_length, sizes[-1].cross_fitted_length
    if not (isinstance(own, Interval) and isinstance(fitted, Interval)):
        return []
    gain = f"{own.value - fitted.value:+.2f}"
    size = count(sizes[-1].num_nodes, "node")
    return [f"Choosing the tree of {size} on the prompts it is valued on adds {gain} to its τ."]


def _agreement_notes(one: TreeAgreement) -> list[str]:
    said = []
    if one.unequal:
        said.append(f"{plain(one.arm)}: not equal are {'; '.join(map(plain, one.unequal))}.")
    if one.num_other_answers:
        others = count(one.num_other_answers, "greedy answer")
        said.append(
            f"{plain(one.arm)}: {others} came out with other tokens than the profile's "
            "(near-ties), so that passes cannot be compared."
        )
    return said


def _nodes(tree: TokenTree) -> str:
    """Paths of ranks, a row each depth; long trees are cut."""
    shown = tree.paths[:_MOST_NODES]
    rows = [
        " ".join("".join(map(str, path)) if max(path) < 10 else str(list(path)) for path in paths)
        for depth in range(1, tree.depth + 1)
        if (paths := [path for path in shown if len(path) == depth])
    ]
    return "\n".join(rows)


def _command(trace: ReplayTrace, heads: str, tree_file: str) -> str:
    request = trace.manifest.request.request
    named = ["--target", request.plan.target, "--medusa", heads, "--tree", tree_file]
    named += ["--max-new-tokens", str(request.plan.max_new_tokens)]
    if request.options.limit is not None:
        named += ["--limit", str(request.options.limit)]
    return command_line(("specmeasure", "run", *request.sources, *named))


def _evidence(study: TreeStudy, trace: ReplayTrace) -> tuple[str, ...]:
    answers = count(study.num_answers, "greedy answer")
    sample = f"{count(study.num_prompts, 'prompt')}, {answers}{_left_out(study)}."
    return (
        f"{sample} Each prompt is one cluster that is left out whole.",
        _EXACT,
        f"{_GROWTH} Up to a head's {study.max_rank} likeliest tokens.",
        f"{_CROSS_FITTED} Halves drawn with seed {study.seed}.",
        _costs(study, trace),
        _NO_BATCHES,
    )


def _left_out(study: TreeStudy) -> str:
    if not study.num_sampled_answers:
        return ""
    number = count(study.num_sampled_answers, "sampled answer")
    return f" ({number} left out: ranks say nothing exact of what is drawn)"


def _costs(study: TreeStudy, trace: ReplayTrace) -> str:
    value: TreeValue = study.sizes[0].best
    if isinstance(value.decode_speedup, Unmeasured) and value.speedup is None:
        return f"Speed is not predicted: {value.decode_speedup.reason}"
    sizes = listed([str(size) for size in study.timed_nodes], at_most=10)
    sure = (
        "the spread between rounds is part of every speedup's interval"
        if study.num_cost_rounds > 1
        else "the error of the costs is not known and in no interval"
    )
    return (
        f"Blocks of trees of {sizes} nodes were timed on {plain(trace.costs.machine)} in "
        f"{count(study.num_cost_rounds, 'round')}, each of one shape: {sure}. Between sizes lie "
        "straight lines."
    )
