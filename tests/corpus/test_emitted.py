"""Recorded answers become ids with their place, and what cannot be audited says so."""

import io
import json
from pathlib import Path

import pytest

from specmeasure.corpus.emitted import read_emitted
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.plan import Sampling

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
ROW = {"prompt_token_ids": [1, 7], "token_ids": [5, 6]}


def read(*rows):
    return read_emitted(
        ["-"], stdin=io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
    )


def refusal(*rows):
    with pytest.raises(UnreadableCorpus) as caught:
        read(*rows)
    return str(caught.value)


def test_a_plain_row_is_an_answer():
    """Ids as they stand; without an arm it is one of the answers; sampling is the flags' matter."""
    (answer,) = read(ROW)

    assert ("stdin:1", "prompt 1", "answers") == (answer.source, answer.prompt_id, answer.arm)
    assert ((1, 7), (5, 6), None) == (answer.prompt_ids, answer.token_ids, answer.sampling)


def test_prompts_are_known_by_their_ids():
    """Two arms answer one prompt; another prompt counts on, and a given name wins."""
    answers = read(
        {**ROW, "arm": "baseline"},
        {**ROW, "arm": "ngram k=4"},
        {"prompt_ids": [1, 8], "token_ids": [5], "prompt_id": "mine"},
    )

    assert ["prompt 1", "prompt 1", "mine"] == [answer.prompt_id for answer in answers]
    assert ["baseline", "ngram k=4", "answers"] == [answer.arm for answer in answers]


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"prompt_token_ids": [1, 7], "token_ids": [5, 6]}]},  # vLLM, completions
        {"prompt_token_ids": [1, 7], "choices": [{"token_ids": [5, 6]}]},  # vLLM, chat
        {"prompt_token_ids": [1, 7], "outputs": [{"token_ids": [5, 6]}]},  # vLLM, offline
        {"prompt_token_ids": [1, 7], "tokens": [5, 6]},  # llama.cpp
    ],
)
@pytest.mark.parametrize("place", [None, "response", "batch"])
def test_response_bodies_are_read(body, place):
    """Bodies as the engines send them, alone, in a field, or in a batch's response."""
    row = {None: body, "response": {"response": body}, "batch": {"response": {"body": body}}}[place]
    (answer,) = read(row)

    assert ((1, 7), (5, 6)) == (answer.prompt_ids, answer.token_ids)


def test_what_vllms_server_sent_is_read():
    """A completion, one with n = 2, and a chat, as vLLM 0.32.0 gave them."""
    answers = read_emitted([str(PAYLOADS / "vllm-0.32.0-return-token-ids.jsonl")])

    assert [(1, 766, 663, 201), (1, 766, 663, 584)] == [
        answer.prompt_ids for answer in (answers[0], answers[-1])
    ]
    assert ["prompt 1", "prompt 2", "prompt 2", "prompt 3"] == [a.prompt_id for a in answers]
    assert {12} == {len(answer.token_ids) for answer in answers}


def test_every_choice_is_an_answer():
    """n = 2 gives two answers to one prompt."""
    first, second = read({"prompt_ids": [1], "choices": [{"token_ids": [5]}, {"token_ids": [6]}]})

    assert ((5,), (6,)) == (first.token_ids, second.token_ids)
    assert first.prompt_id == second.prompt_id


@pytest.mark.parametrize(
    ("asked", "sampling"),
    [
        ({"temperature": 0, "top_p": 0.9}, Sampling()),
        ({"temperature": 0.7, "top_k": -1, "top_p": 1}, Sampling(temperature=0.7)),
        ({"temperature": 1, "top_k": 20, "top_p": 0.9, "n": 2, "ignore_eos": True}, None),
        ({"request": {"temperature": 0.5}}, Sampling(temperature=0.5)),
        ({"sampling_params": '{"temperature": 0.5}'}, Sampling(temperature=0.5)),
    ],
)
def test_rows_say_how_they_were_drawn(asked, sampling):
    """A temperature makes the row's settings complete; values that limit nothing are none."""
    (answer,) = read({**ROW, **asked})

    assert (sampling or Sampling(temperature=1, top_k=20, top_p=0.9)) == answer.sampling


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"token_ids": None}, "stdin:1: field token_ids is null. Write the emitted ids"),
        ({"token_ids": "5 6"}, "stdin:1: field token_ids is a string, not a list of token ids."),
        ({"token_ids": []}, "stdin:1: field token_ids is empty."),
        ({"token_ids": [5, "6"]}, "stdin:1: field token_ids[1] is a string, not a token id."),
        ({"token_ids": [5, True]}, "stdin:1: field token_ids[1] is a boolean, not a token id."),
        ({"token_ids": [5, -1]}, "stdin:1: field token_ids[1] is below 0."),
        ({"prompt_token_ids": []}, "stdin:1: field prompt_token_ids is empty. Write the ids"),
        ({"choices": [{"token_ids": None}]}, "stdin:1: field choices[0].token_ids is null."),
        ({"arm": 1.5}, "stdin:1: field arm is a number, not a name."),
        ({"top_p": 0.9}, "stdin:1: field top_p without a temperature."),
        ({"temperature": "hot"}, "stdin:1: field temperature is a string, not a number."),
        ({"temperature": -1}, "stdin:1: temperature -1.0 is below 0."),
        ({"min_p": 0.1}, "stdin:1: field min_p changes what the target would say"),
    ],
)
def test_a_row_that_cannot_be_audited_says_where_and_what_to_do(change, found):
    """File, line, field and remedy."""
    assert refusal({**ROW, **change}).startswith(found)


def test_a_row_without_ids_names_its_fields():
    """What is missing, what is there, and how to get it from the engine."""
    said = refusal({"prompt": "secret", "text": "secret"})

    assert "stdin:1: no field prompt_token_ids; this row has prompt, text." in said
    assert "return_token_ids" in said
    assert "secret" not in said


def test_two_prompts_cannot_share_a_name():
    """A name stands for the same prompt ids wherever it is given."""
    said = refusal({**ROW, "prompt_id": "a"}, {**ROW, "prompt_id": "a", "prompt_token_ids": [9]})

    assert said.startswith("stdin:2: prompt_id names another prompt than at stdin:1")


def test_other_words_than_json_are_refused():
    """A line that is no object, and a file without rows."""
    with pytest.raises(UnreadableCorpus, match="stdin:1: plain text where an object is expected"):
        read_emitted(["-"], stdin=io.BytesIO(b"hello\n"))
    with pytest.raises(UnreadableCorpus, match="-: no answers"):
        read_emitted(["-"], stdin=io.BytesIO(b""))
