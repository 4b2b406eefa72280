"""How a llama.cpp server of one arm is started: the binary, or xllamacpp in this interpreter."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from specmeasure.errors import ServerNotStarted, UsageError
from specmeasure.records.plan import Arm, Method, Plan
from specmeasure.servers import llamacpp_main
from specmeasure.servers.launch import (
    Launch,
    refuse_other_methods,
    refuse_reserved,
    served_name,
    without_keys,
)
from specmeasure.servers.llamacpp_settings import Setting, settings_of

METHODS = (Method.BASELINE, Method.DRAFT_MODEL, Method.NGRAM)
_MANAGED = "specmeasure chooses it"
_OPEN_FLAGS = frozenset(
    (
        *("--ctx-size", "--threads", "--threads-batch", "--n-gpu-layers"),
        *("--spec-draft-n-min", "--spec-draft-p-min"),
        *("--spec-draft-threads", "--spec-draft-threads-batch"),
    )
)  # ours are defaults, a user's come after them
_SHUT_FLAGS = dict.fromkeys(
    (
        *("--api-key", "--api-key-file", "--cache-prompt", "--slot-save-path"),
        *("--log-prompts-dir", "--log-verbose", "--verbose", "--log-verbosity", "--verbosity"),
        *("--draft", "--draft-n", "--draft-max", "--model-draft"),
    ),
    "prompts are private and not cached, drafts are the plan's",
)
_SHUT_ATTRIBUTES = dict.fromkeys(
    ("api_keys", "path_prompts_log_dir", "slot_save_path", "verbosity"),
    "prompts are private and not cached",
)
_LONG_NAMES = {
    "-m": "--model",
    "-a": "--alias",
    "-np": "--parallel",
    "-md": "--spec-draft-model",
    "-ctk": "--cache-type-k",
    "-ctv": "--cache-type-v",
    "-ctkd": "--spec-draft-type-k",
    "-ctvd": "--spec-draft-type-v",
    "-v": "--verbose",
    "-lv": "--verbosity",
    "-cram": "--cache-ram",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaInstall:
    """What the commands of a run's servers have in common."""

    binary: str | None  # None: xllamacpp in this interpreter
    files: Mapping[str, Path]  # GGUF files of target and drafts, by the name in the plan
    environ: Mapping[str, str]  # this process's


def find_llamacpp(program: str | None) -> str | None:
    """The binary's path; None: xllamacpp in this interpreter.

    Raises:
        ServerNotStarted: neither is there.
    """
    if program is not None:
        path = Path(program).absolute()
        if not path.is_file():
            raise ServerNotStarted(f"--llama-server {program}: no such file.")
        return str(path)
    if importlib.util.find_spec("xllamacpp") is None:
        raise ServerNotStarted(
            "llama.cpp's server is not installed: pip install 'specmeasure[llamacpp]', or name a "
            "llama-server binary with --llama-server."
        )
    return None


def llamacpp_launch(plan: Plan, arm: Arm, port: int, *, installed: LlamaInstall) -> Launch:
    """The command of the arm's server. Pure.

    ``--engine-args`` are the binary's own options, or, with xllamacpp, ``name=value`` for each
    attribute of its CommonParams, e.g. ``speculative.synth_rates=[0.8,0.5]``.

    Raises:
        UsageError: an arm that llama.cpp cannot serve, or an argument that specmeasure sets.
    """
    refuse_other_methods(arm, METHODS, "llama.cpp")
    files, binary = installed.files, installed.binary
    settings = tuple(settings_of(plan, arm, port, files))
    added = plan.serving.engine_args if plan.serving else ()
    if binary is None:
        words = _with_assignments(settings, added, drafts=not arm.is_baseline)
        argv = (sys.executable, "-P", llamacpp_main.__file__, *words)
    else:
        argv = (binary, *_with_flags(settings, added))
    return Launch(
        argv=argv,
        env=without_keys() | _no_foreign_settings(installed.environ),
        model=served_name(plan.target),
        notes=tuple(_notes(arm, added)),
    )


def _notes(arm: Arm, added: Sequence[str]) -> Iterator[str]:
    if arm.method is Method.NGRAM:
        yield (
            f"{arm.name}: llama.cpp drafts what followed the latest earlier occurrence of the last "
            f"{arm.min_ngram} tokens (its ngram-simple); vLLM, and specmeasure in process, what "
            f"followed the first one of the longest, up to {arm.max_ngram}. Acceptance differs."
        )
    if any("synth" in word for word in added):
        yield "Acceptance is synthetic, by --engine-args: no figure speaks of these models."


def _with_flags(settings: Sequence[Setting], added: Sequence[str]) -> tuple[str, ...]:
    """Ours, then the user's: of two, the binary takes the last."""
    names = [word.partition("=")[0] for word in added if word.startswith("-")]
    ours = {one.flag: _MANAGED for one in settings if one.flag not in _OPEN_FLAGS}
    refuse_reserved([_LONG_NAMES.get(name, name) for name in names], ours | _SHUT_FLAGS)
    return (*(word for one in settings for word in one.as_flag()), *added)


def _with_assignments(
    settings: Sequence[Setting], added: Sequence[str], *, drafts: bool
) -> tuple[str, ...]:
    """Ours, then the user's; those of speculation on the arms that draft alone."""
    if any("=" not in word for word in added):
        raise UsageError(
            "--engine-args: xllamacpp's server takes name=value for attributes of its "
            "CommonParams, e.g. n_batch=512; name a binary with --llama-server to use its options."
        )
    ours = {one.attribute: _MANAGED for one in settings if one.flag not in _OPEN_FLAGS}
    refuse_reserved([word.partition("=")[0] for word in added], ours | _SHUT_ATTRIBUTES)
    kept = [word for word in added if drafts or not word.startswith("speculative.")]
    return (*(one.as_assignment() for one in settings), *kept)


def _no_foreign_settings(environ: Mapping[str, str]) -> dict[str, str | None]:
    """llama.cpp reads any of its options from the environment, too: unseen, so none of them."""
    return dict.fromkeys(name for name in environ if name.startswith("LLAMA_ARG_"))
