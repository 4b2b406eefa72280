"""One answer, pass by pass: what was drafted, kept, rejected and thrown away, and who put what.

A newcomer should see why a draft that is right from its third token on is worth nothing.
"""

from collections.abc import Callable, Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specmeasure.brief.numbers import NOT_APPLICABLE, count, duration
from specmeasure.records.drafted import turned_down
from specmeasure.records.trace import BlockRecord, TokenProbs, TrialRecord
from specmeasure.records.tree import TokenTree

Detokenise = Callable[[Sequence[int]], str]

KEPT, REJECTED, THROWN_AWAY, TARGET = "green", "bold red", "dim strike", "bold blue"
_WINDOW = 16  # ids before a token that its text is spelt after
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HALF = "\N{MIDLINE HORIZONTAL ELLIPSIS}"  # the first bytes of a character
_SHOWN_AS = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥"})


def how_to_read() -> RenderableType:
    """The rule in three sentences, and the marks."""
    rule = (
        "The target reads a whole draft in one pass. The draft is kept up to the first token that "
        "is rejected; what stands behind that one is thrown away, right or wrong, for it was "
        "drafted after a token that is not there. Then the target adds one token of its own: in "
        "the place of the rejected one (recovered), or after a whole draft (bonus). Of a tree of "
        "drafts one path from its root is kept, and where no sibling is right the target adds its "
        "own."
    )
    marks = Text.assemble(
        ("kept", KEPT),
        "   ",
        ("✗rejected", REJECTED),
        "   ",
        ("(thrown away)", THROWN_AWAY),
        "   ",
        ("target's own", TARGET),
    )
    return Group(Text(rule), marks, Text())


def answer_text(blocks: Sequence[BlockRecord], detokenise: Detokenise) -> Text:
    """What was emitted, kept drafts and the target's own tokens told apart by colour."""
    text = Text()
    before: tuple[int, ...] = ()
    for block in blocks:
        emitted = block.emitted_ids or ()
        for ids, style in (
            (emitted[: block.num_accepted_tokens], KEPT),
            (emitted[block.num_accepted_tokens :], TARGET),
        ):
            text.append(visible(_continuation(before, ids, detokenise)), style)
            before += ids
    return text


def spelt_passes(
    trial: TrialRecord, detokenise: Detokenise, tree: TokenTree | None = None
) -> Table:
    """A row a pass, every token on its own; the trial kept its ids.

    Args:
        trial: of an arm.
        detokenise: turns ids into text.
        tree: that the arm drafts; without it the siblings that were rejected are not told apart.
    """
    probs = trial.checks.token_probs if trial.checks else None
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("Pass", justify="right", no_wrap=True)
    table.add_column("Kept", justify="right", no_wrap=True)
    table.add_column("Draft", overflow="fold")
    table.add_column("Target adds", overflow="fold")
    table.add_column("", no_wrap=True)
    if probs is not None:
        table.add_column("✗ by target / draft", justify="right", no_wrap=True)
    before: tuple[int, ...] = ()
    for index, block in enumerate(trial.blocks):
        emitted = block.emitted_ids or ()
        kept = before + emitted[: block.num_accepted_tokens]
        own = emitted[block.num_accepted_tokens :]
        row = [
            Text(str(index)),
            Text(_share(block)),
            _spelt_draft(block, before, detokenise)
            if block.draft_depth is None
            else _spelt_tree(block, before, detokenise, tree),
            Text(" ".join(_spell_each(kept, own, detokenise)), TARGET),
            Text(_fate(block, tree, is_first=index == 0)),
        ]
        if probs is not None:
            row.append(Text(_chances_of_rejected(probs, index)))
        table.add_row(*row)
        before += emitted
    return table


