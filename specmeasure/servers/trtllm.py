"""TensorRT-LLM's words: OpenAI's protocol, with a request's drafts at its choice.

``choices[0].speculative_decoding`` with totals, and in some versions blocks and a histogram, is not
in every release; ``avg_decoded_tokens_per_iter``, which is, tells tokens per pass and not what was
drafted, so that alone nothing is known of drafts. No ids are given beside text.
"""

from typing import Any

from specmeasure.errors import UnexpectedReply
from specmeasure.records.serving import ServingEngine
from specmeasure.records.trace import DraftCounts
from specmeasure.servers.dialect import Piece, Post
from specmeasure.servers.fields import Fields, read_count, read_counts, read_fields
from specmeasure.servers.openai import is_chat, path_for, read_choice, read_chunk, standard_body
from specmeasure.servers.server import Ask

_STATS = "choices[0].speculative_decoding"


class TrtllmDialect:
    """``trtllm-serve``, which refuses fields that it does not know.

    Tokens have no ids here, so ``num_logprobs`` is not sent: alternatives could not be told apart.
    Its metrics page has gauges of iterations, and no counters of drafts.
    """

    engine = ServingEngine.TRTLLM
    metrics_prefix: str | None = None

    def post(self, ask: Ask, model: str) -> Post:
        """The streaming request."""
        top_k = ask.settings.sampling.top_k
        body = standard_body(ask, model) | {
            "top_k": 0 if top_k is None else top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "ignore_eos": ask.ignore_eos,
        }
        if not is_chat(ask):
            body["add_special_tokens"] = isinstance(ask.context, str)
        return Post(path=path_for(ask), body=body)

    def read(self, document: Any) -> Piece:
        """Text, finish reason and usage; drafts where the choice tells of them.

        Raises:
            UnexpectedReply: an error object, or a field of another type or out of range.
        """
        piece = read_chunk(document)
        choice = read_choice(document) or {}
        stats = read_fields(choice, "speculative_decoding", "choices[0]")
        told = piece.finish_reason is not None and "stop_reason" in choice
        return Piece(
            text=piece.text,
            reasoning=piece.reasoning,
            finish_reason=piece.finish_reason,
            at_stop_text=isinstance(choice.get("stop_reason"), str) if told else None,
            num_prompt_tokens=piece.num_prompt_tokens,
            num_emitted_tokens=piece.num_emitted_tokens,
            counts=None if stats is None else read_draft_totals(stats),
        )


def read_draft_totals(stats: Fields) -> DraftCounts | None:
    """One request's drafts; None: the totals are not there, or not under a known name.

    Raises:
        UnexpectedReply: a field of another type, or fields that contradict each other.
    """
    drafted = read_count(stats, "total_draft_tokens", _STATS)
    accepted = read_count(stats, "total_accepted_draft_tokens", _STATS)
    if drafted is None or accepted is None:
        return None
    try:
        return DraftCounts(
            num_draft_tokens=drafted,
            num_accepted_tokens=accepted,
            num_drafted_blocks=read_count(stats, "num_spec_steps", _STATS),
            histogram=read_counts(stats, "acceptance_histogram", _STATS),
        )
    except ValueError as error:
        raise UnexpectedReply(f"{_STATS} contradicts itself: {error}") from error
