"""Which command starts the server of each arm of a plan."""

import os
from functools import partial
from pathlib import Path

from specmeasure.errors import UsageError
from specmeasure.records.plan import Plan
from specmeasure.records.serving import ServingEngine
from specmeasure.servers.gguf import gguf_file
from specmeasure.servers.launch import LaunchFor
from specmeasure.servers.llamacpp_command import LlamaInstall, find_llamacpp, llamacpp_launch
from specmeasure.servers.vllm_command import vllm_launch
from specmeasure.servers.vllm_install import find_vllm
from specmeasure.servers.vocabularies import refuse_other_vocabularies


def launch_for(plan: Plan, *, cache: Path | None = None) -> LaunchFor:
    """Find the engine, convert models where it needs that, and check every arm's command.

    Args:
        plan: of a managed run.
        cache: where converted models are kept; None: the user's cache folder.

    Raises:
        UsageError: an arm that the engine cannot serve, or an engine argument that is set already.
        ServerNotStarted: the engine is not installed.
        ModelError: a model that cannot be converted, or a draft with another tokenizer.
    """
    serving = plan.serving
    if serving is None:
        raise ValueError("the plan uses no servers")
    refuse_other_vocabularies(plan)
    match serving.engine:
        case ServingEngine.VLLM:
            install = find_vllm(serving.program)
            launch: LaunchFor = partial(vllm_launch, plan, install=install, environ=os.environ)
        case ServingEngine.LLAMACPP:
            installed = LlamaInstall(
                binary=find_llamacpp(serving.program),
                files=_gguf_files(plan, cache or cache_folder() / "gguf"),
                environ=os.environ,
            )
            launch = partial(llamacpp_launch, plan, installed=installed)
        case other:
            raise UsageError(
                f"--engine {other}: specmeasure starts vllm and llamacpp; attach to a running "
                f"{other.display_name} with --baseline-url and --speculative-url."
            )
    for arm in plan.arms:
        launch(arm, 0)
    return launch


def cache_folder() -> Path:
    """The user's own cache folder for specmeasure."""
    found = os.environ.get("XDG_CACHE_HOME")
    return (Path(found) if found else Path.home() / ".cache") / "specmeasure"


def _gguf_files(plan: Plan, cache: Path) -> dict[str, Path]:
    models = [plan.target, *(arm.draft for arm in plan.arms if arm.draft is not None)]
    return {model: gguf_file(model, cache) for model in dict.fromkeys(models)}
