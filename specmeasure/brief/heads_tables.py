"""The tables of heads and of their trees, as rows of finished strings."""

from collections.abc import Iterable, Sequence

from specmeasure.brief.names import plain
from specmeasure.brief.numbers import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    TIMES,
    byte_size,
    count,
    quantity,
    rate,
    share,
    speedup,
)
from specmeasure.brief.replay_tables import acceptance_needed, error_in_percent, predicted_speedup
from specmeasure.brief.slices import SliceTable
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import Interval
from specmeasure.records.heads import (
    HeadAccuracy,
    HeadsProfile,
    RoundSpread,
    SizedTree,
    SliceAccuracy,
    TreeAgreement,
    TreeStudy,
    TreeValue,
)
from specmeasure.records.tree import TokenTree

SHOWN_CHOICES = (1, 2, 3, 5, 10)
_MOST_SLICES = 20


def accuracy_table(heads: Sequence[HeadAccuracy], notes: Footnotes) -> Table:
    """A row for each head: how often the token to come is among its likeliest."""
    columns = ("Head", "Tokens ahead", "Judged places", *(f"Top-{k}" for k in SHOWN_CHOICES))
    return Table(
        columns=columns,
        rows=tuple(
            (
                str(one.head),
                str(one.head + 1),
                count(one.num_places),
                *(notes.cell(rate, one.top[k - 1]) for k in SHOWN_CHOICES),
            )
            for one in heads
        ),
    )


def slice_tables(slices: Sequence[SliceAccuracy], notes: Footnotes) -> tuple[SliceTable, ...]:
    """Every head's likeliest token by slice, a table each axis; the largest slices are kept."""
    tables = []
    for axis in dict.fromkeys(part.axis for part in slices):
        parts = [part for part in slices if part.axis == axis]
        largest = sorted(parts, key=lambda part: -part.num_prompts)[:_MOST_SLICES]
        lost = len(parts) - len(largest)
        tables.append(
            SliceTable(
                axis=plain(axis),
                table=_slice_table(axis, [part for part in parts if part in largest], notes),
                left_out=f"And {count(lost, 'smaller slice')} by {plain(axis)}." if lost else None,
            )
        )
    return tuple(tables)


def price_table(profile: HeadsProfile) -> Table:
    """What the heads weigh and what all of them take once."""
    memory = profile.memory
    return Table(
        columns=("Heads", "Parameters", "Weights", "Share of the target", "One pass of all heads"),
        rows=(
            (
                str(len(profile.accuracy)),
                NOT_MEASURED if memory.num_parameters is None else count(memory.num_parameters),
                byte_size(memory.num_bytes),
                share(memory.share),
                f"{rounds(profile.pass_ratio)} plain steps",
            ),
        ),
    )


def chain_table(profile: HeadsProfile, notes: Footnotes) -> Table:
    """The heads' drafts as a chain, at every K."""
    columns = (
        "K",
        "τ: you have",
        "you need",
        "Drafts accepted: you have",
        "you need",
        "Tokens per target pass",
        "Predicted speedup",
    )
    return Table(
        columns=columns,
        rows=tuple(
            (
                str(one.num_speculative_tokens),
                notes.cell(quantity, one.mean_acceptance_length),
                NOT_APPLICABLE if one.break_even_length is None else f"{one.break_even_length:.2f}",
                notes.cell(rate, one.draft_acceptance_rate),
                acceptance_needed(one),
                notes.cell(quantity, one.tokens_per_target_pass),
                predicted_speedup(one, notes),
            )
            for one in profile.chain.lengths
        ),
    )


def size_table(sizes: Sequence[SizedTree], notes: Footnotes) -> Table:
    """The best tree of every size, in-sample and cross-fitted, and what products would say."""
    columns = (
        "Nodes",
        "Depth",
        "τ",
        "τ cross-fitted",
        "Nodes that both halves chose",
        "τ by products",
        "τ of the products' tree",
        "Predicted speedup",
        "Cross-fitted",
    )
    return Table(
        columns=columns,
        rows=tuple(
            (
                str(one.num_nodes),
                str(one.best.tree.depth),
                notes.cell(quantity, one.best.mean_acceptance_length),
                notes.cell(quantity, one.cross_fitted_length),
                str(one.num_shared_nodes),
                f"{one.best.product_length:.2f}",
                notes.cell(quantity, one.by_products.mean_acceptance_length),
                tree_speed(one.best, notes),
                notes.cell(speedup, one.cross_fitted_speedup),
            )
            for one in sizes
        ),
    )


