"""A look at a corpus as a terminal shows it. Counts, names and places; no text."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specmeasure.brief.names import plain, shortened
from specmeasure.brief.numbers import count
from specmeasure.records.corpus import Dropped
from specmeasure.records.survey import Count, Distribution, LanguageTokens, Survey, TokenFacts

_MOST_SHOWN = 20


def survey_tables(survey: Survey, tokens: TokenFacts | None) -> RenderableType:
    """Files, counts and warnings; fits in 100 columns."""
    parts: list[RenderableType] = [_files(survey)]
    reasons = [*survey.left_out, *(reason for file in survey.files for reason in file.dropped)]
    if reasons:
        parts.append(_dropped("Left out", reasons))
    parts += [Text(line) for line in _facts(survey)]
    parts.append(_counts("Category", survey.categories))
    if len(survey.languages) > 1 or tokens is None:
        parts.append(_counts("Language", survey.languages))
    if tokens is not None:
        parts += [Text(line) for line in _token_facts(tokens)]
        parts.append(_languages(tokens.languages))
        if tokens.refused:
            parts.append(_dropped("Refused by the chat template or tokenizer", tokens.refused))
    parts += [Text(f"Warning ({one.code}): {plain(one.message)}") for one in survey.warnings]
    return Group(*parts)


def _files(survey: Survey) -> Table:
    table = _table("File", "Format", "Rows", "Prompts", num_texts=2)
    for file in survey.files:
        revision = "" if file.revision is None else f" at {file.revision[:12]}"
        table.add_row(
            shortened(file.path, at_most=48) + revision,
            plain(file.format),
            count(file.num_rows),
            count(file.num_prompts),
        )
    return table


def _dropped(title: str, dropped: Sequence[Dropped]) -> Table:
    merged: dict[str, tuple[int, list[str]]] = {}
    for one in dropped:
        number, places = merged.get(one.reason, (0, []))
        merged[one.reason] = (number + one.num_rows, [*places, *one.places])
    table = _table(title, "Where first", "Rows", num_texts=2)
    ordered = sorted(merged.items(), key=lambda item: -item[1][0])
    for reason, (number, places) in ordered[:_MOST_SHOWN]:
        shown = ", ".join(shortened(place, at_most=30) for place in places[:2])
        table.add_row(plain(reason), shown, count(number))
    return table


def _facts(survey: Survey) -> list[str]:
    sample = (
        f" The figures below are of {count(survey.num_looked_at, 'prompt')} drawn from them."
        if survey.num_looked_at < survey.num_prompts
        else ""
    )
    in_all = f"{count(survey.num_prompts, 'prompt')} in {count(len(survey.files), 'file')}"
    kinds = {
        "Near-duplicates": survey.num_near_duplicates,
        "with recorded responses": survey.num_with_reference,
        "with tools": survey.num_with_tools,
    }
    return [
        f"{in_all}, {count(survey.num_duplicates, 'exact duplicate')} dropped.{sample}",
        ", ".join(f"{name} {count(number)}" for name, number in kinds.items()) + ".",
        f"Characters asked: {_spoken(survey.num_characters)}.",
        f"Turns: {_listed(survey.turns)}.",
        f"Rows ask for: {_listed(survey.samplings)}.",
    ]


def _token_facts(tokens: TokenFacts) -> list[str]:
    lines = [f"Tokenizer {plain(tokens.tokenizer)}, {count(tokens.num_prompts, 'prompt')}."]
    if tokens.num_tokens is not None:
        lines.append(f"Prompt tokens: {_spoken(tokens.num_tokens)}.")
    if tokens.context_limit is None:
        lines.append("Context: the tokenizer does not say.")
    else:
        over = count(tokens.num_over_context or 0, "prompt")
        lines.append(f"Context {count(tokens.context_limit, 'token')}: {over} beyond it.")
    if tokens.num_chats and not tokens.has_chat_template:
        lines.append("No chat template: messages of chats would be joined by newlines.")
    if tokens.num_tools_ignored:
        said = count(tokens.num_tools_ignored, "prompt")
        lines.append(f"The chat template leaves out the tools of {said}.")
    if tokens.num_double_bos:
        said = count(tokens.num_double_bos, "prompt")
        lines.append(f"Two BOS tokens in {said}: a run sends one.")
    return lines


def _languages(languages: Sequence[LanguageTokens]) -> Table:
    """The token tax: how many times the tokens of the best language, character for character."""
    table = _table(
        "Language", "Prompts", "Characters per token", "Bytes per token", "Tokens per character"
    )
    most = max((one.characters_per_token for one in languages), default=1.0)
    for one in languages[:_MOST_SHOWN]:
        table.add_row(
            plain(one.language),
            count(one.num_prompts),
            f"{one.characters_per_token:.2f}",
            f"{one.bytes_per_token:.2f}",
            f"{most / one.characters_per_token:.1f}× the least",
        )
    return table


def _counts(title: str, counts: Sequence[Count]) -> Table:
    table = _table(title, "Prompts")
    for one in counts[:_MOST_SHOWN]:
        table.add_row(shortened(one.name, at_most=60), count(one.num_prompts))
    if len(counts) > _MOST_SHOWN:
        rest = sum(one.num_prompts for one in counts[_MOST_SHOWN:])
        table.add_row(f"{count(len(counts) - _MOST_SHOWN)} more", count(rest))
    return table


def _listed(counts: Sequence[Count]) -> str:
    shown = [f"{plain(one.name)} ({count(one.num_prompts)})" for one in counts[:6]]
    more = [f"{count(len(counts) - 6)} more"] if len(counts) > 6 else []
    return "; ".join([*shown, *more])


def _spoken(values: Distribution) -> str:
    return (
        f"{values.minimum:,.0f} at least, median {values.median:,.0f}, p95 {values.p95:,.0f}, "
        f"{values.maximum:,.0f} at most"
    )


def _table(*names: str, num_texts: int = 1) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for place, name in enumerate(names):
        is_text = place < num_texts
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    return table
