"""As fast as the hardware? Steps, verifications and answers of our loop on one GPU.

    python -m benchmarks.gpu [--sizes 0.5B,1.5B,7B] [--compiled 1.5B] [--out gpu] [--minutes 8]
    python -m benchmarks.gpu --device cpu --dtype float32 --sizes tiny

Models of Llama's layout with random weights in bfloat16. What is compared is interleaved: copies of
a large tensor and steps of target and draft; verifications of K = 1 … 16 drafts at three contexts;
answers of our loop and of transformers, whose drafts are accepted alike. Passes over a static cache
are CUDA graphs; a CPU has none, and no aim is judged there. Writes OUT.json and OUT.md after every
size. Sizes that are not begun when MINUTES are over are left out, and named.

On an H100 the three sizes are meant to take under 8 minutes. ``--compiled`` compiles the one- and
two-row passes of these sizes as well, which takes minutes each.
"""

import argparse
import gc
import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pynvml
import torch
from transformers.utils import logging as transformers_logging

from benchmarks.gpu_answers import time_answers
from benchmarks.gpu_models import SIZES, Size, build
from benchmarks.gpu_passes import Pair, time_steps, time_verifications
from benchmarks.gpu_report import Found, markdown
from specmeasure.decode.graphs import graphs_of
from specmeasure.decode.static_model import StaticCausalLM

WRONG_SHARE = 0.2  # of the drafts


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    device = torch.empty(0, device=options.device).device  # with its number
    transformers_logging.set_verbosity_error()
    machine = _machine(device, options)
    out, found, left_out = Path(options.out), list[Found](), list[str]()
    deadline = time.monotonic() + 60 * options.minutes
    for name in options.sizes.split(","):
        if time.monotonic() > deadline:
            left_out.append(name)
            continue
        begun = time.monotonic()
        found.append(_measured(SIZES[name], device, options))
        print(f"{name}: {time.monotonic() - begun:.0f} s")
        _write(out, machine, found, left_out)
    _write(out, machine, found, left_out)
    print(out.with_suffix(".md").read_text())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--sizes", default="0.5B,1.5B,7B", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--compiled", default="", help="sizes whose steps are compiled, too")
    parser.add_argument("--out", default="gpu", help="two files, with .json and .md behind")
    parser.add_argument("--rounds", type=int, default=5, help="of all that is compared")
    parser.add_argument("--runs", type=int, default=10, help="of a pass, in each round")
    parser.add_argument("--minutes", type=float, default=8.0)
    options = parser.parse_args(arguments)
    for name in filter(None, f"{options.sizes},{options.compiled}".split(",")):
        if name not in SIZES:
            parser.error(f"no size {name!r}; there are {', '.join(SIZES)}")
    if options.compiled and options.device == "cpu":
        parser.error("--compiled: compiled passes are captured, which needs a CUDA device")
    return options


def _measured(size: Size, device: torch.device, options: argparse.Namespace) -> Found:
    """Of one size; its memory is given back."""
    pair = _pair(size, device, getattr(torch, options.dtype))
    counts = {"num_rounds": options.rounds, "num_runs": options.runs}
    steps = time_steps(pair, compiled=size.name in options.compiled.split(","), **counts)
    answers = time_answers(pair, wrong_share=WRONG_SHARE, **counts)
    verifications = [  # the longest first, so that its room is set aside once
        one
        for context in sorted(size.contexts, reverse=True)
        for one in time_verifications(pair, context, **counts)
    ]
    del pair
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Found(
        name=size.name,
        is_gpu=device.type == "cuda",
        steps=steps,
        verifications=sorted(verifications, key=lambda one: one.context),
        answers=answers,
    )


def _pair(size: Size, device: torch.device, dtype: torch.dtype) -> Pair:
    target = build(size.target, size, device=device, dtype=dtype)
    draft = build(size.draft, size, device=device, dtype=dtype)
    graphs = graphs_of(device, wanted=True)
    return Pair(
        size=size,
        target=target,
        draft=draft,
        static_target=StaticCausalLM(target, graphs),
        static_draft=StaticCausalLM(draft, graphs),
    )


def _machine(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else platform.processor() or "cpu",
        "driver": _driver() if is_gpu else None,
        "CUDA": torch.version.cuda if is_gpu else None,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "Python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "graphs": is_gpu,
        "dtype": options.dtype,
        "rounds": options.rounds,
        "runs": options.runs,
    }


def _driver() -> str:
    pynvml.nvmlInit()
    return str(pynvml.nvmlSystemGetDriverVersion())


def _write(out: Path, machine: dict[str, Any], found: list[Found], left_out: list[str]) -> None:
    document = {
        "machine": machine,
        "sizes": [one.as_json() for one in found],
        "left_out": left_out,
    }
    out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(machine, found, left_out))


if __name__ == "__main__":
    main()
