from dataclasses import replace

import pytest

from specmeasure.brief.tokens import Kind, ShownTree, show_trials
from specmeasure.records.plan import BASELINE, Arm, Method
from specmeasure.records.trace import BlockRecord
from specmeasure.records.tree import TokenTree
from tests.brief.reports import kept_trace, kept_trial, spell
from tests.fakes import make_block


def only(trial, detokenise=spell):
    shown = show_trials(kept_trace(trial), detokenise)
    assert shown
    (one,) = shown.trials
    return one


def test_every_token_has_a_kind():
    """Prefill, a rejection after two drafts, two drafts and a bonus, a block cut by EOS."""
    kinds = [[token.kind for token in block.tokens] for block in only(kept_trial()).blocks]

    kept, accepted = Kind.ACCEPTED, [Kind.ACCEPTED, Kind.ACCEPTED]
    assert [[Kind.PLAIN], [*accepted, Kind.RECOVERED], [kept, kept, Kind.BONUS], accepted] == kinds


def test_tokens_make_up_the_answer():
    """Texts of the emitted tokens, one after the other, are the text of the answer."""
    trial = kept_trial()

    def words(ids):
        return " ".join(f"w{token}" for token in ids)

    texts = [token.text for block in only(trial, words).blocks for token in block.tokens]

    assert f" {words(trial.token_ids)}" == "".join(texts)
    assert len(trial.token_ids) == len(texts)


def test_rejected_drafts_go_on_from_what_was_kept():
    """The third and fourth draft of block 1, with the chances of the third alone."""
    block = only(kept_trial()).blocks[1]

    assert (" w4", " w5") == block.rejected
    assert (0.04, 0.61) == (block.rejected_target_chance, block.rejected_draft_chance)


def test_chances_are_of_their_own_tokens():
    """In the order of the answer, whatever block a token is in."""
    shown = only(kept_trial())
    chances = [token.target_chance for block in shown.blocks for token in block.tokens]

    assert [0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19] == chances


def test_unknown_chances_are_none():
    """A trial whose checks failed has tokens, not chances of 0."""
    shown = only(replace(kept_trial(), checks=None))

    assert {(None, None)} == {
        (token.target_chance, token.draft_chance)
        for block in shown.blocks
        for token in block.tokens
    }


def test_characters_of_several_tokens_are_shown_once():
    """Bytes that end inside a character add nothing; the last one adds it whole."""
    text = "a€b"
    ids = tuple(text.encode())
    blocks = tuple(
        BlockRecord(
            num_draft_tokens=0,
            num_accepted_tokens=0,
            num_emitted_tokens=1,
            context_length=9 + place,
            draft_s=0.0,
            verify_s=0.1,
            draft_ids=(),
            emitted_ids=(byte,),
        )
        for place, byte in enumerate(ids)
    )
    trial = replace(kept_trial(), token_ids=ids, blocks=blocks, checks=None, prompt_ids=None)
    shown = only(trial, lambda some: bytes(some).decode(errors="replace"))

    assert ["a", "", "", "€", "b"] == [
        token.text for block in shown.blocks for token in block.tokens
    ]


def test_ids_stand_in_for_text():
    """Without a tokenizer the ids themselves are shown, and said to be."""
    shown = show_trials(kept_trace(kept_trial()), None)

    assert shown
    assert not shown.has_text
    assert "1 " == shown.trials[0].blocks[0].tokens[0].text


def test_control_characters_are_not_shown():
    """What a page or a reader's eye could act on becomes a dot."""
    shown = only(kept_trial(), lambda ids: "\x1b\u202e" * len(ids))

    assert {"··"} == {token.text for block in shown.blocks for token in block.tokens}


def test_nothing_is_shown_of_a_run_that_kept_no_text():
    """Neither of the flag's absence, nor of trials without ids."""
    without_ids = replace(
        kept_trial(),
        token_ids=None,
        blocks=tuple(
            replace(block, draft_ids=None, emitted_ids=None) for block in kept_trial().blocks
        ),
    )

    assert show_trials(kept_trace(kept_trial(), include_text=False), spell) is None
    assert show_trials(kept_trace(without_ids), spell) is None


@pytest.mark.parametrize(("most_tokens", "num_shown"), [(10_000, 24), (200, 9), (10, 0)])
def test_every_category_comes_first(most_tokens, num_shown):
    """A budget is spent on a prompt of each category before the second of any; the rest counts."""
    arms = ("draft k=2", "draft k=4")
    trials = [
        kept_trial(f"{category}-{number}", arm, category=category)
        for category in ("a", "b", "c")
        for number in range(4)
        for arm in arms
    ]
    shown = show_trials(kept_trace(*trials), spell, most_tokens=most_tokens)

    assert shown
    assert num_shown == len(shown.trials)
    assert 24 - num_shown == shown.num_left_out
    assert {"a", "b", "c"} == {one.category for one in shown.trials[:6]} or not num_shown
    assert set(arms) == {one.arm for one in shown.trials[:2]} or not num_shown


def test_baselines_are_not_shown():
    """They draft nothing, so every token of theirs is of one kind."""
    trace = kept_trace(kept_trial(arm="baseline"), kept_trial())
    shown = show_trials(trace, spell)

    assert shown
    assert ["draft k=4"] == [one.arm for one in shown.trials]


def test_trees_show_the_siblings_that_were_rejected():
    """A rejection shows the last kept node's children, a leaf none; the size is told."""
    tree = TokenTree.of([(0,), (1,), (0, 0), (0, 1)])
    arm = Arm(name="heads", method=Method.MEDUSA, num_speculative_tokens=4, heads="h", tree=tree)
    drafted = {"draft_depth": 2, "draft_ids": (2, 3, 4, 5)}
    blocks = (
        make_block(0, 0, draft_ids=(), emitted_ids=(1,)),
        make_block(4, 1, **drafted, emitted_ids=(2, 6)),
        make_block(4, 1, **drafted, emitted_ids=(3, 6)),
        make_block(4, 2, **drafted, emitted_ids=(2, 5, 6)),
    )
    trial = replace(
        kept_trial(arm="heads"),
        blocks=blocks,
        checks=None,
        token_ids=tuple(token for block in blocks for token in block.emitted_ids or ()),
    )
    made = kept_trace(trial)
    plan = replace(made.manifest.plan, arms=(BASELINE, arm))
    shown = show_trials(replace(made, manifest=replace(made.manifest, plan=plan)), spell)

    assert shown
    (one,) = shown.trials
    assert [(), (" w4", " w5"), (), ()] == [block.rejected for block in one.blocks]
    assert [Kind.RECOVERED, Kind.BONUS, Kind.BONUS] == [b.tokens[-1].kind for b in one.blocks[1:]]
    assert [None, *[ShownTree(num_nodes=4, depth=2)] * 3] == [block.tree for block in one.blocks]
