"""Files of recorded answers as token ids: plain rows, and the response bodies of vLLM.

Knows no vocabulary: whether a target has these ids is asked later. Text is never read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TypeGuard

from specmeasure.corpus.asked import not_replayed, read_asked
from specmeasure.corpus.formats import rows_of
from specmeasure.corpus.paths import follow, unpacked
from specmeasure.corpus.problems import BadRow, json_type, name_fields
from specmeasure.corpus.sources import find_sources
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.audit import RecordedAnswer
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.plan import Sampling

DEFAULT_ARM = "answers"
_PROMPT_FIELDS = ("prompt_token_ids", "prompt_ids")
_ANSWER_FIELDS = ("token_ids", "tokens")  # "tokens" is what llama.cpp calls them
_CHOICES = ("choices", "outputs")  # of vLLM's server and of its offline results
_REQUESTS = ("request", "sampling_params", "params")  # where rows may keep what was asked for
_LIMITS = ("top_p", "top_k")
_HARMLESS = frozenset(("n", "ignore_eos"))  # asked for more answers, or longer ones
_PROMPT_REMEDY = (
    "Write the ids that the engine read, BOS included, as prompt_token_ids; vLLM returns them "
    'with "return_token_ids": true'
)
_ANSWER_REMEDY = (
    'Write the emitted ids as token_ids; vLLM returns them with "return_token_ids": true, '
    'llama.cpp as tokens with "return_tokens": true'
)
_OPTIONS = CorpusOptions()


def read_emitted(
    words: Sequence[str],  # files, folders, globs, or "-" for stdin
    *,
    stdin: IO[bytes] | None = None,
) -> tuple[RecordedAnswer, ...]:
    """All answers in order; the same prompt ids have the same prompt id.

    Raises:
        UnreadableCorpus: with file, line, field and remedy; one bad row refuses all, since an audit
            that leaves answers out proves nothing of them.
    """
    answers: list[RecordedAnswer] = []
    names = _Names()
    for source in find_sources(words).sources:
        with rows_of(source, _OPTIONS, stdin) as stream:
            for row in stream.rows:
                try:
                    answers += _answers_of(row.value, row.source, names)
                except BadRow as problem:
                    raise UnreadableCorpus(f"{row.source}: {problem}") from problem
    if not answers:
        raise UnreadableCorpus(
            f"{', '.join(words)}: no answers. Write one JSON object a line, with prompt_token_ids "
            "and token_ids."
        )
    return tuple(answers)


class _Names:
    """One name for each prompt: the user's, or its number in order of appearance."""

    def __init__(self) -> None:
        self._by_ids: dict[tuple[int, ...], str] = {}
        self._places: dict[str, str] = {}

    def of(self, prompt_ids: tuple[int, ...], given: str | None, source: str) -> str:
        known = self._by_ids.get(prompt_ids)
        if known is not None:
            return known
        name = given or f"prompt {len(self._by_ids) + 1}"
        if name in self._places:
            raise BadRow(
                f"prompt_id names another prompt than at {self._places[name]}: its prompt ids "
                "differ",
                "Give each prompt an id of its own, or leave prompt_id out",
            )
        self._by_ids[prompt_ids], self._places[name] = name, source
        return name


def _answers_of(value: object, source: str, names: _Names) -> Iterator[RecordedAnswer]:
    if isinstance(value, BadRow):
        raise value
    if not isinstance(value, Mapping):
        raise BadRow("plain text where an object is expected", "Write one JSON object a line")
    row = {**_response(value), **value}
    for prefix, inner in _bodies(row):
        prompt_field, prompt = _find(inner, row, prefix, _PROMPT_FIELDS, _PROMPT_REMEDY)
        answer_field, answer = _find(inner, {}, prefix, _ANSWER_FIELDS, _ANSWER_REMEDY)
        prompt_ids = _ids(prompt, prompt_field, _PROMPT_REMEDY)
        given = _name(row, "prompt_id")
        yield RecordedAnswer(
            source=source,
            prompt_id=names.of(prompt_ids, given, source),
            arm=_name(row, "arm") or DEFAULT_ARM,
            prompt_ids=prompt_ids,
            token_ids=_ids(answer, answer_field, _ANSWER_REMEDY),
            sampling=_sampling(row),
        )


def _response(row: Mapping[str, object]) -> Mapping[str, object]:
    """A server's response where the row keeps it in a field of its own."""
    found = (unpacked(row.get(name)) for name in ("response", "body"))
    nested = follow(row, "response.body")  # OpenAI's batch files
    return next((one for one in (nested, *found) if isinstance(one, Mapping)), {})


def _bodies(row: Mapping[str, object]) -> list[tuple[str, Mapping[str, object]]]:
    """Every answer that the row holds, with the path to it."""
    for name in _CHOICES:
        choices = row.get(name)
        if _is_objects(choices):
            return [(f"{name}[{place}].", choice) for place, choice in enumerate(choices)]
    return [("", row)]


def _is_objects(value: object) -> TypeGuard[list[Mapping[str, object]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _find(
    inner: Mapping[str, object],
    outer: Mapping[str, object],
    prefix: str,
    fields: Sequence[str],
    remedy: str,
) -> tuple[str, object]:
    """The first field that says something, in the answer or beside it, with its path."""
    places = [(f"{prefix}{name}", inner.get(name)) for name in fields]
    places += [(name, outer.get(name)) for name in fields]
    for path, value in places:
        if value is not None:
            return path, unpacked(value)
    if any(name in row for row in (inner, outer) for name in fields):
        raise BadRow(f"field {prefix}{fields[0]} is null", remedy)
    raise BadRow(f"no field {fields[0]}; this row has {name_fields({**outer, **inner})}", remedy)


def _ids(value: object, path: str, remedy: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise BadRow(f"field {path} is {json_type(value)}, not a list of token ids", remedy)
    if not value:
        raise BadRow(f"field {path} is empty", remedy)
    for place, token in enumerate(value):
        if type(token) is not int:
            raise BadRow(f"field {path}[{place}] is {json_type(token)}, not a token id", remedy)
        if token < 0:
            raise BadRow(f"field {path}[{place}] is below 0", remedy)
    return tuple(value)


def _name(row: Mapping[str, object], field: str) -> str | None:
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise BadRow(f"field {field} is {json_type(value)}, not a name", "Write a text")
    return str(value)


def _sampling(row: Mapping[str, object]) -> Sampling | None:
    """How the row says that its answer was drawn; all of it, or nothing."""
    asked_for: dict[str, object] = {}
    for name in _REQUESTS:
        inner = unpacked(row.get(name))
        asked_for |= inner if isinstance(inner, Mapping) else {}
    asked_for |= row
    changed = [name for name in not_replayed(asked_for) if name not in _HARMLESS]
    if changed:
        raise BadRow(
            f"field {changed[0]} changes what the target would say, and is not audited",
            "Record answers without it, or leave these rows out",
        )
    asked = read_asked(asked_for)
    if asked.temperature is None:
        limit = next((name for name in _LIMITS if getattr(asked, name) is not None), None)
        if limit is not None:
            raise BadRow(
                f"field {limit} without a temperature", "Write the temperature beside it, 0: greedy"
            )
        return None
    if asked.temperature == 0:
        return Sampling()
    return Sampling(temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p)
