"""Each format that engineers have, by small rows of its own."""

import base64
import json

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.records.corpus import AskedSampling

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"n": 2}'}}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "ho"}}]}


def said(prompt):
    return [(message.role, message.content) for message in prompt.messages]


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": [USER, {"role": "assistant", "content": "ho"}]}, "OpenAI chat"),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
         "ShareGPT"),
        ({"turns": ["hi"], "reference": ["ho"]}, "FastChat turns"),
        ({"turns": "hi", "reference": "ho"}, "FastChat turns"),
        ({"instruction": "hi", "input": "", "output": "ho"}, "Alpaca"),
        ({"instruction": "hi", "context": "", "response": "ho", "category": "x"}, "Dolly"),
        ({"instruction": "hi", "instances": [{"input": "", "output": "ho"}]},
         "field instruction"),
        ({"question": "hi", "answer": "ho"}, "field question"),
        ({"request": {"messages": [USER]}, "response": ANSWER}, "request log"),
        ({"proxy_server_request": {"body": {"messages": [USER]}}, "response": ANSWER},
         "LiteLLM log"),
        ({"request_body": json.dumps({"messages": [USER]}), "response_body": json.dumps(ANSWER)},
         "Helicone log"),
        ({"input": {"messages": [USER]}, "output": {"content": "ho"}}, "Langfuse log"),
        ({"input": [USER], "output": {"role": "assistant", "content": "ho"}}, "Langfuse log"),
        ({"input": json.dumps([USER]), "output": "ho"}, "Langfuse log"),
        ({"captureData": {
            "endpointInput": {"data": json.dumps({"messages": [USER]}), "encoding": "JSON"},
            "endpointOutput": {"data": json.dumps(ANSWER), "encoding": "JSON"}}},
         "SageMaker capture"),
    ],
)  # fmt: skip
def test_chats_and_their_recorded_answers(load_rows, row, shape):
    """The prompt without its answer, the answer as reference, the format by name."""
    corpus = load_rows(row)

    assert [("user", "hi")] == said(corpus.prompts[0])
    assert ("ho",) == corpus.prompts[0].references
    assert f"jsonl, {shape}" == corpus.files[0].format


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"prompt": "hi", "response": "ho"}, "field prompt"),
        ({"prompt": "hi", "canonical_solution": "ho"}, "field prompt"),
        ({"text": "hi", "code": "ho"}, "field text"),
        ({"captureData": {
            "endpointInput": {
                "data": base64.b64encode(json.dumps({"inputs": "hi"}).encode()).decode(),
                "encoding": "BASE64",
            },
            "endpointOutput": {"data": json.dumps([{"generated_text": "ho"}])}}},
         "SageMaker capture"),
    ],
)  # fmt: skip
def test_completions_and_their_recorded_answers(load_rows, row, shape):
    """Bare prompts stay bare."""
    corpus = load_rows(row)

    assert "hi" == corpus.prompts[0].text
    assert ("ho",) == corpus.prompts[0].references
    assert f"jsonl, {shape}" == corpus.files[0].format


