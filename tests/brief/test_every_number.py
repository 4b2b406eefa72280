"""Every number of a brief stands in the files beside it, as rounded.

These are estimates.json, decision.json, manifest.json and, of a run on servers, load.json.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from specmeasure.api.schema import estimates_document
from specmeasure.brief.markdown import render_details, render_markdown
from specmeasure.brief.served import Served
from specmeasure.records.estimates import Interval
from specmeasure.records.load_curve import LoadCurve
from tests.brief import examples, examples_load
from tests.brief.golden_trace import golden_records

NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e-\d+)?"
SPOKEN = re.compile(
    rf"(?<![\w.#])(?P<value>{NUMBER})(?![\w^]|\.\d)"
    r"(?P<unit>×| %|%| ms| µs| s(?!\w)| points| B(?!\w)| [KMG]iB| [kMG] parameters)?"
    rf"(?: \[(?P<low>{NUMBER}), (?P<high>{NUMBER})\])?"
)
SCALES = {
    "×": 1,
    " %": 100,
    "%": 100,
    " points": 100,
    " s": 1,
    " ms": 1 / 1e-3,
    " µs": 1 / 1e-6,
    " B": 1,
    " KiB": 2**-10,
    " MiB": 2**-20,
    " GiB": 2**-30,
    " k parameters": 1e-3,
    " M parameters": 1e-6,
    " G parameters": 1e-9,
}
NEVER_SPOKEN = {"prompt_speedups", "pace"}  # drawn only; so many would hide any made-up number
FIXED = {  # what sentences, formulas and settings say whatever was measured
    *("1", "1.00"),  # no change, A/A
    "5 %",  # of runs, family-wise
    "80 %",  # the power that detectable shares are stated at
    *("2023", "2211.17192"),  # the textbook
    *("0.32", "55005"),  # a released engine that samples wrongly
    "0.0",  # transformers' confidence threshold, which is turned off
    *("429", "503"),  # refusals that are asked again
    "0",  # llama.cpp's least chance of a draft, which is turned off
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A number as written, its unit, and its bounds where it has them."""

    number: str
    unit: str
    bounds: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([f"{self.number}{self.unit}", *self.bounds])

    def means(self, *values: float) -> bool:
        """Whether these are the numbers that were written."""
        scale = SCALES.get(self.unit, 1)
        written = zip(values, (self.number, *self.bounds), strict=True)
        return all(is_spoken(value * scale, number) for value, number in written)


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What stands in the files beside a brief."""

    counts: frozenset[int]
    numbers: tuple[float, ...]  # that have no interval
    intervals: tuple[tuple[float, float, float], ...]
    written: frozenset[Spoken]  # inside their texts

    def __contains__(self, told: Spoken) -> bool:
        if told in self.written:
            return True
        if told.bounds:
            return any(told.means(*one) for one in self.intervals)
        if not told.unit and told.number.replace(",", "").isdigit():
            return int(told.number.replace(",", "")) in self.counts
        return any(told.means(one) for one in (*self.numbers, *self.counts))


def documents(records: examples.Records, curve: LoadCurve | None = None) -> Documents:
    """The files of a run folder.

    With the lengths of their lists, two sums, and K + 1, the tokens that a pass verifies.
    """
    manifest, estimates, decision = records
    files = [estimates_document(estimates), *map(msgspec.to_builtins, (decision, manifest))]
    files += [msgspec.to_builtins(curve)] if curve else []
    leaves = [leaf for file in files for leaf in leaves_of(file)]
    arms = [estimates.baseline, *estimates.arms]
    measured = [
        part for arm in arms for part in arm.slices if isinstance(part.decode_speedup, Interval)
    ]
    sums = [sum(one.num_rows for one in manifest.corpus.dropped), len(measured)]
    positions = range(1, 2 + max(arm.num_speculative_tokens for arm in arms))
    return Documents(
        counts=frozenset([*sums, *positions, *(one for one in leaves if type(one) is int)]),
        numbers=tuple(one for one in leaves if type(one) is float),
        intervals=tuple(one for one in leaves if isinstance(one, tuple)),
        written=frozenset(
            told for one in leaves if isinstance(one, str) for told in numbers_of(one)
        ),
    )


def leaves_of(value: Any) -> Iterator[Any]:
    """All that is no container; of an interval its three numbers; how long every list is."""
    if isinstance(value, dict) and "low" in value:
        yield value["value"], value["low"], value["high"]
        yield value["num_clusters"]
        yield value["level"]
    elif isinstance(value, dict):
        for name, one in value.items():
            if name not in NEVER_SPOKEN:
                yield from leaves_of(one)
    elif isinstance(value, list | tuple):
        yield len(value)
        for one in value:
            yield from leaves_of(one)
    else:
        yield value


def numbers_of(text: str) -> Iterator[Spoken]:
    """Every number with its unit and its bounds; targets of links are no text."""
    for found in SPOKEN.finditer(re.sub(r"\]\([^)]*\)", "]", text)):
        bounds = [found["low"], found["high"]] if found["low"] else []
        yield Spoken(
            number=found["value"].rstrip(","), unit=found["unit"] or "", bounds=tuple(bounds)
        )


def is_spoken(value: float, number: str) -> bool:
    """Whether the value is written like this: with so many decimals, or so many digits."""
    plain = number.replace(",", "").removeprefix("+")
    decimals = len(plain.partition(".")[2])
    return plain in {f"{value:.{decimals}f}", f"{value:.2g}", f"{value:.3g}"}


def made_up(text: str, records: examples.Records, curve: LoadCurve | None = None) -> list[str]:
    """Numbers that stand neither in the documents nor among the fixed ones."""
    known = documents(records, curve)
    told = dict.fromkeys(numbers_of(text))
    return [str(one) for one in told if str(one) not in FIXED and one not in known]


RECORDS = {
    **{name: getattr(examples, name) for name in ("go", "no_go", "inconclusive")},
    "sampled": examples.sampled,
    "noisy": examples.noisy,
    "trace": golden_records,
}


@pytest.mark.parametrize("render", [render_markdown, render_details])
@pytest.mark.parametrize("name", RECORDS)
def test_every_number_is_in_the_documents(name, render):
    """Nothing is computed on the way to the page."""
    records = RECORDS[name]()

    assert [] == made_up(render(*records, figures={}), records)


@pytest.mark.parametrize("render", [render_markdown, render_details])
@pytest.mark.parametrize("name", examples_load.EXAMPLES)
def test_every_number_of_a_server_run_is_in_the_documents(name, render):
    """The curve's, too."""
    served = examples_load.EXAMPLES[name]()
    page = render(*served.records, figures={}, served=Served(curve=served.curve))

    assert [] == made_up(page, served.records, served.curve)


