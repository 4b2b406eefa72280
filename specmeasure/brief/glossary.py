"""Words of a brief that are explained in the glossary beside it."""

import re
from importlib import resources

FILE = "glossary.md"
# as written on a page; the first of a meaning on a page is linked
_ANCHORS = {
    "Decode speedup": "decode-speedup",
    "decode speedup": "decode-speedup",
    "Median prompt": "median-prompt",
    "A/A": "aa",
    "TTFT": "ttft",
    "TPOT": "tpot",
    "p95": "percentiles",
    "τ": "tau",
    "Drafts accepted": "acceptance-rate",
    "break even": "break-even",
    "break-even": "break-even",
    "near-ties": "near-tie",
    "near-tie": "near-tie",
    "Near-tie": "near-tie",
    "divergent": "divergence",
    "diverged": "divergence",
    "policy": "policy",
    "Divergent": "divergence",
    "lossy": "lossless",
    "distribution": "pit",
    "slices": "slice",
    "Holm": "holm",
    "Bonferroni": "holm",
    "intervals": "interval",
    "heads": "heads",
    "lookup": "lookup",
    "draft model": "draft-model",
    "In flight": "concurrency",
    "Throughput": "throughput",
    "throughput": "throughput",
    "Goodput": "goodput",
    "SLO": "slo",
    "windows": "window",
    "closed loop": "closed-loop",
    "open loop": "open-loop",
    "Evidence": "evidence",
    "α": "alpha",
    "c": "c",
    "v": "v",
    "o": "o",
}
_LETTERS = r"[cvo](?= = \d)"  # with their values, as in "c = 0.081"
_WORDS = re.compile(
    r"(?<!\w)(?:"
    + "|".join([re.escape(word) for word in _ANCHORS if len(word) > 1 or word in "τα"] + [_LETTERS])
    + r")(?!\w)"
)


def glossary() -> str:
    """The glossary, as it is written beside a brief."""
    return resources.files("specmeasure.brief").joinpath(FILE).read_text(encoding="utf-8")


class Linker:
    """Links each word to the glossary where a page says it first."""

    def __init__(self) -> None:
        self._linked: set[str] = set()

    def link(self, text: str) -> str:
        """Escaped markdown without links of its own, with links."""
        return _WORDS.sub(self._first, text)

    def _first(self, found: re.Match[str]) -> str:
        word = found[0]
        anchor = _ANCHORS[word]
        if anchor in self._linked:
            return word
        self._linked.add(anchor)
        return f"[{word}]({FILE}#{anchor})"