def counted_passes(blocks: Sequence[BlockRecord]) -> Table:
    """A row a pass, in counts and times; needs no ids. Of trees drafts are nodes."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    names = ("Pass", "Context", "Drafted", "Kept", "Thrown away", "Emitted", "Draft", "Verify")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for index, block in enumerate(blocks):
        table.add_row(
            str(index),
            str(block.context_length),
            str(block.num_draft_tokens),
            str(block.num_accepted_tokens),
            str(num_thrown_away(block)),
            str(block.num_emitted_tokens),
            duration(block.draft_s),
            duration(block.verify_s),
            _fate(block, None, is_first=index == 0),
        )
    return table


def sums(blocks: Sequence[BlockRecord]) -> list[str]:
    """Where the tokens came from, and τ of this answer."""
    drafted = [block for block in blocks if block.num_draft_tokens]
    drafting_s = sum(block.draft_s for block in blocks)
    verifying_s = sum(block.verify_s for block in blocks)
    return [
        _sum_of_tokens(blocks),
        *([_sum_of_drafts(drafted), _tau(drafted)] if drafted else []),
        f"Drafting took {duration(drafting_s)}, the target's passes {duration(verifying_s)}.",
    ]


def is_rejection(block: BlockRecord) -> bool:
    """Whether the target turned a chain's draft down, rather than keep all or end the answer."""
    return (
        block.draft_depth is None
        and not block.truncated
        and block.num_accepted_tokens < block.num_draft_tokens
    )


def num_thrown_away(block: BlockRecord) -> int:
    """Drafts behind the rejected one, or behind the end of the answer; a tree's off the kept path.

    >>> cut = BlockRecord(num_draft_tokens=4, num_accepted_tokens=1, num_emitted_tokens=2,
    ...     context_length=9, draft_s=0.0, verify_s=0.0)
    >>> num_thrown_away(cut)
    2
    """
    return block.num_draft_tokens - block.num_accepted_tokens - is_rejection(block)


def visible(text: str) -> str:
    """Text without characters that a terminal would act on; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "·" for char in text)


def spell_ids(ids: Sequence[int]) -> str:
    """Ids themselves, where no tokenizer is at hand."""
    return "".join(f"{token} " for token in ids)


def _sum_of_tokens(blocks: Sequence[BlockRecord]) -> str:
    """Formula: emitted = kept drafts + one a pass − cut passes."""
    num_emitted = sum(block.num_emitted_tokens for block in blocks)
    num_cut = sum(block.truncated for block in blocks)
    cut = f" − {num_cut} cut" if num_cut else ""
    return (
        f"{count(num_emitted, 'token')} = {_num_kept(blocks)} kept + {count(len(blocks))} of the "
        f"target's own (one a pass){cut}: {num_emitted / len(blocks):.2f} tokens per pass, prefill "
        "among them."
    )


def _sum_of_drafts(drafted: Sequence[BlockRecord]) -> str:
    """Formula: drafts = kept + rejected + thrown away; of trees, nodes = kept + off the path."""
    depth = max(block.draft_depth or 0 for block in drafted)
    if depth:
        return (
            f"{count(sum(block.num_draft_tokens for block in drafted), 'draft')}, nodes of trees "
            f"up to {depth} deep = {_num_kept(drafted)} kept + "
            f"{sum(map(num_thrown_away, drafted))} off the kept paths."
        )
    return (
        f"{count(sum(block.num_draft_tokens for block in drafted), 'draft')} = "
        f"{_num_kept(drafted)} kept + {sum(map(is_rejection, drafted))} rejected + "
        f"{sum(map(num_thrown_away, drafted))} thrown away."
    )


def _tau(drafted: Sequence[BlockRecord]) -> str:
    tau = 1 + _num_kept(drafted) / len(drafted)
    blocks = count(len(drafted), "pass") if len(drafted) == 1 else f"{count(len(drafted))} passes"
    return f"τ = 1 + {_num_kept(drafted)} kept / {blocks} with drafts = {tau:.2f}."


def _num_kept(blocks: Sequence[BlockRecord]) -> int:
    return sum(block.num_accepted_tokens for block in blocks)


def _spelt_draft(block: BlockRecord, before: tuple[int, ...], detokenise: Detokenise) -> Text:
    words = list(_spell_each(before, block.draft_ids or (), detokenise))
    num_kept = block.num_accepted_tokens
    num_judged = num_kept + is_rejection(block)
    parts = [(" ".join(words[:num_kept]), KEPT)]
    parts += [(f"✗{word}", REJECTED) for word in words[num_kept:num_judged]]
    if words[num_judged:]:
        parts.append((f"({' '.join(words[num_judged:])})", THROWN_AWAY))
    return Text(" ").join(Text(text, style) for text, style in parts if text)


def _spelt_tree(
    block: BlockRecord, before: tuple[int, ...], detokenise: Detokenise, tree: TokenTree | None
) -> Text:
    """The kept path, the siblings that were rejected behind it, and the size of the whole tree."""
    path = (block.emitted_ids or ())[: block.num_accepted_tokens]
    siblings = turned_down(block, tree) or ()
    behind = before + path
    rejected = [word for one in siblings for word in _spell_each(behind, (one,), detokenise)]
    size = f"of {count(block.num_draft_tokens, 'node')}, depth {block.draft_depth}"
    parts = [
        (" ".join(_spell_each(before, path, detokenise)), KEPT),
        *((f"✗{word}", REJECTED) for word in rejected),
        (f"({size})", THROWN_AWAY.removesuffix(" strike")),
    ]
    return Text(" ").join(Text(text, style) for text, style in parts if text)


def _spell_each(
    before: tuple[int, ...], ids: Sequence[int], detokenise: Detokenise
) -> Iterator[str]:
    """Each token's own text, its blanks made visible."""
    for token in ids:
        text = _continuation(before, (token,), detokenise)
        yield visible(text.translate(_SHOWN_AS)) or _HALF
        before = (*before, token)


