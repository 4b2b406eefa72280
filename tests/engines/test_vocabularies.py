"""Two tokenizers: what their tokens spell, and which ones they share."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmeasure import demo
from specmeasure.engines.loading import load_tokenizer
from specmeasure.engines.spelling import TokenizerSpelling
from specmeasure.engines.vocabularies import ComparedVocabularies, compare_vocabularies, sized
from specmeasure.errors import TokenizerMismatch
from specmeasure.proposers.retokenising import DraftContext
from specmeasure.records.plan import GREEDY, ModelOptions, Sampling
from tests.engines.toy_tokenizers import byte_level, permuted, space_marked

BYTES, MARKS = TokenizerSpelling(byte_level()), TokenizerSpelling(space_marked())
SAMPLED = Sampling(temperature=0.7)
BOTH = pytest.mark.parametrize("tokenizer", [byte_level(), space_marked()], ids=["bytes", "marks"])
TEXTS = st.text(st.sampled_from("the cat\n  sundog's,é猫🙂0<|"), max_size=300)


def compared(target: Any, draft: Any) -> ComparedVocabularies:
    found = compare_vocabularies(target, draft, "draft")
    assert found is not None
    return found


@BOTH
def test_tokens_add_up_to_the_text(tokenizer: Any):
    """Bytes of all tokens, one behind the other, are the text that was tokenised."""
    spelling, text = TokenizerSpelling(tokenizer), "The cat sat, été 猫🙂\n  didn't = 12"
    said = b"".join(spelling.token_bytes[id_] or b"" for id_ in spelling.at_start(text))

    assert text == said.decode().removeprefix(" " * spelling.drops_first_space)


@BOTH
@given(text=TEXTS)
def test_a_text_in_the_middle_of_another_is_spelled_exactly(tokenizer: Any, text: str):
    """Whatever it begins with, no space is lost and none is added."""
    spelling = TokenizerSpelling(tokenizer)
    ids = spelling.after(text)

    if "<|" not in text:
        assert ids is not None
    if ids is not None:
        assert text == b"".join(spelling.token_bytes[id_] or b"" for id_ in ids).decode()


def test_special_tokens_spell_nothing():
    """They are no text: none is drafted, none is matched."""
    assert {None} == {BYTES.token_bytes[id_] for id_ in byte_level().all_special_ids}
    assert (1,) == MARKS.beginning
    assert () == BYTES.beginning


def decoded_between(tokenizer: Any, id_: int) -> str:
    """What a token adds behind a letter."""
    letter = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    return str(tokenizer.decode([letter, id_])).removeprefix(str(tokenizer.decode([letter])))


def test_shared_tokens_decode_to_the_same():
    """All of them, and no id stands twice on either side."""
    shared = compared(byte_level(), space_marked()).shared
    ends = (space_marked().eos_token_id, byte_level().eos_token_id)
    texts = [pair for pair in shared.items() if pair != ends]

    assert 300 < len(texts)
    assert len(shared) == len(set(shared.values()))
    for own, other in texts:
        assert decoded_between(space_marked(), own) == decoded_between(byte_level(), other)
        assert MARKS.token_bytes[own] == BYTES.token_bytes[other]


def test_of_two_tokens_for_a_letter_the_one_that_is_written_is_shared():
    """Sentencepiece has a byte token beside it, which the target would hardly ever emit."""
    shared = compared(space_marked(), byte_level()).shared
    letter = byte_level().convert_tokens_to_ids("e")

    assert space_marked().convert_tokens_to_ids("e") == shared[letter]


def test_ends_are_shared_by_their_role():
    """Whatever they are called; other special tokens are not."""
    shared = compared(byte_level(), space_marked()).shared

    assert byte_level().eos_token_id == shared[space_marked().eos_token_id]
    assert space_marked().bos_token_id not in shared


def test_without_an_end_on_both_sides_none_is_drafted():
    """A draft of a target without an end never ends its text."""
    endless = permuted(byte_level(), list(range(len(byte_level()))))
    endless.eos_token = None
    pair = sized(compared(endless, space_marked()), 420, 320)

    assert pair.draft_end is None
    assert pair.target_end is None
    assert space_marked().eos_token_id not in pair.draft_ids


def test_equal_tokenizers_are_no_pair():
    """Token for token the same ids: drafts need no translation."""
    assert compare_vocabularies(byte_level(), byte_level(), "d") is None


def test_two_tokens_that_changed_places_are_another_vocabulary():
    """Sizes and texts agree; ids would mean other text to the target."""
    places = list(range(len(byte_level())))
    places[40], places[41] = 41, 40
    pair = compared(byte_level(), permuted(byte_level(), places))

    assert 41 == pair.shared[40]
    assert 40 == pair.shared[41]


def test_ids_beyond_the_heads_are_left_out():
    """A head may have fewer rows than its tokenizer has tokens."""
    pair = sized(compared(byte_level(), space_marked()), 300, 200)

    assert 300 > max(pair.shared_draft_ids)
    assert 200 > max(pair.shared_target_ids)
    assert 300 > max(pair.draft_ids)


def test_strangers_are_refused_where_they_would_have_to_share():
    """Sampled answers need shared tokens; greedy ones are matched by text."""
    few = compared(byte_level(), space_marked())
    few = ComparedVocabularies(
        **{
            **{name: getattr(few, name) for name in few.__dataclass_fields__},
            "facts": type(few.facts)(
                num_draft_tokens=420, num_target_tokens=320, num_shared_tokens=3, matches_text=True
            ),
        }
    )
    few.refuse_strangers(GREEDY)

    with pytest.raises(TokenizerMismatch, match=r"only 3 of the target's 320 .* temperature 0\.7"):
        few.refuse_strangers(SAMPLED)


def test_the_way_is_said():
    """By text where answers are greedy, among shared tokens where they are sampled."""
    pair = compared(byte_level(), space_marked())

    assert (
        "of the target's 320 tokens are also its own; of greedy answers, drafts are matched"
        in pair.said(GREEDY)
    )
    assert "of sampled answers, drafts are among these" in pair.said(SAMPLED)


@pytest.mark.parametrize(
    ("target", "draft"),
    [(byte_level(), space_marked()), (space_marked(), byte_level())],
    ids=["marks read bytes", "bytes read marks"],
)
@given(text=TEXTS, cuts=st.lists(st.integers(1, 40), max_size=20))
def test_a_growing_text_is_spelled_as_from_scratch(
    target: Any, draft: Any, text: str, cuts: list[int]
):
    """Spelling its end again gives what spelling all of it would."""
    pair = compared(target, draft)
    ids = list(target(text)["input_ids"])
    context = DraftContext(pair.draft, pair.pieces, drops_first_space=pair.target.drops_first_space)
    place = 0
    for cut in cuts:
        context.extend(ids[place : place + cut])
        context.respell()
        place += cut
        whole = DraftContext(
            pair.draft, pair.pieces, drops_first_space=pair.target.drops_first_space
        )
        whole.begin(ids[:place])
        whole.respell()

        assert whole.ids == context.ids


def test_a_long_text_is_not_spelled_again_from_its_start():
    """What is kept stays the same list's beginning, and the cost that of the end."""
    pair = compared(byte_level(), space_marked())
    asked: list[int] = []

    class Counting(TokenizerSpelling):
        def _ids(self, text: str) -> list[int]:
            asked.append(len(text))
            return super()._ids(text)

    context = DraftContext(Counting(space_marked()), pair.pieces, drops_first_space=False)
    context.begin(byte_level()("The cat sat on the mat. " * 50)["input_ids"])
    context.respell()
    context.extend(byte_level()(" Once upon")["input_ids"])
    context.respell()
    asked.clear()
    context.extend(byte_level()(" a time")["input_ids"])
    context.respell()

    assert asked
    assert 100 > max(asked)


