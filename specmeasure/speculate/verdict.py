"""What the target made of one proposal."""

from dataclasses import dataclass

from specmeasure.errors import BrokenLogits
from specmeasure.speculate.sampling import NOT_A_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The fate of a chain or a tree of drafts, on the host."""

    num_accepted: int
    next_token: int  # the recovered token after a rejection, the bonus token otherwise
    draft_tokens: tuple[int, ...]  # everything that was proposed
    path: tuple[int, ...] | None = None  # of a tree: the accepted nodes, from the root's child down

    def __post_init__(self) -> None:
        if self.path is not None and len(self.path) != self.num_accepted:
            raise ValueError(f"{self.num_accepted} accepted, a path of {len(self.path)}")

    @property
    def tokens(self) -> tuple[int, ...]:
        """The accepted drafts and the target's own token."""
        if self.path is None:
            return (*self.draft_tokens[: self.num_accepted], self.next_token)
        return (*(self.draft_tokens[node] for node in self.path), self.next_token)


def refuse_broken(target_tokens: list[int], draft_tokens: list[int]) -> None:
    """Raise BrokenLogits where a row of logits held NaN."""
    for name, tokens in (("target", target_tokens), ("draft", draft_tokens)):
        if NOT_A_TOKEN in tokens:
            raise BrokenLogits(
                f"the {name}'s logits hold NaN: its weights are damaged or the dtype overflows. "
                "Try --dtype float32."
            )
