"""Earlier answers from runs and from prompt files, without a model."""

import json
from collections import Counter
from dataclasses import dataclass

import pytest

from specmeasure.engines.past_outputs import load_past_answers, past_notes, past_outputs_of
from specmeasure.errors import UsageError
from specmeasure.proposers.past_answers import PastAnswer, PastAnswers
from specmeasure.proposers.suffix_automaton import ROOT
from specmeasure.records.plan import BASELINE, Arm, Method
from specmeasure.trace import store
from tests.fakes import (
    NGRAM_4,
    VOCAB_SIZE,
    FakeEngine,
    make_chat,
    make_plan,
    make_prompts,
    record_into,
)


@dataclass
class Letters:
    """A tokenizer of one id for each character."""

    num_ids: int = VOCAB_SIZE
    chat_template: str | None = None
    bos_token_id: int | None = None

    def get_vocab(self):
        return {f"t{number}": number for number in range(self.num_ids)}

    def __call__(self, text, **_):
        return {"input_ids": [ord(letter) for letter in text]}

    def __len__(self):
        return self.num_ids


def past_of(folder, **changes):
    """A recorded run of three prompts and a conversation, twice each, by two arms."""
    plan = make_plan(BASELINE, NGRAM_4, num_repeats=2, **{"include_text": True, **changes})
    engine = FakeEngine(plan=plan)
    prompts = [*make_prompts(3), make_chat("talk", 2)]
    record_into(folder, engine, prompts)
    return engine, prompts


def text_of(past: PastAnswers) -> set[str]:
    """Answers as their tokenizer wrote them."""
    return {"".join(map(chr, one)) for one in past._answers}


def test_a_run_counts_every_turn_once(tmp_path):
    """Five turns of the baseline, whatever repeats and arms there are beside it."""
    past_of(tmp_path)

    assert 5 == load_past_answers(str(tmp_path), Letters()).num_answers


def test_a_conversations_own_answers_are_left_out(tmp_path):
    """At its first turn those of its later ones, too, by how it began; no other prompt's."""
    engine, prompts = past_of(tmp_path)
    past = load_past_answers(str(tmp_path), Letters())
    num_tokens = Counter()
    for one in store.read_trace(tmp_path).trials:
        if one.key.arm == "baseline" and one.key.repeat == 0:
            num_tokens[one.key.prompt_id] += one.num_emitted_tokens
    single_tokens = past.automaton.transitions[ROOT].values()
    found = {
        prompt.prompt_id: sum(own.get(state, 0) for state in single_tokens)
        for prompt in prompts
        for own in [past.own_counts([*engine.context_ids(prompt, []), 5, 6, 7])]
    }

    assert num_tokens == found
    assert not past.own_counts([9, 9, 9])


@pytest.mark.parametrize(
    ("num_ids", "include_text", "said"),
    [
        (VOCAB_SIZE, False, "Record it with --include-text"),
        (3, True, "the target's tokenizer has 3"),
    ],
)
def test_a_run_that_is_no_past(tmp_path, num_ids, include_text, said):
    """Ids that were not kept, and ids that the target does not have, are refused with a remedy."""
    past_of(tmp_path, include_text=include_text)

    with pytest.raises(UsageError, match=said):
        load_past_answers(str(tmp_path), Letters(num_ids=num_ids))


def test_recorded_responses_are_answers(tmp_path):
    """Every response of a file is indexed, those of prompts without one are not missed."""
    rows = [{"prompt": "Why?", "response": "So."}, {"prompt": "When?"}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    past = load_past_answers(str(tmp_path / "log.jsonl"), Letters())

    assert {"So."} == text_of(past)
    assert past.own_counts([ord(letter) for letter in "Why?"])
    assert not past.own_counts([ord(letter) for letter in "When?"])


def test_prompts_alone_are_no_past(tmp_path):
    """The error names what is missing."""
    (tmp_path / "asked.jsonl").write_text('{"prompt": "Why?"}\n')

    with pytest.raises(UsageError, match="no recorded responses"):
        load_past_answers(str(tmp_path / "asked.jsonl"), Letters())


def test_sources_are_read_once():
    """Arms at several K share theirs."""
    suffix = Arm(name="suffix", method=Method.SUFFIX, num_speculative_tokens=1, past_outputs="log")

    assert ["log"] == past_outputs_of([BASELINE, suffix.at(2), suffix.at(4), NGRAM_4])


def test_what_is_looked_up_is_said():
    """How many answers and tokens, and how many older ones the bound leaves out."""
    answers = [PastAnswer(opening_ids=(9,), token_ids=(number, number)) for number in range(3)]
    (whole,) = past_notes([("log", PastAnswers(answers))])
    (cut,) = past_notes([("log", PastAnswers(answers, most_tokens=4))])

    assert "Past outputs log: 3 answers of 6 tokens" in whole
    assert "bound" not in whole
    assert "2 answers of 4 tokens" in cut
    assert " 1 older ones pass the bound" in cut
