"""All figures of a brief, by name."""

from specmeasure.brief.canvas import Picture
from specmeasure.brief.figures_blocks import blocks_figure
from specmeasure.brief.figures_drift import drift_figure
from specmeasure.brief.figures_lengths import lengths_figure
from specmeasure.brief.figures_load import load_figure
from specmeasure.brief.figures_lossy import lossy_figure
from specmeasure.brief.figures_prompts import prompts_figure
from specmeasure.brief.plots import acceptance_figure, speedup_figure
from specmeasure.records.decision import Decision
from specmeasure.records.estimates import Estimates
from specmeasure.records.load_curve import LoadCurve

FIGURES = (
    "load",
    "speedup_by_k",
    "prompt_speedups",
    "speedup",
    "acceptance",
    "lossy",
    "block_time",
    "drift",
)
FIGURE_FILES = tuple(f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png"))
CAPTIONS = {
    "load": "Decode speedup of each arm, and tokens per second of all requests, over the load.",
    "speedup_by_k": "Decode speedup over K, the most drafts of a block, for each candidate.",
    "prompt_speedups": "How many prompts decode at or below each speedup, arm by arm.",
    "speedup": "Decode speedup of each slice and arm, with intervals.",
    "acceptance": "Share of blocks that kept each draft position and all before it.",
    "lossy": "Decode speedup of loose rules against what they change, the strict arm beside them.",
    "block_time": "Time of a block by what it was spent on, beside the tokens that it yields.",
    "drift": "The machine's own pace over the run; speedups are paired within each cycle.",
}


def draw_figures(
    estimates: Estimates, decision: Decision, curve: LoadCurve | None = None
) -> dict[str, Picture]:
    """Those that have something to show."""
    drawn = {
        "load": load_figure(curve, decision) if curve else None,
        "speedup_by_k": lengths_figure(estimates, decision),
        "prompt_speedups": prompts_figure(estimates, decision),
        "speedup": speedup_figure(estimates, decision),
        "acceptance": acceptance_figure(estimates),
        "lossy": lossy_figure(estimates),
        "block_time": blocks_figure(estimates, decision),
        "drift": drift_figure(estimates),
    }
    return {name: picture for name, picture in drawn.items() if picture is not None}
