"""What a step costs on one machine: a small grid that predictions interpolate.

A table can be measured, or written by hand to ask what would happen elsewhere. The unit is seconds;
predictions of speedups need ratios only, so that any unit serves in a table written by hand.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftCosts:
    """One candidate's part of a block, beside the target's."""

    draft_s: tuple[tuple[float, ...], ...]  # [context][number of drafts], for all of them
    overhead_s: tuple[float, ...]  # [context], of the block, outside drafting and verifying
    # [context][rows] where the target verifies otherwise than for others: after an early exit
    verify_s: tuple[tuple[float, ...], ...] | None = None
    # [context][number of nodes] a whole block of a tree: drafting, verifying and the loop
    tree_s: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        grids = (self.draft_s, self.verify_s or (), self.tree_s or ())
        refuse_negative(*self.overhead_s, *(cell for grid in grids for row in grid for cell in row))


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRound:
    """The grid, timed once."""

    step_s: tuple[float, ...]  # [context], the plain loop's time per token
    verify_s: tuple[tuple[float, ...], ...]  # [context][rows], one target pass and its verdict
    drafts: dict[str, DraftCosts]  # by the candidate's name

    def __post_init__(self) -> None:
        refuse_negative(*self.step_s, *(cell for row in self.verify_s for cell in row))
        if not all(self.step_s):
            raise ValueError("a step takes no time")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """One machine's costs; several rounds show how sure they are."""

    machine: str
    context_lengths: tuple[int, ...]  # ascending: tokens before the block
    num_rows: tuple[int, ...]  # ascending from 1: tokens that one target pass verifies, K + 1
    num_drafts: tuple[int, ...]  # ascending from 1: drafts of one block
    rounds: tuple[CostRound, ...]
    num_nodes: tuple[int, ...] = ()  # ascending: nodes of trees of drafts; empty: none was timed

    def __post_init__(self) -> None:
        trees = ("num_nodes",) if self.num_nodes else ()
        for name in ("context_lengths", "num_rows", "num_drafts", *trees):
            axis = getattr(self, name)
            if not axis or list(axis) != sorted(set(axis)) or axis[0] < 0:
                raise ValueError(f"{name} {list(axis)} is not a rising list of whole numbers")
        if self.num_rows[0] != 1 or self.num_drafts[0] != 1:
            raise ValueError("num_rows and num_drafts begin with 1")
        if not self.rounds:
            raise ValueError("rounds is empty")
        for one in self.rounds:
            self._refuse_other_shape(one)

    def _refuse_other_shape(self, one: CostRound) -> None:
        contexts = len(self.context_lengths)
        shapes = {
            "step_s": (len(one.step_s), contexts),
            "verify_s": (len(one.verify_s), contexts),
            **{
                f"a row of verify_s[{i}]": (len(row), len(self.num_rows))
                for i, row in enumerate(one.verify_s)
            },
        }
        for name, draft in one.drafts.items():
            shapes[f"overhead_s of {name}"] = (len(draft.overhead_s), contexts)
            shapes[f"draft_s of {name}"] = (len(draft.draft_s), contexts)
            shapes |= {
                f"draft_s[{i}] of {name}": (len(row), len(self.num_drafts))
                for i, row in enumerate(draft.draft_s)
            }
            for field, grid, axis in (
                ("verify_s", draft.verify_s, self.num_rows),
                ("tree_s", draft.tree_s, self.num_nodes),
            ):
                if grid is not None:
                    shapes[f"{field} of {name}"] = (len(grid), contexts)
                shapes |= {
                    f"{field}[{i}] of {name}": (len(row), len(axis))
                    for i, row in enumerate(grid or ())
                }
        for place, (found, expected) in shapes.items():
            if found != expected:
                raise ValueError(f"{place} has {found} numbers, {expected} belong there")


def refuse_negative(*seconds: float) -> None:
    """Raise ValueError where a time is below 0 or not finite."""
    wrong = [one for one in seconds if not 0 <= one < float("inf")]
    if wrong:
        raise ValueError(f"{wrong[0]} is no time")
