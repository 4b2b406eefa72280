"""The corpora that users have, as they are published."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.corpus.languages import with_languages
from specmeasure.records.corpus import Corpus, CorpusOptions

PROMPTS = Path(__file__).resolve().parents[3] / "shared/data/prompts"
pytestmark = pytest.mark.skipif(not PROMPTS.is_dir(), reason=f"no folder {PROMPTS}")


def load(name: str, **options: Any) -> Corpus:
    return load_corpus([str(PROMPTS / name)], CorpusOptions(**options))


def num_rows(corpus: Corpus) -> int:
    return sum(file.num_rows for file in corpus.files)


def test_spec_bench():
    """480 questions in 13 categories, 80 of them with two turns."""
    corpus = load("spec_bench/question.jsonl")

    assert 480 == num_rows(corpus)
    assert 13 == len(corpus.categories)
    assert 80 == sum(len(prompt.turns) == 2 for prompt in corpus.prompts)
    assert "81" == corpus.prompts[0].prompt_id


def test_spec_bench_sample():
    """26 of 480 keep all eight small categories and share the rest among the five large."""
    corpus = load("spec_bench", limit=26)
    counts = Counter(prompt.category for prompt in corpus.prompts)

    assert 26 == len(corpus.prompts)
    assert 13 == len(counts)
    assert [1] * 8 + [3, 3, 4, 4, 4] == sorted(counts.values())


def test_gsm8k():
    """Questions are chats; the answers are never part of them."""
    corpus = load("gsm8k")

    assert 1319 + 7473 == num_rows(corpus)
    assert ("test", "train") == corpus.categories
    assert not any("####" in prompt.messages[0].content for prompt in corpus.prompts)


def test_humaneval():
    """Gzipped json lines with code to complete."""
    corpus = load("humaneval/HumanEval.jsonl.gz")

    assert 164 == len(corpus.prompts)
    assert "HumanEval/0" == corpus.prompts[0].prompt_id
    assert ("HumanEval",) == corpus.categories
    assert all(prompt.text and "def " in prompt.text for prompt in corpus.prompts)


def test_mbpp():
    """Texts are prompts; four tasks repeat an earlier text."""
    corpus = load("mbpp")

    assert 974 == num_rows(corpus)
    assert [("duplicate", 4)] == [(one.reason, one.num_rows) for one in corpus.dropped]
    assert "jsonl, field text" == corpus.files[0].format


def test_bfcl():
    """Nested conversations in json lines named .json; questions repeat across the files."""
    corpus = load("bfcl")

    assert 600 == num_rows(corpus)
    assert 600 == len(corpus.prompts)  # the same question with other tools is another prompt
    assert all(prompt.tools for prompt in corpus.prompts)
    assert all("user" == prompt.messages[-1].role for prompt in corpus.prompts)


def test_fastchat_dummy():
    """A pretty-printed ShareGPT array; the last answers are dropped."""
    corpus = load("fastchat_dummy")

    assert 500 == num_rows(corpus)
    assert "json array, ShareGPT" == corpus.files[0].format
    assert all("user" == prompt.messages[-1].role for prompt in corpus.prompts)


def test_self_instruct():
    """Instructions from two files, each its own category."""
    corpus = load("self_instruct")

    assert 175 + 252 == num_rows(corpus)
    assert ("seed_tasks", "user_oriented_instructions") == corpus.categories


def test_sgd_multiturn():
    """Long conversations with their own categories."""
    corpus = load("sgd_multiturn.jsonl")

    assert 185 == num_rows(corpus)
    assert 5 == len(corpus.categories)
    assert all(len(prompt.turns) > 1 for prompt in corpus.prompts)


def test_whole_folder():
    """All of them at once: ids are unique, tables are read, nothing is lost."""
    corpus = load(".")

    assert len(corpus.prompts) == len({prompt.prompt_id for prompt in corpus.prompts})
    assert len(corpus.prompts) == sum(file.num_prompts for file in corpus.files)
    assert 11 == sum(file.path.endswith((".csv", ".tsv")) for file in corpus.files)


def test_sql_eval():
    """Five tables with a header; the question is the prompt, the category the query's."""
    corpus = load("sql_eval")

    assert 629 == num_rows(corpus)
    assert {"csv, field question"} == {file.format for file in corpus.files}
    assert "group_by" in corpus.categories


@pytest.mark.parametrize("language", ["en", "de", "zh", "th", "te", "sw"])
def test_mgsm(language):
    """250 problems without a header; the column of numbers is no prompt."""
    corpus = load(f"mgsm/mgsm_{language}.tsv")

    assert 250 == len(corpus.prompts) == num_rows(corpus)
    detected = Counter(prompt.language for prompt in with_languages(corpus.prompts))
    assert detected[language] >= 240
