from specmeasure import demo
from specmeasure.engines.tokens import token_facts
from specmeasure.records.corpus import Message, Prompt
from specmeasure.records.plan import ModelOptions


def prompt(name, text, **changes):
    said = (Message(role="user", content=text),)
    return Prompt(prompt_id=name, category="c", source=f"f:{name}", messages=said, **changes)


def facts(*prompts):
    return token_facts(demo.TARGET, prompts, ModelOptions())


def test_lengths_are_those_that_a_run_sends():
    """Through the chat template: longer than the words alone, and ordered."""
    found = facts(*(prompt(str(n), "How far is it? " * n) for n in range(1, 21)))

    assert found.num_prompts == 20
    assert 4 < found.num_tokens.minimum < found.num_tokens.median < found.num_tokens.maximum
    assert found.has_chat_template


def test_the_token_tax_of_a_language():
    """A script that the tokenizer hardly knows takes more tokens for a character."""
    thai = "\u0e40\u0e1b\u0e47\u0e14\u0e02\u0e2d\u0e07" * 5
    found = facts(
        prompt("1", "How many eggs does it lay?", language="en"), prompt("2", thai, language="th")
    )

    by_language = {one.language: one for one in found.languages}
    assert by_language["en"].characters_per_token > 2 * by_language["th"].characters_per_token


def test_what_cannot_be_sent_is_counted():
    """Prompts beyond the context, ids of another tokenizer, tools that the template leaves out."""
    foreign = Prompt(prompt_id="x", category="c", source="f:9", token_ids=(10**6,))
    found = facts(prompt("1", "word " * 3000), foreign, prompt("2", "Hi", tools="[{}]"))

    assert (2048, 1) == (found.context_limit, found.num_over_context)
    assert [("f:9",)] == [one.places for one in found.refused]
    assert 1 == found.num_tools_ignored
