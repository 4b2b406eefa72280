import random
from pathlib import Path

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.corpus.languages import detect_language, with_languages
from specmeasure.corpus.near_duplicates import find_near_duplicates
from specmeasure.corpus.survey import survey
from specmeasure.records.corpus import CorpusOptions

PROMPTS = Path(__file__).resolve().parents[3] / "shared/data/prompts"
SENTENCES = [
    f"{who} {does} {what} {when}, and then asks how long it will take."
    for who in ("The teacher", "My neighbour", "A pilot", "Our doctor")
    for does in ("repairs", "paints", "sells", "borrows", "forgets")
    for what in ("the old bicycle", "a wooden boat", "two radios", "the garden gate", "a red kite")
    for when in ("on Monday", "after lunch", "in winter")
]


def surveyed(load_rows, *rows, **options):
    return survey(load_rows(*rows, **options))


def codes(found):
    return {one.code for one in found.warnings}


def words(rng, number):
    return " ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(number))


def test_counts_of_a_corpus(load_rows):
    """What was kept, dropped and asked for."""
    found = surveyed(
        load_rows,
        {"prompt": SENTENCES[0], "category": "a", "response": "yes"},
        {"prompt": SENTENCES[0], "category": "a"},
        {"turns": ["Why?", "How?"], "category": "b"},
        {"body": {"prompt": SENTENCES[9], "temperature": 0.5, "stop": ["x"]}, "category": "b"},
    )

    assert (3, 1, 1) == (found.num_prompts, found.num_duplicates, found.num_with_reference)
    assert {"a": 1, "b": 2} == {one.name: one.num_prompts for one in found.categories}
    assert {"1": 2, "2": 1} == {one.name: one.num_prompts for one in found.turns}
    assert {"nothing": 2, "temperature 0.5, 1 stop texts": 1} == {
        one.name: one.num_prompts for one in found.samplings
    }


def test_near_duplicates_are_found():
    """One word changed in a long text is near; another text is not; scripts without spaces too."""
    long = " ".join(SENTENCES[:20])
    rng = random.Random(0)
    thai = "".join(chr(rng.randrange(0x0E01, 0x0E2F)) for _ in range(400))
    other = " ".join(SENTENCES[100:120])

    assert [1, 4] == find_near_duplicates(
        [long, long.replace("Monday", "Tuesday", 1), other, thai + "1", thai + "2"]
    )


def test_a_sorted_file_is_noticed(load_rows):
    """All of one category, then all of the next; the same shuffled is fine."""
    rows = [{"prompt": one, "category": str(n // 20)} for n, one in enumerate(SENTENCES[:80])]
    mixed = random.Random(0).sample(rows, len(rows))

    assert "category-ordered" in codes(surveyed(load_rows, *rows))
    assert "category-ordered" not in codes(surveyed(load_rows, *mixed))


def test_duplicates_are_warned_about_above_five_percent(load_rows):
    """Six of a hundred are, five are not."""
    rows = [{"prompt": words(random.Random(n), 9)} for n in range(95)]

    assert "duplicates" not in codes(surveyed(load_rows, *rows, *rows[:5]))
    assert "duplicates" in codes(surveyed(load_rows, *rows, *rows[:6]))


def test_a_shared_system_prompt_is_noticed(load_rows):
    """A prefix cache would read it once."""
    rows = [
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": one}]}
        for one in SENTENCES[:20]
    ]

    assert "shared-prefix" in codes(surveyed(load_rows, *rows))
    assert "shared-prefix" not in codes(surveyed(load_rows, *[{"prompt": s} for s in SENTENCES]))


def test_a_small_category_is_noticed(load_rows):
    """Nine prompts of a category are few beside others; a single category is not small."""
    rows = [{"prompt": one, "category": "ab"[n < 9]} for n, one in enumerate(SENTENCES[:60])]

    assert "small-category" in codes(surveyed(load_rows, *rows))
    assert "small-category" not in codes(
        surveyed(load_rows, *[r | {"category": "a"} for r in rows])
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("QmFzZTY0" * 80, "encoded"),
        ("deadbeef00" * 80, "encoded"),
        (words(random.Random(1), 300), "random"),
        ("caf\ufffd " * 99, "random"),
        ("a\u0433b x\u4e00y " * 60, "random"),
    ],
)
def test_texts_that_nobody_types(load_rows, text, code):
    """Encoded bytes, random words, decoded random tokens."""
    assert code in codes(surveyed(load_rows, {"prompt": text}))


def test_token_ids_are_flagged(load_rows):
    """Whether they were ever text cannot be seen."""
    assert "token-ids" in codes(surveyed(load_rows, {"prompt": [5, 6, 7]}))


@pytest.mark.skipif(not PROMPTS.is_dir(), reason=f"no folder {PROMPTS}")
def test_real_prompts_are_not_called_random():
    """Code, maths and six languages raise no such alarm."""
    corpus = load_corpus([str(PROMPTS)], CorpusOptions(limit=3000))

    assert codes(survey(corpus)) & {"encoded", "random", "token-ids", "shared-prefix"} == set()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How many apples does the farmer sell on the market each week?", "en"),
        ("Combien de pommes le fermier vend-il chaque semaine au march\u00e9 ?", "fr"),
        ("x = [i ** 2 for i in range(10)]", None),
        ("SELECT a FROM b WHERE c = 3", None),
        ("12 + 34 = ?", None),
        ("", None),
    ],
)
def test_languages(text, language):
    """Sentences have one, code and digits have none."""
    assert language == detect_language(text)


def test_languages_are_of_what_is_asked(load_rows):
    """An English system message does not make a German question English."""
    (prompt,) = with_languages(
        load_rows(
            {
                "messages": [
                    {"role": "system", "content": "You are a helpful assistant. " * 20},
                    {"role": "user", "content": "Wie viele Meter l\u00e4uft er jede Woche?"},
                ]
            }
        ).prompts
    )

    assert "de" == prompt.language