def test_batch_rows_bring_their_sampling(load_rows):
    """temperature, top_p, seed, stop and the budget of an OpenAI batch row."""
    body = {"messages": [USER], "temperature": 0.7, "top_p": 0.9, "seed": 5, "stop": "END"}

    (prompt,) = load_rows({"custom_id": "a", "body": {**body, "max_completion_tokens": 9}}).prompts

    assert AskedSampling(temperature=0.7, top_p=0.9, seed=5, stop=("END",), max_tokens=9) == (
        prompt.asked
    )


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"prompt": "hi", "output_tokens": 7}, AskedSampling(max_tokens=7)),
        ({"prompt": "hi", "model": "m", "temperature": 0}, AskedSampling(temperature=0.0)),
        ({"messages": [USER], "top_k": -1, "top_p": 1}, AskedSampling()),
        ({"question": "hi", "seed": 3}, AskedSampling()),
    ],
)
def test_requests_alone_bring_sampling(load_rows, row, asked):
    """A dataset's own columns are no request; top_k −1 and top_p 1 ask for nothing."""
    assert asked == load_rows(row).prompts[0].asked


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"temperature": "hot"}, "field temperature is a string, not a number"),
        ({"temperature": -1}, "temperature -1.0 is below 0"),
        ({"top_p": 2}, "top_p 2.0 is not in (0, 1]"),
        ({"max_tokens": 1.5}, "field max_tokens is no whole number"),
        ({"stop": [1]}, "field stop is neither a string nor a list of strings"),
        ({"temperature": 10**400}, "field temperature is no finite number of 64 bits"),
        ({"seed": 2**63}, "field seed is no finite number of 64 bits"),
    ],
)
def test_impossible_sampling_is_refused(refuse_row, body, found):
    """One error that names the parameter."""
    message = refuse_row({"body": {"prompt": "hi", **body}})

    assert message.startswith(f"rows.jsonl:1: {found}. Mend the request")


def test_what_is_not_replayed_is_said(load_rows):
    """Penalties and response formats change what the target says; neutral values do not."""
    rows = [
        {"body": {"prompt": str(n), "frequency_penalty": n, "n": 1}, "custom_id": n}
        for n in range(3)
    ]

    assert ("2 prompts of rows.jsonl set frequency_penalty, which is not replayed.",) == (
        load_rows(*rows).warnings
    )


def test_a_batch_of_prompts_is_several(load_rows):
    """OpenAI's list of prompts, each with an id of its own."""
    corpus = load_rows({"custom_id": "a", "body": {"prompt": ["x", "y"], "max_tokens": 4}})

    assert [("a#1", "x"), ("a#2", "y")] == [(p.prompt_id, p.text) for p in corpus.prompts]


def test_mt_bench_of_the_hub(load_rows):
    """There a list of prompts is one conversation."""
    (prompt,) = load_rows({"prompt": ["x", "y"], "prompt_id": 7, "category": "c"}).prompts

    assert 2 == len(prompt.turns)


def test_aiperf(load_rows):
    """Single turns, turns of a session, and whole payloads."""
    corpus = load_rows(
        {"type": "single_turn", "text": "one", "output_length": 5},
        {"texts": ["two", "parts"]},
        {"session_id": "s", "turns": [{"text": "a"}, {"texts": ["b"]}]},
        {"session_id": "t", "payloads": [{"messages": [USER]}, {"prompt": "p"}]},
        {"texts": ["x"], "image": "y.png"},
    )

    assert ["one", "two\nparts", None, None, "p"] == [prompt.text for prompt in corpus.prompts]
    assert [("user", "a"), ("user", "b")] == said(corpus.prompts[2])
    assert ["s", "t#1", "t#2"] == [prompt.prompt_id for prompt in corpus.prompts[2:]]
    assert 5 == corpus.prompts[0].asked.max_tokens
    assert ["it holds an image; only text is replayed"] == [one.reason for one in corpus.dropped]


def test_functions_become_tools(load_rows):
    """BFCL's functions in OpenAI's form, with JSON schema's names of types."""
    function = {"name": "area", "parameters": {"type": "dict", "properties": {
        "side": {"type": "float"},
        "tags": {"type": "tuple", "items": {"type": "any"}}}}}  # fmt: skip

    (prompt,) = load_rows({"question": [[USER]], "function": [function]}).prompts

    (tool,) = json.loads(prompt.tools)
    assert ("function", "area") == (tool["type"], tool["function"]["name"])
    parameters = tool["function"]["parameters"]
    assert ["object", "number", "array", "string"] == [
        parameters["type"],
        parameters["properties"]["side"]["type"],
        parameters["properties"]["tags"]["type"],
        parameters["properties"]["tags"]["items"]["type"],
    ]


