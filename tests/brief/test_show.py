from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from specmeasure.brief.show import trial_text, trials_table
from specmeasure.brief.walk import how_to_read, is_rejection, num_thrown_away
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import BlockRecord, Look, TokenProbs, TrialRecord
from specmeasure.records.tree import TokenTree
from tests.brief import examples
from tests.brief.terminal import printed, styled
from tests.fakes import make_block, make_trial

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "end"]


def detokenise(ids: Sequence[int]) -> str:
    return "".join(f" {WORDS[token - 1]}" for token in ids)


def bytewise(ids: Sequence[int]) -> str:
    """Each id is one byte of UTF-8, so a character may need several."""
    return bytes(ids).decode(errors="replace")


def of_bytes(*passes: tuple[bytes, bytes]) -> TrialRecord:
    blocks = tuple(
        BlockRecord(
            num_draft_tokens=len(draft),
            num_accepted_tokens=len(emitted) - 1,
            num_emitted_tokens=len(emitted),
            context_length=1,
            draft_s=0.001,
            verify_s=0.001,
            draft_ids=tuple(draft),
            emitted_ids=tuple(emitted),
        )
        for draft, emitted in passes
    )
    return replace(examples.trial(with_text=True), blocks=blocks)


def walk(trial):
    """The rows of a trial's passes, as lists of words."""
    lines = printed(trial_text(trial, detokenise)).splitlines()
    rows = [line.split() for line in lines if line.strip()]
    first = next(place for place, row in enumerate(rows) if row[:2] == ["Pass", "Kept"])
    return rows[first + 2 : first + 2 + len(trial.blocks)]


def test_each_pass_tells_what_became_of_its_draft():
    """Kept drafts, the rejected one, what was thrown away behind it, and who put what."""
    assert [
        ["0", "–", "␣one", "prefill"],
        ["1", "2/4", "␣two", "␣three", "✗␣four", "(␣five)", "␣six", "recovered"],
        ["2", "2/2", "␣seven", "␣eight", "␣nine", "bonus"],
        ["3", "2/2", "␣ten", "␣end", "end", "of", "the", "answer"],
    ] == walk(examples.trial(with_text=True))


def test_marks_have_their_colours():
    """On a terminal, kept, rejected, thrown away and the target's own differ in style, too."""
    shown = styled(trial_text(examples.trial(with_text=True), detokenise))
    rules = styled(how_to_read())

    assert {
        ("␣two ␣three", "green"),
        ("✗␣four", "bold red"),
        ("(␣five)", "dim strike"),
        ("␣six", "bold blue"),
    } <= set(shown)
    assert {
        ("kept", "green"),
        ("✗rejected", "bold red"),
        ("(thrown away)", "dim strike"),
        ("target's own", "bold blue"),
    } <= set(rules)


def test_sums_tie_to_tau():
    """Kept drafts and one token a pass make the answer; drafts are kept, rejected or thrown away.

    Of 8 drafts in 3 blocks 6 were kept: τ = 1 + 6 / 3.
    """
    for with_text in (True, False):
        text = printed(trial_text(examples.trial(with_text=with_text), detokenise))

        assert "9 tokens = 6 kept + 4 of the target's own (one a pass) − 1 cut: 2.25" in text
        assert "8 drafts = 6 kept + 1 rejected + 1 thrown away." in text
        assert "τ = 1 + 6 kept / 3 passes with drafts = 3.00." in text


def test_a_baseline_has_no_drafts_to_sum():
    """One token a pass, and no τ."""
    plain = make_trial("p", *[make_block(0, 0)] * 3, arm="baseline")
    text = printed(trial_text(plain, None))

    assert "4 tokens = 0 kept + 4 of the target's own (one a pass): 1.00 tokens per pass" in text
    assert "τ" not in text


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=8)
)
def test_every_draft_has_one_fate(passes):
    """Kept, rejected or thrown away: the three add up, and at most one a pass is rejected."""
    for num_drafts, num_kept, cut in passes:
        kept = min(num_drafts, num_kept)
        block = make_block(num_drafts, kept, truncated=cut and kept > 0)
        thrown = num_thrown_away(block)

        assert num_drafts == kept + is_rejection(block) + thrown
        assert thrown >= 0


