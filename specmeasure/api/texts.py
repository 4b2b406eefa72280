"""Ids of a trace as text again, by the tokenizer of its target."""

from specmeasure.brief.tokens import Detokenise
from specmeasure.records.trace import Trace


def detokeniser(trace: Trace) -> Detokenise | None:
    """What turns ids into text; None where the trace kept no ids.

    Raises:
        ModelError: the tokenizer cannot be loaded here.
    """
    plan = trace.manifest.plan
    if not plan.include_text:
        return None
    from specmeasure.engines.loading import load_tokenizer

    tokenizer = load_tokenizer(plan.target, plan.options)
    return lambda ids: str(tokenizer.decode(list(ids)))
