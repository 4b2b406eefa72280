"""From a wish and a pilot to a plan that a run carries out."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from specmeasure.api.looking import MOST_LOOKED_AT
from specmeasure.api.prompts import (
    pinned_sources,
    read_prompts,
)
from specmeasure.api.runs import start
from specmeasure.corpus.load import load_corpus
from specmeasure.estimate import precision
from specmeasure.records.precision import MeasurementPlan, Wish
from specmeasure.records.request import Request
from specmeasure.records.trace import Trace
from specmeasure.run.watch import SILENT, Watchers

PILOT_REPEATS = 2  # the fewest that tell timing noise from prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A measurement plan, and the request that carries it out."""

    plan: MeasurementPlan
    request: Request


def plan_measurement(
    request: Request, wish: Wish, *, num_pilot_prompts: int, watchers: Watchers = SILENT
) -> Planned:
    """How many prompts and repeats the wish needs.

    Args:
        request: what is to be run; its limit and repeats are what is planned.
        wish: what the run should tell.
        num_pilot_prompts: run first, twice each; 0 plans on stated assumptions.
        watchers: told what happens.

    Raises:
        SpecmeasureError: as ``start``, and a pilot that answers too little.
    """
    looked_at = load_corpus(request.sources, replace(request.options, limit=MOST_LOOKED_AT))
    sizes = dict(looked_at.sizes)
    spread, cost = precision.ASSUMED, None
    if num_pilot_prompts:
        trace = _pilot(request, num_pilot_prompts, watchers)
        spread, cost = precision.pilot_spread(trace), precision.pilot_cost(trace)
    plan = precision.plan_measurement(wish, spread, sizes, cost=cost)
    options = replace(request.options, limit=plan.num_prompts)
    corpus = read_prompts(request.sources, options)
    planned = replace(
        request,
        plan=replace(request.plan, num_repeats=plan.num_repeats),
        sources=pinned_sources(request.sources, corpus),
        options=options,
        corpus_fingerprint=corpus.fingerprint,
    )
    return Planned(plan=plan, request=planned)


def _pilot(request: Request, num_prompts: int, watchers: Watchers) -> Trace:
    """A small run whose folder is not kept."""
    small = replace(
        request,
        plan=replace(
            request.plan, num_repeats=PILOT_REPEATS, include_text=False, answer_check=None
        ),
        options=replace(request.options, limit=num_prompts),
    )
    with TemporaryDirectory(prefix="specmeasure-pilot-") as folder:
        return start(small, Path(folder) / "pilot", watchers=watchers)