def test_chances_of_the_rejected_draft():
    """With token probabilities: what target and draft gave it, and what that means."""
    made = examples.trial(with_text=True)
    probs = TokenProbs(
        target=(0.5,) * 9,
        draft=(0.5,) * 9,
        rejected_target=(None, 0.031, None, None),
        rejected_draft=(None, 0.46, None, None),
    )
    checks = replace(made.checks, token_probs=probs)
    greedy = printed(trial_text(replace(made, checks=checks), detokenise))
    sampled = printed(
        trial_text(replace(made, checks=checks, sampling=Sampling(temperature=0.7)), detokenise)
    )

    assert ["recovered", "3", "%", "/", "46", "%"] == walk(replace(made, checks=checks))[1][-6:]
    assert "keeps its likeliest token alone" in " ".join(greedy.split())
    assert "min(1, target's / draft's)" in " ".join(sampled.split())
    assert "by target" not in printed(trial_text(made, detokenise))


def test_kept_text_is_the_text():
    """The answer is the emitted text, its split characters whole."""
    said = "na\u00efve!".encode()  # the third character takes two bytes
    trial = of_bytes((b"", said[:1]), (b"a\xc3", said[1:4]), (b"zz", said[4:5]), (b"v", said[5:7]))
    lines = printed(trial_text(trial, bytewise)).splitlines()

    assert "na\u00efve!" == lines[1]
    assert any("✗z (z)" in line for line in lines)


def test_blanks_can_be_seen():
    """Spaces, line breaks and halves of characters are tokens, too."""
    trial = of_bytes((b"", b" "), (b"\nx", b"\n\xc3"), (b"", b"\xaf"))
    lines = printed(trial_text(trial, bytewise)).splitlines()
    start = next(place for place, line in enumerate(lines) if "Pass" in line)

    assert ["0", "–", "␣", "prefill"] == lines[start + 2].split()
    assert ["1", "1/2", "⏎", "✗x", "⋯", "recovered"] == lines[start + 3].split()


def test_ids_without_a_tokenizer():
    """Without a tokenizer the ids themselves are shown."""
    assert "1 2 3 6 7 8 9 10 11" in printed(trial_text(examples.trial(with_text=True), None))


def test_no_text_was_kept():
    """Without ids there are the counts and a hint, and the tokenizer is not asked."""
    text = printed(trial_text(examples.trial(with_text=False), fails_if_called))

    assert "--include-text" in text
    assert "recovered" in text
    assert "✗" not in text


def test_failed_trial_shows_its_error():
    """A trial that failed has no blocks to show."""
    assert "failed: OutOfMemory" in printed(trial_text(examples.failed_trial(), None))


def test_emitted_text_cannot_drive_the_terminal():
    """An escape sequence that a model wrote is shown as a dot."""
    text = printed(trial_text(of_bytes((b"", b"\x1b")), bytewise))

    assert "\x1b" not in text


def test_what_happened_in_each_block():
    """Prefill, a rejection, a full acceptance, a cut."""
    text = printed(trial_text(examples.trial(with_text=False), None))
    notes = [line.split("ms")[-1].strip() for line in text.splitlines() if " ms " in line]

    assert [
        "prefill",
        "recovered",
        "bonus",
        "end of the answer",
    ] == notes


def test_one_row_a_trial():
    """A row has the counts of its blocks and the state of its audit; unknown is a dash."""
    trace = examples.trace(examples.trial(with_text=False), examples.failed_trial())
    text = printed(trials_table(trace))
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("p-")]

    assert ["9", "4", "6/8", "18.2", "ms", "61.3", "ms", "eos", "1", "suspect"] == rows[0][5:]
    assert ["–", "–", "–", "–", "–", "failed:", "–"] == rows[1][5:]
    assert max(map(cell_len, text.splitlines())) <= 100
    assert "2 of 3 planned trials, not sealed" in text


