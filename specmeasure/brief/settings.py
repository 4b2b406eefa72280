"""Settings to paste into an engine that would run the recommended arm, and when to undo them.

This project's run did not test them on those engines. What each engine is told stands in a module
of its own.
"""

from dataclasses import dataclass

from specmeasure.brief.caveats import method_caveats, mixture_caveats, sampling_caveats
from specmeasure.brief.pasting import Code
from specmeasure.brief.settings_llamacpp import llamacpp_code
from specmeasure.brief.settings_sglang import sglang_code
from specmeasure.brief.settings_transformers import transformers_code
from specmeasure.brief.settings_trtllm import trtllm_code
from specmeasure.brief.settings_vllm import vllm_code
from specmeasure.brief.watch import write_watch
from specmeasure.records.estimates import Costs, Unmeasured
from specmeasure.records.plan import Arm, Method
from specmeasure.records.trace import Manifest

_IN_PYTHON = ("transformers", "TensorRT-LLM")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What to paste, where, and when to take it back."""

    engine: str
    language: str  # of the code block: "sh" or "python"
    code: str
    watch: str | None  # what the engine reports where it no longer pays; None: costs unmeasured


def write_settings(
    manifest: Manifest, arm: Arm, costs: Costs | Unmeasured | None
) -> tuple[EngineSettings, ...]:
    """The arm in the words of every engine that can draft like it."""
    return tuple(
        EngineSettings(
            engine=engine,
            language=language_of(engine),
            code=code,
            watch=write_watch(engine, arm.method, costs) if isinstance(costs, Costs) else None,
        )
        for engine, code in code_by_engine(manifest, arm).items()
        if isinstance(code, str)
    )


def write_caveats(manifest: Manifest, arm: Arm) -> tuple[str, ...]:
    """What a reader must know before pasting, or why there is nothing to paste."""
    codes = code_by_engine(manifest, arm)
    if not any(isinstance(code, str) for code in codes.values()):
        return tuple(method_caveats(manifest, arm, codes))
    caveats = [
        (
            "These settings were not tested on any of these engines by this run: measure there "
            "before relying."
        ),
        (
            "Break-even is this machine's at concurrency 1: batching makes verifying dearer and "
            "raises it."
        ),
    ]
    if any(model.name.startswith("embedded:") for model in manifest.models):
        caveats.append(
            "This run used the embedded demo pair, which no engine can load by these names: the "
            "settings show the shape only."
        )
    return (
        *caveats,
        *mixture_caveats(manifest),
        *method_caveats(manifest, arm, codes),
        *sampling_caveats(manifest, arm),
    )


def code_by_engine(manifest: Manifest, arm: Arm) -> dict[str, Code]:
    """What to paste, or why there is nothing."""
    codes = {
        "vLLM": vllm_code(manifest, arm),
        "SGLang": sglang_code(manifest, arm),
        "llama.cpp": llamacpp_code(manifest, arm),
        "transformers": transformers_code(manifest, arm),
    }
    if arm.method is Method.MEDUSA:
        codes["TensorRT-LLM"] = trtllm_code(manifest, arm)
    return codes


def language_of(engine: str) -> str:
    """Of the engine's code block."""
    return "python" if engine in _IN_PYTHON else "sh"
