"""Profiles of heads and studies of trees as a terminal shows them."""

from rich.console import Group, RenderableType
from rich.text import Text

from specmeasure.brief.console import rich_table
from specmeasure.brief.heads import HeadsContent
from specmeasure.brief.heads_trees import TreesContent
from specmeasure.brief.replay_console import footnotes_in

_SIZES_WITHOUT = ("Nodes that both halves chose", "τ by products", "τ of the products' tree")
_ACCURACY_WITHOUT = ("Tokens ahead", "Top-2")  # so that 110 columns hold the rest
_CHAIN_WITHOUT = ("you need", "Tokens per target pass")


def heads_summary(content: HeadsContent) -> RenderableType:
    """The short form of a profile's page; fits in 110 columns, longer names fold."""
    parts: list[RenderableType] = []
    for one in content.parts:
        parts += [
            Text.assemble((one.name, "bold"), f": {one.headline}"),
            *map(Text, one.for_whom),
            rich_table(one.accuracy, title="How often heads are right", without=_ACCURACY_WITHOUT),
            rich_table(one.chain, title="As a chain", without=_CHAIN_WITHOUT),
            rich_table(one.price, title="Memory and price"),
        ]
    tables = [table for one in content.parts for table in (one.accuracy, one.chain)]
    dim = (content.costs_note, *footnotes_in(tables, content.footnotes))
    return Group(*parts, *(Text(line, style="dim") for line in dim))


def trees_summary(content: TreesContent) -> RenderableType:
    """The short form of a tree's page."""
    parts: list[RenderableType] = [
        Text(f"Trees of drafts: {content.headline}", style="bold"),
        *map(Text, content.notes),
        rich_table(content.sizes, title="Best tree of each size", without=_SIZES_WITHOUT),
        rich_table(content.comparison, title="Beside chains and the paper's tree"),
    ]
    if content.agreements.rows:
        parts.append(rich_table(content.agreements, title="Predicted against measured"))
        parts += map(Text, content.agreement_notes)
    tables = [content.sizes, content.comparison, content.agreements]
    dim = footnotes_in(tables, content.footnotes)
    return Group(*parts, *(Text(line, style="dim") for line in dim))
