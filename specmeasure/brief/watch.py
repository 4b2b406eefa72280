"""What an engine reports where drafting no longer pays, in PromQL."""

from specmeasure.records.estimates import Costs
from specmeasure.records.plan import Method

# by engine: the prefix of its metrics, and its counter of tokens sent
_COUNTERS = {
    "vLLM": ("vllm", "generation_tokens_total"),
    "llama.cpp": ("llamacpp", "tokens_predicted_total"),
}


def write_watch(engine: str, method: Method, costs: Costs) -> str:
    """When to turn it off, in PromQL.

    For lookups vLLM and llama.cpp count no drafts in passes that drafted nothing, so their
    acceptance length says nothing about cost. But every pass, drafted or not, adds one token to
    the accepted ones: passes = generated − accepted. That includes the prefill, which the
    threshold excludes: it reads low by a share of (tokens per pass − 1) / tokens per answer.
    """
    if engine == "transformers":
        return "transformers reports no acceptance: run specmeasure again when the traffic changes."
    looks_up = method in (Method.NGRAM, Method.SUFFIX)
    note = ""
    if engine == "SGLang":
        observed = "avg_over_time(sglang:spec_accept_length[5m])"
        if looks_up:
            note = "; SGLang does above it, since it verifies K drafts even where none matched"
    elif engine not in _COUNTERS:
        return f"What {engine} reports of acceptance was not looked into: measure there."
    else:
        prefix, generated_tokens = _COUNTERS[engine]
        accepted = f"rate({prefix}:spec_decode_num_accepted_tokens_total[5m])"
        generated = f"rate({prefix}:{generated_tokens}[5m])"
        observed = f"1 + {accepted} / rate({prefix}:spec_decode_num_drafts_total[5m])"
        if looks_up:
            observed = f"{generated} / ({generated} - {accepted})"
            note = " (its count of drafts cannot tell: passes that drafted nothing are left out)"
    return (
        f"Turn it off when {observed} stays below {costs.break_even_tokens_per_pass:.2f}: "
        f"there this machine broke even{note}."
    )
