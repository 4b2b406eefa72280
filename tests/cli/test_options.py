from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from specmeasure.cli import running
from specmeasure.cli.main import app
from specmeasure.errors import UnusablePolicy, UsageError
from specmeasure.records.decision import Policy

COMMANDS = typer.main.get_command(app).commands


def flags(**given: object) -> SimpleNamespace:
    names = [one.name for one in COMMANDS["brief"].params if one.name != "folder"]
    return SimpleNamespace(params={**dict.fromkeys(names), **given})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str):
    """No parameter of any command goes without a help text."""
    silent = [one.name for one in COMMANDS[name].params if not getattr(one, "help", None)]

    assert [] == silent


def test_resume_accepts_only_options_that_exist():
    """The list of what may stand beside --resume names real parameters."""
    assert running.WITH_RESUME <= {one.name for one in COMMANDS["run"].params}


def test_flags_win_over_the_policy_file(tmp_path: Path):
    """Stated policy, then the file, then single flags."""
    path = tmp_path / "policy.toml"
    path.write_text("min_decode_speedup = 1.5\nmin_prompts = 7\n")
    found = running.policy(flags(policy=path, min_prompts=9, max_memory_gib=0.5), Policy())

    assert (1.5, 9, 2**29) == (
        found.min_decode_speedup,
        found.min_prompts,
        found.max_memory_bytes,
    )


def test_unreadable_policy_names_the_file(tmp_path: Path):
    """A missing policy file is said to be missing."""
    with pytest.raises(UnusablePolicy, match=r"nothing\.toml"):
        running.policy(flags(policy=tmp_path / "nothing.toml"), Policy())


@pytest.mark.parametrize("text", ["", "two", "2,,4", "2.5"])
def test_bad_lengths_are_explained(text: str):
    """--k takes whole numbers."""
    with pytest.raises(UsageError, match="whole numbers"):
        running._lengths(text)


def test_lengths_keep_their_order_and_lose_their_doubles():
    """Each K is measured once, in the order given."""
    assert [4, 2, 8] == running._lengths("4,2,8,2")


def test_a_plan_file_leaves_only_options_that_exist():
    """The list of what may stand beside --plan names real parameters."""
    assert running.WITH_PLAN <= {one.name for one in COMMANDS["run"].params}


@pytest.mark.parametrize(
    ("limit", "most", "expected"), [(None, None, None), (9, None, 9), (None, 7, 7)]
)
def test_the_most_prompts_of_a_run(limit: int | None, most: int | None, expected: int | None):
    """--limit, or --max-prompts where a run ends by itself."""
    asked = {"limit": limit, "max_prompts": most, "until_decided": True}

    assert expected == running._limit(asked)


def test_the_most_prompts_are_said_once():
    """Two options for one number are refused, as is the one that would mean nothing."""
    with pytest.raises(UsageError, match="leave out --limit"):
        running._limit({"limit": 9, "max_prompts": 9, "until_decided": True})
    with pytest.raises(UsageError, match="--limit sets the size"):
        running._limit({"limit": None, "max_prompts": 9, "until_decided": False})