def test_a_run_with_looks_may_end_before_its_plan():
    """Its planned trials are the most."""
    trace = examples.trace(examples.trial(with_text=False))
    sequential = replace(
        trace, manifest=replace(trace.manifest, looks=(Look(num_prompts=1, num_trials=3),))
    )

    assert "1 of at most 3 planned trials" in printed(trials_table(sequential))


def test_table_holds_no_text():
    """Even where ids were kept the table shows none."""
    with_text = printed(trials_table(examples.trace(examples.trial(with_text=True))))
    without = printed(trials_table(examples.trace(examples.trial(with_text=False))))

    assert with_text == without


def fails_if_called(ids: Sequence[int]) -> str:
    raise AssertionError(f"nothing to detokenise in {ids}")


TREE = TokenTree.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0)])


def of_trees(*, with_text: bool) -> TrialRecord:
    """Prefill; a rejection below a node; a leaf at half depth; a full path; EOS inside a path."""
    passes = (
        ((), (1,), 0, False),
        ((2, 3, 4, 5, 6, 7), (2, 8), 1, False),
        ((2, 3, 4, 5, 6, 7), (4, 8), 1, False),
        ((2, 3, 4, 5, 6, 7), (3, 7, 8), 2, False),
        ((11, 3, 4, 5, 6, 7), (11,), 1, True),
    )
    blocks = tuple(
        make_block(
            len(drafts),
            num_kept,
            truncated=truncated,
            draft_depth=2 if drafts else None,
            draft_ids=drafts if with_text else None,
            emitted_ids=emitted if with_text else None,
        )
        for drafts, emitted, num_kept, truncated in passes
    )
    return replace(examples.trial(with_text=with_text), blocks=blocks)


def rows_of(trial: TrialRecord, tree: TokenTree | None) -> list[str]:
    """The rows of its passes, blanks single."""
    lines = [
        " ".join(one.split()) for one in printed(trial_text(trial, detokenise, tree)).split("\n")
    ]
    first = next(place for place, line in enumerate(lines) if line.startswith("Pass"))
    return [line for line in lines[first + 2 :] if line][: len(trial.blocks)]


def test_a_tree_tells_the_path_that_was_kept():
    """Kept nodes, the siblings that were rejected behind them, and the size of the whole tree."""
    assert [
        "0 – ␣one prefill",
        "1 1/2 ␣two ✗␣five ✗␣six (of 6 nodes, depth 2) ␣eight recovered",
        "2 1/2 ␣four (of 6 nodes, depth 2) ␣eight bonus",
        "3 2/2 ␣three ␣seven (of 6 nodes, depth 2) ␣eight bonus",
        "4 1/2 ␣end (of 6 nodes, depth 2) end of the answer",
    ] == rows_of(of_trees(with_text=True), TREE)


def test_a_tree_of_unknown_shape_claims_no_more_than_is_known():
    """Without the arm's tree, or without ids, who was rejected and whether is not said."""
    untold = rows_of(of_trees(with_text=True), None)
    counted = rows_of(of_trees(with_text=False), TREE)

    assert "1 1/2 ␣two (of 6 nodes, depth 2) ␣eight recovered, or bonus" == untold[1]
    assert untold[3].endswith("bonus")
    assert counted[1].startswith("1 9 6 1 5 2")  # context, nodes, kept, off the path, emitted
    assert counted[1].endswith("recovered, or bonus")


def test_sums_of_trees_count_nodes():
    """Nodes are kept or off the kept paths; τ counts what was kept."""
    text = " ".join(printed(trial_text(of_trees(with_text=True), detokenise, TREE)).split())

    assert "24 drafts, nodes of trees up to 2 deep = 5 kept + 19 off the kept paths." in text
    assert "τ = 1 + 5 kept / 4 passes with drafts = 2.25." in text
