"""Simulate everything and write the page that users read.

    python -m calibration [--workloads 2000] [--processes N] [--out docs/calibration.md]

A section is a module of this package with ``def section(effort: Effort) -> str``: markdown that
starts with a heading of the second level, the same at the same number of workloads. It simulates
by ``effort.each(function)``, which spreads seeds over the cores. To add one, write the module and
name it in ``SECTIONS``.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy reads it

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from calibration import audit_power, coverage, decisions, sequential
from calibration.effort import Effort

SECTIONS = (coverage, decisions, sequential, audit_power)
INTRODUCTION = """# How far the numbers can be trusted

Every interval and every verdict of specmeasure rests on statistics that can be wrong in ways that
no single run shows. So they are tested on workloads whose true values are known. `make calibrate`
repeats all of it with the same random seeds and writes this page; it takes about {minutes} minutes
on two cores.

What is simulated: answers with lognormal lengths (the longest of a hundred is ten times the median,
at most 256 tokens), four categories of traffic and prompts within them that differ in how well they
are drafted, acceptance that comes in easy and hard stretches, blocks of four drafts cut by the end
of the answer or the budget, and a machine whose speed wanders by several percent and now and then
jumps by 15 % between two trials. Every workload goes through the same code as a recorded run: the
baseline, its repetition (A/A) and the speculative arms are decoded back to back on every prompt,
then estimated and decided. True values are exact expectations, not simulated ones. What is not
simulated: prompts that are not independent of each other, and traffic that differs from the corpus.
"""
MINUTES = 30  # measured on two cores, beside other work


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate the statistics of specmeasure.")
    parser.add_argument("--workloads", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("docs/calibration.md"))
    options = parser.parse_args()
    page = [INTRODUCTION.format(minutes=MINUTES)]
    with ProcessPoolExecutor(options.processes) as executor:
        effort = Effort(num_workloads=options.workloads, executor=executor)
        for module in SECTIONS:
            began = time.monotonic()
            page.append(module.section(effort) + "\n")
            print(f"{module.__name__}: {time.monotonic() - began:.0f} s", flush=True)
    options.out.write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