def test_the_same_question_with_other_tools_is_another(load_rows):
    """Tools are part of what is asked."""
    rows = [{"messages": [USER], "tools": [{"function": {"name": n}}]} for n in "ab"]

    assert 2 == len(load_rows(*rows).prompts)


def test_calls_in_the_history_are_kept(load_rows):
    """Their arguments as objects, as templates want them; a final call is the answer."""
    talk = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ]

    (prompt,) = load_rows({"messages": talk}).prompts

    assert ["user", "assistant", "tool"] == [message.role for message in prompt.messages]
    calls = json.loads(prompt.messages[1].extras)["tool_calls"]
    assert {"n": 2} == calls[0]["function"]["arguments"]
    assert {"tool_call_id": "c1"} == json.loads(prompt.messages[2].extras)
    assert () == prompt.references


@pytest.mark.parametrize("name", ["system_prompt", "system", "prefix"])
def test_a_system_prompt_beside_the_prompt(load_rows, name):
    """It makes a chat of both."""
    (prompt,) = load_rows({"prompt": "hi", name: "be kind"}).prompts

    assert [("system", "be kind"), ("user", "hi")] == said(prompt)


@pytest.mark.parametrize(
    "row",
    [
        {"timestamp": 1, "input_length": 5, "output_length": 9, "hash_ids": [1]},
        {"t": 0.1, "in": 5, "out": 9, "hash_ids": [1], "id": 3},
        {"Timestamp": 1, "Model": "m", "Request tokens": 5, "Response tokens": 9},
    ],
)
def test_traces_of_lengths_are_refused(refuse_row, row):
    """Acceptance cannot be measured without text."""
    assert "but holds no text" in refuse_row(row)


def test_paths_of_a_log(load_rows):
    """Prompt, answer, category and labels wherever they are, through JSON kept as text."""
    log = {"call": json.dumps({"ask": {"chat": [USER]}, "team": "search", "hot": True})}

    (prompt,) = load_rows(
        {**log, "out": [{"said": "ho"}]},
        field="call.ask.chat",
        response_field="out[0].said",
        category_field="call.team",
        slice_by=("call.hot", "call.none"),
    ).prompts

    assert [("user", "hi")] == said(prompt)
    assert (("ho",), "search") == (prompt.references, prompt.category)
    assert (("call.hot", "true"), ("call.none", "none")) == prompt.labels


def test_mixed_formats_in_one_file(load_rows):
    """Every row is recognised by its own keys, and the file says all it was."""
    corpus = load_rows(
        {"messages": [USER]}, {"prompt": "a"}, {"instruction": "b", "input": "", "output": "c"}
    )

    assert 3 == len(corpus.prompts)
    assert "jsonl, OpenAI chat and Alpaca, field prompt" == corpus.files[0].format


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER], "system": "be kind"},
        {"messages": [USER], "system": [{"type": "text", "text": "be kind"}]},
        {"body": {"messages": [USER], "system": "be kind"}},
        {"conversations": [{"from": "human", "value": "hi"}], "system": "be kind"},
        {"turns": ["hi"], "system_prompt": "be kind"},
        {"prompt": [USER], "system_prompt": "be kind"},
    ],
)
def test_a_system_prompt_beside_messages(load_rows, row):
    """It opens the chat wherever the messages stand."""
    assert [("system", "be kind"), ("user", "hi")] == said(load_rows(row).prompts[0])


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_among_the_messages_wins(load_rows, role):
    """A chat that opens with its own gets no second one."""
    opening = {"role": role, "content": "be brief"}

    (prompt,) = load_rows({"messages": [opening, USER], "system": "be kind"}).prompts

    assert [(role, "be brief"), ("user", "hi")] == said(prompt)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER], "tools": json.dumps([{"name": "find"}])},
        {"conversations": [{"from": "human", "value": "hi"}], "tools": [{"name": "find"}]},
        {"turns": ["hi"], "functions": [{"name": "find"}]},
        {"question": [[USER]], "function": {"name": "find"}},
    ],
)
def test_tools_in_every_place(load_rows, row):
    """As JSON text, beside any chat, or one function alone."""
    (tool,) = json.loads(load_rows(row).prompts[0].tools)

    assert {"type": "function", "function": {"name": "find"}} == tool