def test_half_a_character_waits_for_its_other_half():
    """The draft reads whole characters; bytes that are none are replaced once they cannot be."""
    pair = compared(byte_level(), space_marked())
    context = DraftContext(pair.draft, pair.pieces, drops_first_space=False)
    *first, last = byte_level()("猫")["input_ids"]
    context.begin(first)
    context.respell()

    assert not context.is_whole
    assert context.is_empty

    context.extend([last])
    context.respell()

    assert context.is_whole
    assert "猫" == space_marked().decode(context.ids, skip_special_tokens=True)


def test_a_chat_is_read_as_it_was_rendered():
    """The target's BOS is the draft's own, once; other special tokens are written out."""
    pair = compared(byte_level(), space_marked())
    context = DraftContext(pair.draft, pair.pieces, drops_first_space=False)
    context.begin(byte_level()("<|bos|><|user|>The cat")["input_ids"])
    context.respell()

    assert space_marked()("<|user|>The cat")["input_ids"] == context.ids


def test_the_embedded_tokenizer_and_a_sentencepiece_one(stories: tuple[str, str]):
    """Tokenizers of real models: 388 tokens in common, and text comes back as it was."""
    ours = load_tokenizer(demo.TARGET, ModelOptions())
    pair = compared(load_tokenizer(stories[0], ModelOptions()), ours)

    assert 388 == pair.facts.num_shared_tokens
    assert pair.facts.matches_text
