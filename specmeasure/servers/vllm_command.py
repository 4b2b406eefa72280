"""How a vLLM server of one arm is started."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specmeasure.demo import embedded_folder
from specmeasure.errors import UsageError
from specmeasure.records.plan import Arm, DraftSampling, Method, NgramPick, Plan
from specmeasure.records.suffix import vllm_suffix
from specmeasure.servers.launch import (
    HOST,
    Launch,
    highest_concurrency,
    num_threads,
    refuse_other_methods,
    refuse_reserved,
    served_name,
    without_keys,
)
from specmeasure.servers.vllm_install import VllmInstall

METHODS = (
    Method.BASELINE,
    Method.DRAFT_MODEL,
    Method.MEDUSA,
    Method.NGRAM,
    Method.SUFFIX,
    Method.SERVED,
)
GPU_SHARE = 0.9  # of a GPU's memory, for all servers that are up together
_GIBIBYTES_OF_CACHE = "1"  # on a CPU, where vLLM would take half of the machine's memory
_MANAGED = "specmeasure chooses it"
_RESERVED = {
    "--model": "--target",
    "--served-model-name": "it is the target's name",
    "--host": _MANAGED,
    "--port": _MANAGED,
    "--uds": _MANAGED,
    "--api-key": "the server listens to this machine alone",
    "--dtype": "--dtype",
    "--config": "give its settings one by one",
    "--generation-config": "sampling is sent with every request",
    "--override-generation-config": "sampling is sent with every request",
    "--enable-prefix-caching": "a cached prompt would not be measured",
    "--no-enable-prefix-caching": "it is always set",
    "--enable-log-requests": "prompts are private",
    "--disable-log-stats": "its counters are what is measured",
    "--per-request-spec-decode-metrics": "it is set on speculative arms",
    "--speculative-config": "--draft, --ngram or --speculative-config of specmeasure itself",
    "-sc": "--draft, --ngram or --speculative-config of specmeasure itself",
    "--spec-method": "--draft, --ngram or --speculative-config",
    "--spec-model": "--draft, --ngram or --speculative-config",
    "--spec-tokens": "--k",
}


def vllm_launch(
    plan: Plan, arm: Arm, port: int, *, install: VllmInstall, environ: Mapping[str, str]
) -> Launch:
    """The command of the arm's server. Pure. What ``environ`` sets of vLLM's own stands.

    Raises:
        UsageError: an arm that vLLM cannot serve, or an engine argument that specmeasure sets.
    """
    refuse_other_methods(arm, METHODS, "vLLM")
    added = plan.serving.engine_args if plan.serving else ()
    refuse_reserved(_flags(added), _RESERVED)
    model = model_path(plan.target)
    argv = (
        *(install.program, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--served-model-name", served_name(plan.target)),
        *("--host", HOST, "--port", str(port), "--dtype", plan.options.dtype),
        *("--generation-config", "vllm", "--no-enable-prefix-caching"),
        *("--uvicorn-log-level", "warning"),
        *(() if plan.options.trust_remote_code is False else ("--trust-remote-code",)),
        *_num_sequences(plan, added),
        *_gpu_share(plan, added, install),
        *_speculation(plan, arm, install),
        *added,
    )
    drafting = [model_path(name) for name in (arm.draft, arm.heads) if name]
    models = [model, *drafting]
    return Launch(
        notes=_notes(plan, added, install),
        argv=argv,
        env=_environment(plan, install, environ, is_local=all(Path(m).is_dir() for m in models)),
        model=served_name(plan.target),
    )


def model_path(model: str) -> str:
    """An embedded model's or a local folder's absolute path; a hub id as it is."""
    path = embedded_folder(model) or Path(model)
    return str(path.resolve()) if path.exists() else model


def _speculation(plan: Plan, arm: Arm, install: VllmInstall) -> tuple[str, ...]:
    """Both flags of a speculative arm. On a baseline the second one is an error to vLLM."""
    if arm.is_baseline:
        return ()
    config = json.dumps(speculative_config(plan, arm, install))
    blocks = ("--per-request-spec-decode-metrics", "detailed") if install.tells_blocks else ()
    return ("--speculative-config", config, *blocks)


def speculative_config(plan: Plan, arm: Arm, install: VllmInstall) -> dict[str, Any]:
    """The engine's own description of how the arm drafts.

    Raises:
        UsageError: drafts that this vLLM cannot make, or acceptance that is made up.
    """
    _refuse_other_drafts(arm)
    length = arm.num_speculative_tokens
    match arm.method:
        case Method.NGRAM:
            return {
                "method": "ngram",
                "num_speculative_tokens": length,
                "prompt_lookup_max": arm.max_ngram,
                "prompt_lookup_min": arm.min_ngram,
            }
        case Method.SUFFIX:
            return vllm_suffix(length, caches_answers=False)
        case Method.MEDUSA if arm.heads is not None:
            return {
                "method": "medusa",
                "model": heads_path(arm.heads),
                "num_speculative_tokens": length,
            }
        case Method.DRAFT_MODEL if arm.draft is not None:
            draws = arm.draft_sampling is DraftSampling.PROBABILISTIC
            return {
                "method": "draft_model",
                "model": model_path(arm.draft),
                "num_speculative_tokens": length,
                **(_drawn_drafts(arm, install) if draws and not plan.sampling.is_greedy else {}),
            }
    return _as_configured(arm)


def heads_path(heads: str) -> str:
    """Where heads stand in vLLM's layout, maybe in a folder of that name inside; a hub id as it is.

    Raises:
        UsageError: a local folder in another layout.
    """
    path = Path(model_path(heads))
    if not path.exists():
        return heads
    own = path / "vllm" if (path / "vllm").is_dir() else path
    config = own / "config.json"
    if config.is_file() and "model_type" not in json.loads(config.read_text(encoding="utf-8")):
        raise UsageError(
            f"--medusa {heads}: vLLM does not read this layout. specmeasure heads train writes "
            "both; of other heads, name a folder in vLLM's layout (model_type: medusa)."
        )
    return str(own)


def _refuse_other_drafts(arm: Arm) -> None:
    """Raise UsageError for an arm that vLLM would draft for otherwise than the plan says."""
    if arm.ngram_pick is NgramPick.LATEST:
        does = "continues the earliest occurrence"
    elif arm.past_outputs is not None:
        does = "keeps its own answers, no file of past ones"
    elif arm.tree is not None:
        does = "drafts chains with Medusa heads, no trees"
    else:
        return
    raise UsageError(f"arm {arm.name!r}: vLLM {does}; plan it without --engine.")


def _drawn_drafts(arm: Arm, install: VllmInstall) -> dict[str, str]:
    if not install.can_sample_drafts:
        raise UsageError(
            f"arm {arm.name!r}: vLLM {install.version} picks a draft model's likeliest tokens "
            "only; plan greedy drafts, or use a vLLM that has draft_sample_method."
        )
    return {"draft_sample_method": "probabilistic"}


def _as_configured(arm: Arm) -> dict[str, Any]:
    try:
        config = json.loads(arm.speculative_config or "")
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise UsageError(
            f"arm {arm.name!r}: --speculative-config is not an object of JSON, as vLLM takes it."
        )
    made_up = [name for name in config if name.startswith("synthetic_")]
    if made_up or config.get("rejection_sample_method") == "synthetic":
        raise UsageError(
            f"arm {arm.name!r}: synthetic acceptance is made up and is not measured; take "
            f"{made_up[0] if made_up else 'rejection_sample_method'} out of --speculative-config."
        )
    if config.get("num_speculative_tokens") != arm.num_speculative_tokens:
        raise UsageError(
            f"arm {arm.name!r}: --speculative-config drafts "
            f"{config.get('num_speculative_tokens')} tokens, the plan {arm.num_speculative_tokens}."
        )
    if isinstance(config.get("model"), str):
        config["model"] = model_path(config["model"])
    return config


def _num_sequences(plan: Plan, added: Sequence[str]) -> tuple[str, ...]:
    """Room for the heaviest load, so that the server does not make requests queue."""
    most = highest_concurrency(plan)
    if most is None:
        return ()
    given = _value_of(added, "--max-num-seqs")
    if given is None:
        return ("--max-num-seqs", str(most))
    if not given.isdigit() or int(given) < most:
        raise UsageError(
            f"--engine-args: --max-num-seqs {given} is below the concurrency of {most}."
        )
    return ()


def _gpu_share(plan: Plan, added: Sequence[str], install: VllmInstall) -> tuple[str, ...]:
    """Each of the servers that are up together gets the same part of a GPU."""
    apart = plan.serving is not None and plan.serving.keep_apart
    num_servers = len(plan.speculative_arms) + 1
    if (
        install.is_for_cpu
        or apart
        or num_servers == 1
        or _value_of(added, "--gpu-memory-utilization") is not None
    ):
        return ()
    return ("--gpu-memory-utilization", f"{GPU_SHARE / num_servers:.3f}")


def _notes(plan: Plan, added: Sequence[str], install: VllmInstall) -> tuple[str, ...]:
    share = _gpu_share(plan, added, install)
    if not share:
        return ()
    note = (
        f"Each vLLM server had {float(share[1]):.0%} of a GPU's memory, because all stay up "
        "together; a server of yours has more room for its cache. --keep-apart gives each all."
    )
    return (note,)


def _environment(
    plan: Plan, install: VllmInstall, environ: Mapping[str, str], *, is_local: bool
) -> dict[str, str | None]:
    wanted = {"VLLM_NO_USAGE_STATS": "1", "PYTHONSAFEPATH": "1"}  # no vllm folder of where we are
    if is_local:
        wanted["HF_HUB_OFFLINE"] = "1"
    if install.is_for_cpu:
        wanted |= {
            "OMP_NUM_THREADS": str(num_threads(plan)),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else its servers share the first cores
            "VLLM_CPU_KVCACHE_SPACE": _GIBIBYTES_OF_CACHE,
            "KMP_BLOCKTIME": "1",  # a thread that spins takes the client's core
            # 0: a model of one process runs in the engine's own. A worker beside it waits by
            # spinning, which starves the API: whole answers arrive in one lump. vLLM wants one for
            # OpenMP's settings, which the whole server has here.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    wanted = {name: environ.get(name, value) for name, value in wanted.items()}
    if install.is_for_cpu and plan.options.num_threads is not None:
        wanted["OMP_NUM_THREADS"] = str(plan.options.num_threads)
    if install.is_for_cpu and install.openmp is not None:
        others = environ.get("LD_PRELOAD")
        wanted["LD_PRELOAD"] = f"{install.openmp}:{others}" if others else install.openmp
    return {**without_keys(), **wanted}


def _flags(words: Sequence[str]) -> list[str]:
    """Names of the options, as vLLM reads them: ``--max_num_seqs=4`` is ``--max-num-seqs``."""
    return [
        word.partition("=")[0].partition(".")[0].replace("_", "-")
        for word in words
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit()
    ]


def _value_of(words: Sequence[str], flag: str) -> str | None:
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        if name.replace("_", "-") == flag:
            return value or (words[place + 1] if place + 1 < len(words) else "")
    return None