@pytest.mark.parametrize(
    "claim", ["1.63× [1.54, 1.69]", "171.5 [168.0, 174.8]", "15.4", "3.13 %", "concurrency 1,907"]
)
def test_a_made_up_number_of_a_server_run_is_found(claim):
    """Of a curve one wrong digit is enough."""
    served = examples_load.managed()
    page = render_details(*served.records, figures={}, served=Served(curve=served.curve))

    assert made_up(f"{page}\nAlso {claim}.", served.records, served.curve)


@pytest.mark.parametrize(
    "claim",
    ["1.39×", "74.9 %", "13.9 ms", "2.93 [2.82, 3.00]", "0.89× [0.84, 0.91]", "7.7 MiB", "161"],
)
def test_a_made_up_number_is_found(claim):
    """One wrong digit is enough."""
    records = examples.go()
    brief = render_markdown(*records, figures={})

    assert made_up(f"{brief}\nAlso {claim}.", records)


@pytest.mark.parametrize(("true", "false"), [("1.42×", "1.41×"), ("30,112", "30,113")])
def test_a_changed_number_is_found(true, false):
    """Where a brief says it, not only in a line of its own."""
    records = examples.go()
    brief = render_markdown(*records, figures={})

    assert true in brief
    assert made_up(brief.replace(true, false), records)
