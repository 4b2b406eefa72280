"""`replay` and `compare` as their users meet them: the installed command, on the embedded pair."""

import json
from pathlib import Path

import pytest

from tests.e2e.command import said, specmeasure

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("timed_briefly")]
SMALL = ("prompts/", "--limit", "12", "--max-new-tokens", "16", "--max-k", "4", "--threads", "1")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small greedy replay with one real run."""
    folder = tmp_path_factory.mktemp("replays") / "one"
    done = specmeasure(
        *("replay", *SMALL, "--target", "embedded:target", "--draft", "embedded:draft"),
        *("--ngram", "--early-exit", "6", "--confirm", "2", "--out", str(folder)),
    )
    assert 0 == done.returncode, said(done)
    return folder


def test_a_replay_leaves_a_complete_folder(replayed: Path):
    """Sealed tables, costs, predictions, page and figure, and the real run beside them."""
    assert {
        "replay.json",
        "sealed.json",
        "answers.parquet",
        "positions.parquet",
        "scores.parquet",
        "recording.json",
        "costs.json",
        "predictions.json",
        "replay.md",
        "lengths.svg",
        "confirm",
    } == {path.name for path in replayed.iterdir()}
    assert (replayed / "confirm" / "brief.md").is_file()


def test_real_runs_agree_with_the_replay_exactly(replayed: Path):
    """Every greedy answer of every confirmed arm took the passes that were predicted."""
    agreements = json.loads((replayed / "predictions.json").read_text())["agreements"]

    assert 2 == len(agreements)
    for one in agreements:
        assert one["num_same_answers"] == one["num_equal_counts"] > 0
        assert 0 == one["num_other_answers"]


def test_a_finished_replay_is_concluded_again(replayed: Path):
    """--resume of a finished replay runs nothing and prints exactly one JSON document."""
    done = specmeasure("replay", "--resume", str(replayed), "--json")
    document = json.loads(done.stdout)

    assert 0 == done.returncode, said(done)
    assert {"draft", "early exit 6", "ngram"} == {
        one["name"] for one in document["predictions"]["candidates"]
    }


def test_other_costs_change_the_prediction(replayed: Path, tmp_path: Path):
    """Where drafts and every verified row cost a target step, nothing is predicted to gain."""
    costs = json.loads((replayed / "costs.json").read_text())
    for one in costs["rounds"]:
        one["verify_s"] = [[rows * step for rows in costs["num_rows"]] for step in one["step_s"]]
        for draft in one["drafts"].values():
            draft["draft_s"] = [
                [count * step for count in costs["num_drafts"]] for step in one["step_s"]
            ]
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(costs))
    done = specmeasure("brief", str(replayed), "--costs", str(path), "--json")
    best = json.loads(done.stdout)["predictions"]["candidates"][0]

    assert best["lengths"][0]["decode_speedup"]["value"] <= 1.0


def test_a_replay_with_real_runs_compares_as_a_run(replayed: Path, tmp_path: Path):
    """`compare` takes the replay's folder, ranks its two arms, writes its page."""
    done = specmeasure("compare", str(replayed), "--out", str(tmp_path / "compared"))

    assert 0 == done.returncode, said(done)
    assert (tmp_path / "compared" / "compare.md").is_file()


def test_a_run_against_itself_holds(replayed: Path):
    """The gate of a retrained draft: nothing fell, exit 0."""
    done = specmeasure(
        "compare", str(replayed), "--baseline", str(replayed), "--fail-if-lower", "0.02"
    )

    assert 0 == done.returncode, said(done)
    assert "decision unchanged" in said(done)


def test_compare_on_prompts_replays_and_ranks(tmp_path: Path):
    """Two targets, two drafts, in one call; asking again goes on with what is there."""
    arguments = (
        *("compare", *SMALL, "--target", "embedded:target", "--target", "embedded:draft-large"),
        *("--draft", "embedded:draft", "--ngram", "--confirm", "1", "--out", str(tmp_path)),
    )
    done = specmeasure(*arguments)
    again = specmeasure(*arguments)

    assert 0 == done.returncode, said(done)
    assert {"target", "draft-large", "compare.md", "compare.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert "answering" not in said(again)
    assert done.stdout == again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("replay",), "no prompts: name files"),
        (("replay", "-", "--confirm", "1"), "prompts from stdin are read once"),
        (("replay", "prompts/", "--draft-sampling", "warm"), "use probabilistic, greedy, or both"),
        (("replay", "--resume", "nowhere"), "no replay.json there"),
        (("replay", "--resume", "x", "--costs", "README.md"), "--costs README.md:"),
        (("compare", "prompts/", "--draft", "embedded:draft"), "one candidate, and nothing to"),
        (("compare", "prompts/", "--baseline", "x"), "--baseline takes run folders"),
        (("compare", "prompts/", "--fail-if-lower", "0.1"), "needs --baseline"),
        (("compare", "prompts/", "--ngram", "--confirm", "0"), "--confirm takes 1 or more"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], message: str):
    """Exit code 2, and what to do."""
    done = specmeasure(*arguments)

    assert 2 == done.returncode, said(done)
    assert message in " ".join(said(done).split())


def test_an_early_exit_beyond_the_target_is_refused():
    """The layers that there are."""
    done = specmeasure("replay", *SMALL, "--early-exit", "12")

    assert 1 == done.returncode
    assert "the target has 12 layers; name 1 to 11" in said(done)