def test_aiperf_with_more_than_text(load_rows):
    """A prompt about an image is not replayed without it."""
    corpus = load_rows({"text": "what is it", "image": "x.png"}, {"text": "hi", "image": ""})

    assert ["hi"] == [prompt.text for prompt in corpus.prompts]
    assert ["it holds an image; only text is replayed"] == [one.reason for one in corpus.dropped]


def test_aiperf_keeps_sampling_under_extra(load_rows):
    """What is asked there is read like the rest, and what is not replayed is said."""
    extra = {"temperature": 0.5, "min_p": 0.1}

    corpus = load_rows({"type": "single_turn", "text": "hi", "output_length": 5, "extra": extra})

    assert AskedSampling(temperature=0.5, max_tokens=5) == corpus.prompts[0].asked
    assert ("1 prompts of rows.jsonl set min_p, which is not replayed.",) == corpus.warnings


def test_placeholders_of_speed_bench(load_rows):
    """Turns that its authors may not ship are no prompts."""
    corpus = load_rows(
        {"turns": ["FULL BENCHMARK DATA SHOULD BE FETCHED FROM ITS SOURCE"]}, {"turns": ["hi"]}
    )

    assert 1 == len(corpus.prompts)
    assert corpus.dropped[0].reason.startswith("a placeholder of SPEED-Bench")


def test_a_path_to_a_batch_keeps_all_of_it(load_rows):
    """No prompt of a request's list is lost at a path."""
    corpus = load_rows({"log": {"prompt": ["x", "y"], "max_tokens": 3}}, field="log")

    assert ["x", "y"] == [prompt.text for prompt in corpus.prompts]


@pytest.mark.parametrize(
    "row",
    [
        {"body": "a mail", "turns": ["hi"]},
        {"request": "GET /", "question": "hi"},
        {"conversation": "c-1", "turns": ["hi"]},
        {"conversation": "hi"},
        {"turn": "hi"},
    ],
)
def test_a_name_alone_makes_no_format(load_rows, row):
    """A field that holds something else than its format does leaves the row to the others."""
    assert [("user", "hi")] == said(load_rows(row).prompts[0])


def test_seeds_are_exact(load_rows):
    """Seeds beyond what a float tells apart stay themselves."""
    assert (
        2**53 + 1 == load_rows({"body": {"prompt": "hi", "seed": 2**53 + 1}}).prompts[0].asked.seed
    )


def test_numbers_of_a_table_are_text(save):
    """A blank cell asks for nothing, and a neutral value is no penalty."""
    save("a.csv", "prompt,max_tokens,frequency_penalty\nhi,12,0\nho,,1\n")

    corpus = load_corpus(["a.csv"])

    assert [12, None] == [prompt.asked.max_tokens for prompt in corpus.prompts]
    assert ("1 prompts of a.csv set frequency_penalty, which is not replayed.",) == corpus.warnings


def test_half_a_surrogate_pair_in_an_answer(save, refusal):
    """Recorded answers are text like prompts."""
    save("a.jsonl", '{"prompt": "hi", "response": "\\ud800"}\n')

    assert "half a surrogate pair" in refusal("a.jsonl")


def test_one_reason_for_all_places(load_rows):
    """Rows that fail at different messages are counted together."""
    rows = [{"messages": [USER] * n + [{"content": "x"}]} for n in (1, 2, 3)]

    (dropped,) = load_rows({"prompt": "hi"}, *rows, skip_bad_lines=True).dropped

    assert ("messages[] has no role", 3) == (dropped.reason, dropped.num_rows)
