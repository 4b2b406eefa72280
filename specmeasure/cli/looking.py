"""A corpus on the terminal: what was read, and what should be known before paying for a run."""

import typer

from specmeasure import api
from specmeasure.brief.survey import survey_tables
from specmeasure.cli.running import corpus_options, wide_console
from specmeasure.errors import UsageError
from specmeasure.records.plan import ModelOptions


def look(context: typer.Context) -> None:
    """Read the prompts, and tokenise them where a tokenizer is named; print tables or JSON."""
    asked = context.params
    if not asked["prompts"]:
        raise UsageError("no prompts: name files, folders or - for stdin.")
    seen = api.look(
        tuple(asked["prompts"]),
        corpus_options(asked),
        tokenizer=asked["tokenizer"],
        model_options=ModelOptions(trust_remote_code=asked["trust_remote_code"]),
    )
    if asked["as_json"]:
        print(api.as_json(seen))
    else:
        wide_console().print(survey_tables(seen.survey, seen.tokens))
