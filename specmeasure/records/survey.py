"""What a look at a corpus showed, before anything was run. Counts, names and places, no text."""

from dataclasses import dataclass

from specmeasure.records.corpus import Dropped, SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many prompts share a value."""

    name: str
    num_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Of one number over the prompts."""

    minimum: float
    median: float
    p95: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyWarning:
    """Something to mend, or to know, before paying for a run."""

    code: str  # "category-ordered", stable for scripts
    message: str  # with the number and what to do


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A corpus by counts; figures under ``num_looked_at`` rest on a sample where it is smaller."""

    files: tuple[SourceFile, ...]
    left_out: tuple[Dropped, ...]  # files of folders
    num_prompts: int  # distinct, before any sampling
    num_duplicates: int  # dropped, exact
    categories: tuple[Count, ...]  # of all prompts
    num_looked_at: int
    num_near_duplicates: int  # prompts that nearly repeat an earlier one, among those looked at
    languages: tuple[Count, ...]
    turns: tuple[Count, ...]
    samplings: tuple[Count, ...]  # what rows ask for
    num_with_reference: int
    num_with_tools: int
    num_characters: Distribution  # of what is asked, all turns
    warnings: tuple[SurveyWarning, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageTokens:
    """How many characters a token holds in one language."""

    language: str
    num_prompts: int
    characters_per_token: float  # Σ characters / Σ tokens
    bytes_per_token: float  # of UTF-8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """The prompts looked at, as one tokenizer sees their first turns."""

    tokenizer: str
    num_prompts: int
    num_tokens: Distribution | None  # None: none could be tokenised
    languages: tuple[LanguageTokens, ...]
    context_limit: int | None  # None: the tokenizer's folder does not say
    num_over_context: int | None  # prompts alone, without an answer
    num_double_bos: int  # template and tokenizer both add one; a run sends one
    has_chat_template: bool
    num_chats: int
    num_tools_ignored: int  # prompts whose tools the template leaves out
    refused: tuple[Dropped, ...]
