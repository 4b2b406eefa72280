"""Every way to draft in one run of the embedded pair, as a user asks for it."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import SHARED
from tests.e2e.command import said, specmeasure

pytestmark = pytest.mark.slow

Row = dict[str, Any]
TINY = SHARED / "models" / "tiny-python"
TREE, CHAIN = "medusa tree 63", "medusa k=4"
ARMS = {
    *("baseline", "baseline A/A", "draft k=4", CHAIN, TREE, "early exit 6 k=4"),
    *("ngram k=4", "ngram latest k=4", "suffix k=4", "suffix past k=4"),
}
BRIEFLY = ("--max-new-tokens", "20", "--threads", "1", "--quiet")
RESPONSES = [
    "def total(items):\n    result = 0\n    for item in items:\n        result += item\n",
    "def largest(items):\n    best = items[0]\n    for item in items:\n        best = item\n",
]


@dataclass(frozen=True)
class Recorded:
    """What a run left behind."""

    details: str
    trials: list[Row]
    blocks: list[Row]

    @classmethod
    def read(cls, folder: Path) -> "Recorded":
        return cls(
            details=(folder / "details.md").read_text(),
            trials=pq.read_table(folder / "trials.parquet").to_pylist(),
            blocks=pq.read_table(folder / "blocks.parquet").to_pylist(),
        )

    def blocks_of(self, arm: str) -> list[Row]:
        """Blocks that drafted anything."""
        return [
            block
            for block in self.blocks
            if self.trials[block["trial_index"]]["arm"] == arm and block["num_draft_tokens"]
        ]


@pytest.fixture(scope="module")
def every_way(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name every way, with past outputs of other prompts."""
    past = tmp_path_factory.mktemp("past") / "past.jsonl"
    rows = [
        {"prompt": f"Write function {place}.", "response": response}
        for place, response in enumerate(RESPONSES)
    ]
    past.write_text("\n".join(map(json.dumps, rows)))
    return [
        *("--draft", "embedded:draft", "--medusa", "embedded:medusa", "--tree", "paper"),
        *("--early-exit", "6", "--ngram", "--ngram-pick", "earliest,latest"),
        *("--suffix", "--past-outputs", str(past)),
    ]


@pytest.fixture(scope="module")
def greedy(every_way: list[str], tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Six prompts, greedy."""
    folder = tmp_path_factory.mktemp("greedy") / "run"
    done = specmeasure(
        *("run", "prompts/code.jsonl", "prompts/maths.jsonl", "--limit", "6"),
        *(*every_way, *BRIEFLY, "--out", str(folder)),
    )
    assert 0 == done.returncode, said(done)
    return Recorded.read(folder)


def test_every_way_gives_the_targets_own_answer(greedy: Recorded):
    """One hash for each context over all arms, and no suspect among the audited tokens."""
    answers = defaultdict(set)
    arms = defaultdict(set)
    for trial in greedy.trials:
        answers[trial["prompt_hash"]].add(trial["ids_hash"])
        arms[trial["prompt_hash"]].add(trial["arm"])

    assert len(answers) >= 6
    assert {1} == {len(hashes) for hashes in answers.values()}
    assert [ARMS] * len(arms) == list(arms.values())
    assert not [one for one in greedy.trials if one["checks"]["audit"]["suspects"]]


def test_details_set_the_four_ways_beside_each_other(greedy: Recorded):
    """A row for each, with its number of arms."""
    _, _, section = greedy.details.partition("## Ways to draft\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]

    assert {"draft model, 1 arm", "heads, 2 arms", "early exit, 1 arm", "lookup, 4 arms"} == {
        row.split("|")[1].strip() for row in rows[2:]
    }


def test_trees_alone_have_a_depth(greedy: Recorded):
    """A tree's blocks say how deep it went, at most as many levels as there are heads."""
    trees, chains = greedy.blocks_of(TREE), greedy.blocks_of(CHAIN)

    assert {4} == {block["draft_depth"] for block in trees if block["num_draft_tokens"] == 63}
    assert all(block["num_accepted_tokens"] <= block["draft_depth"] <= 4 for block in trees)
    assert max(block["num_accepted_tokens"] for block in trees) > 0
    assert {None} == {block["draft_depth"] for block in chains}
    assert {None} == {
        block["draft_depth"] for arm in ARMS - {TREE} for block in greedy.blocks_of(arm)
    }


def test_sampled_answers_of_every_way_are_tested(every_way: list[str], tmp_path: Path):
    """Each speculative arm has sampled tokens that were tested against the target's law."""
    folder = tmp_path / "run"
    done = specmeasure(
        *("run", "prompts/code.jsonl", "--limit", "2", "--temperature", "0.8"),
        *(*every_way, *BRIEFLY, "--out", str(folder)),
    )
    assert 0 == done.returncode, said(done)
    tested = defaultdict(int)
    for trial in Recorded.read(folder).trials:
        audit = trial["checks"]["sampled_audit"]
        tested[trial["arm"]] += 0 if audit is None else len(audit["pit"])

    assert ARMS == set(tested)
    assert all(tested[arm] > 0 for arm in ARMS if not arm.startswith("baseline"))


def test_a_sweep_of_lossy_thresholds_is_drawn(tmp_path: Path):
    """A strict arm with two pairs of thresholds: three arms, and a figure of them."""
    folder = tmp_path / "run"
    done = specmeasure(
        *("run", "prompts/code.jsonl", "--limit", "6", "--draft", "embedded:draft"),
        *("--lossy", "typical", "--epsilon", "0.05,0.3", *BRIEFLY, "--out", str(folder)),
    )
    assert 0 == done.returncode, said(done)
    arms = json.loads((folder / "estimates.json").read_text())["arms"]

    assert ["draft k=4", "draft k=4 typical 0.05,0.3", "draft k=4 typical 0.3,0.3"] == [
        arm["name"] for arm in arms
    ]
    assert (folder / "lossy.svg").is_file()
    assert "(lossy.svg)" in (folder / "details.md").read_text()


@pytest.mark.parametrize(
    ("option", "kind"),
    [("--draft", "no language model"), ("--medusa", "no Medusa heads")],
)
def test_eagle_is_refused_with_where_to_measure_it(option: str, kind: str, tmp_path: Path):
    """By name, in one line, with the command for a server."""
    if not (TINY / "eagle").is_dir():
        pytest.skip("the tiny-python models are not beside this checkout")
    folder = tmp_path / "run"
    done = specmeasure(
        *("run", "prompts/code.jsonl", "--limit", "2", "--target", str(TINY / "target")),
        *(option, str(TINY / "eagle"), *BRIEFLY, "--out", str(folder)),
    )
    lines = done.stderr.decode().strip().splitlines()

    assert 1 == done.returncode, said(done)
    assert f"this is an EAGLE drafter of 1 layer, {kind}." in lines[-1]
    assert "specmeasure run --engine vllm --speculative-config" in lines[-1]
    assert not folder.exists()
