from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len

from specmeasure.brief.show import trial_text, trials_table
from specmeasure.records.trace import BlockRecord, TrialRecord
from tests.brief import examples
from tests.brief.terminal import printed, styled

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


def test_drafts_and_target_tokens_differ_in_style():
    """Kept drafts, rejected drafts and the target's own tokens are told apart, in order."""
    shown = styled(trial_text(examples.trial(with_text=True), detokenise))
    legend = [shown[1:4], shown[4:11]]

    assert [
        [
            ("accepted draft", "green"),
            ("rejected draft", "strike red"),
            ("target's own token", "bold blue"),
        ],
        [
            ("one", "bold blue"),
            ("two three", "green"),
            ("four five", "strike red"),
            ("six", "bold blue"),
            ("seven eight", "green"),
            ("nine", "bold blue"),
            ("ten end", "green"),
        ],
    ] == legend


def test_kept_text_is_the_text():
    """Leaving out what was rejected gives the emitted text, its split characters whole."""
    said = "na\u00efve!".encode()  # the third character takes two bytes
    trial = of_bytes((b"", said[:1]), (b"a\xc3", said[1:4]), (b"zz", said[4:5]), (b"v", said[5:7]))
    shown = styled(trial_text(trial, bytewise))
    text = [(part, style) for part, style in shown[4 : shown.index(("Block", "bold"))]]
    kept = "".join(part for part, style in text if "strike" not in style)

    assert "na\u00efve!" == kept
    assert ("zz", "strike red") in text


def test_ids_without_a_tokenizer():
    """Without a tokenizer the ids themselves are shown."""
    assert "1 2 3 4 5 6 7 8 9 10 11" in printed(trial_text(examples.trial(with_text=True), None))


def test_no_text_was_kept():
    """Without ids there are the blocks and a hint, and the tokenizer is not asked."""
    text = printed(trial_text(examples.trial(with_text=False), fails_if_called))

    assert "--include-text" in text
    assert "draft 3 rejected" in text
    assert "accepted draft" not in text


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
        "draft 3 rejected",
        "all kept, bonus token",
        "cut by EOS or a stop text",
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


def test_table_holds_no_text():
    """Even where ids were kept the table shows none."""
    with_text = printed(trials_table(examples.trace(examples.trial(with_text=True))))
    without = printed(trials_table(examples.trace(examples.trial(with_text=False))))

    assert with_text == without


def fails_if_called(ids: Sequence[int]) -> str:
    raise AssertionError(f"nothing to detokenise in {ids}")