def comparison_table(study: TreeStudy, notes: Footnotes) -> Table:
    """The fastest tree, the paper's and every chain, fastest first; untimed ones by passes."""
    columns = (
        "Tree",
        "Nodes",
        "Depth",
        "τ",
        "Tokens per target pass",
        "Target passes",
        "Predicted speedup",
    )
    values = sorted(compared(study), key=lambda one: (-(one.speedup or 0.0), one.num_passes))
    return Table(
        columns=columns,
        rows=tuple(
            (
                plain(one.name),
                str(one.tree.num_nodes),
                str(one.tree.depth),
                notes.cell(quantity, one.mean_acceptance_length),
                notes.cell(quantity, one.tokens_per_target_pass),
                count(one.num_passes),
                tree_speed(one, notes),
            )
            for one in values
        ),
    )


def compared(study: TreeStudy) -> list[TreeValue]:
    """The tree to run (or all, where none was timed), the paper's, and chains."""
    best = study.best
    trees = [one.best for one in study.sizes] if best is None else [best.best]
    return [*trees, *([] if study.paper is None else [study.paper]), *study.chains]


def depth_table(tree: TokenTree) -> Table:
    """How many nodes stand at every depth, and how many choices of a head they use."""
    rows = []
    for depth in range(1, tree.depth + 1):
        paths = [path for path in tree.paths if len(path) == depth]
        rows.append((str(depth), str(len(paths)), str(1 + max(path[-1] for path in paths))))
    return Table(columns=("Head", "Nodes", "Choices used"), rows=tuple(rows))


def tree_agreement_table(agreements: Sequence[TreeAgreement], notes: Footnotes) -> Table:
    """Predicted beside measured, a row each arm that was run for real."""
    columns = (
        "Arm",
        "Passes predicted",
        "measured",
        "Exactly equal",
        "τ predicted",
        "measured",
        "Speedup predicted",
        "measured",
        "Error",
    )
    return Table(
        columns=columns,
        rows=tuple(
            (
                plain(one.arm),
                count(one.num_predicted_passes),
                count(one.num_measured_passes),
                NOT_APPLICABLE
                if not one.num_same_answers
                else f"{count(one.num_equal_counts)} of {count(one.num_same_answers, 'answer')}",
                notes.cell(quantity, one.predicted_length),
                notes.cell(quantity, one.measured_length),
                notes.cell(speedup, one.predicted_speedup),
                notes.cell(speedup, one.measured_speedup),
                error_in_percent(one.speedup_error),
            )
            for one in agreements
        ),
    )


def tree_speed(one: TreeValue, notes: Footnotes) -> str:
    """With its interval; where prompts are too few for one, the number with a footnote."""
    return notes.cell(lambda _: speed_of(one), one.decode_speedup)


def speed_of(one: TreeValue) -> str:
    """The same inside a sentence, which has no footnotes."""
    if isinstance(one.decode_speedup, Interval):
        return speedup(one.decode_speedup)
    return NOT_MEASURED if one.speedup is None else f"{one.speedup:.2f}{TIMES} without interval"


def rounds(spread: RoundSpread) -> str:
    """A ratio with the least and the greatest of its rounds.

    >>> rounds(RoundSpread(value=0.0312, low=0.0294, high=0.0351, num_rounds=9))
    '0.031 (0.029 to 0.035 over 9 rounds)'
    """
    if spread.num_rounds == 1:
        return f"{spread.value:.3f} (1 round)"
    return (
        f"{spread.value:.3f} ({spread.low:.3f} to {spread.high:.3f} over "
        f"{count(spread.num_rounds, 'round')})"
    )


def _slice_table(axis: str, parts: Iterable[SliceAccuracy], notes: Footnotes) -> Table:
    shown = list(parts)
    heads = shown[0].heads if shown else ()
    return Table(
        columns=(
            plain(axis).capitalize(),
            "Prompts",
            *(f"Head {one.head}, top-1" for one in heads),
            *(["Head 1, top-10"] if heads else []),
        ),
        rows=tuple(
            (
                plain(part.name),
                count(part.num_prompts),
                *(notes.cell(rate, one.top[0]) for one in part.heads),
                *(notes.cell(rate, one.top[-1]) for one in part.heads[:1]),
            )
            for part in shown
        ),
    )
