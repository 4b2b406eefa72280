"""Ids of a trace as text again, by the tokenizer of its target."""

from specmeasure.brief.tokens import Detokenise
from specmeasure.records.trace import Trace


def detokeniser(trace: Trace) -> Detokenise | None:
    """What turns ids into text; None where no ids were kept, or no tokenizer is known.

    Raises:
        ModelError: the tokenizer cannot be loaded here.
    """
    plan = trace.manifest.plan
    name = plan.serving.tokenizer if plan.serving else plan.target
    if not plan.include_text or name is None:
        return None
    from specmeasure.engines.loading import load_tokenizer

    tokenizer = load_tokenizer(name, plan.options)
    return lambda ids: str(tokenizer.decode(list(ids)))