def _continuation(before: tuple[int, ...], ids: tuple[int, ...], detokenise: Detokenise) -> str:
    """What ``ids`` add to the text of ``before``; half a character is shown with its other half."""
    if not ids:
        return ""
    near = before[-_WINDOW:]
    shown = detokenise(near).rstrip(_REPLACEMENT) if near else ""
    return detokenise((*near, *ids))[len(shown) :].rstrip(_REPLACEMENT)


def _share(block: BlockRecord) -> str:
    """Kept of what could have been kept."""
    if not block.num_draft_tokens:
        return NOT_APPLICABLE
    return f"{block.num_accepted_tokens}/{block.most_accepted}"


def _fate(block: BlockRecord, tree: TokenTree | None, *, is_first: bool) -> str:
    if is_first:
        return "prefill"
    if block.truncated:
        return "end of the answer"
    if not block.num_draft_tokens:
        return "nothing drafted"
    if block.draft_depth is None:
        return "recovered" if is_rejection(block) else "bonus"
    siblings = turned_down(block, tree)
    if siblings is None:
        return "recovered, or bonus"  # whether the kept path ended in a leaf is not known
    return "recovered" if siblings else "bonus"


def _chances_of_rejected(probs: TokenProbs, index: int) -> str:
    """Target's and draft's chance of a pass's first rejected draft."""
    by_target = probs.rejected_target[index : index + 1]
    by_draft = probs.rejected_draft[index : index + 1]
    if not by_target or by_target[0] is None:
        return ""
    other = NOT_APPLICABLE if not by_draft or by_draft[0] is None else _percent(by_draft[0])
    return f"{_percent(by_target[0])} / {other}"


def _percent(chance: float) -> str:
    """A chance in whole percents, the smallest as below one.

    >>> _percent(0.314), _percent(0.0004)
    ('31 %', '<1 %')
    """
    return "<1 %" if chance < 0.005 else f"{100 * chance:.0f} %"
