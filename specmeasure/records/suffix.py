"""How suffix lookup limits its drafts, and the same in the words of vLLM's method of that name."""

MAX_SPEC_FACTOR = 1.0  # drafts per token that matched, at most
MIN_TOKEN_PROB = 0.1  # of all drafts up to one, by their frequencies; below it the block ends
_MAX_TREE_DEPTH, _MAX_CACHED_REQUESTS = 24, 10_000  # vLLM's defaults


def vllm_suffix(num_speculative_tokens: int, *, caches_answers: bool) -> dict[str, object]:
    """Of ``--speculative-config``, vLLM 0.32.

    All K drafts need a match of K tokens, and match and drafts share the depth.
    """
    return {
        "method": "suffix",
        "num_speculative_tokens": num_speculative_tokens,
        "suffix_decoding_max_tree_depth": max(_MAX_TREE_DEPTH, 2 * num_speculative_tokens),
        "suffix_decoding_max_cached_requests": _MAX_CACHED_REQUESTS if caches_answers else 0,
        "suffix_decoding_max_spec_factor": MAX_SPEC_FACTOR,
        "suffix_decoding_min_token_prob": MIN_TOKEN_PROB,
    }
