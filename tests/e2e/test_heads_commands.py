"""`heads profile` and `heads tree` as their users meet them, on the embedded target."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from specmeasure import demo
from specmeasure.api import heads as profiles
from specmeasure.api.head_trees import conclude_trees
from specmeasure.api.heads import conclude_profile, start_profile
from specmeasure.api.replays import read_replay
from specmeasure.api.trees import read_tree
from specmeasure.engines.models import LoadedModels
from specmeasure.errors import UsageError
from specmeasure.records.plan import BASELINE, Arm, Method, ModelOptions, Plan
from specmeasure.records.replay import ReplayRequest, ReplayTrace
from specmeasure.records.request import Request
from tests.e2e.command import said, specmeasure
from tests.e2e.fitted_heads import fit_heads
from tests.e2e.test_replay import PLANTED, write_prompts

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("timed_briefly")]
NUM_HEADS, NUM_PROMPTS, BUDGET = 3, 6, 16


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_heads(tmp_path_factory.mktemp("heads") / "fitted", num_heads=NUM_HEADS)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", NUM_PROMPTS)


def heads(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """The command, typed in this process."""
    return specmeasure("heads", *map(str, arguments))


@pytest.fixture(scope="module")
def profiled(fitted: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of six prompts."""
    folder = tmp_path_factory.mktemp("profiles") / "one"
    done = heads(
        *("profile", prompts, "--target", demo.TARGET, "--medusa", fitted, "--threads", 1),
        *("--max-new-tokens", BUDGET, "--out", folder, "--device", "cpu", "--include-text"),
    )
    assert 0 == done.returncode, said(done)
    return folder


@pytest.fixture(scope="module")
def trace(profiled: Path) -> ReplayTrace:
    return read_replay(profiled)


def test_a_profile_leaves_page_figure_and_document(profiled: Path):
    """Beside the replay's own files; no word of prompts or answers stands in any page."""
    assert {"heads.md", "heads.json", "accuracy.svg", "sealed.json", "costs.json"} <= {
        path.name for path in profiled.iterdir()
    }
    assert not any(PLANTED in (profiled / name).read_text() for name in ("heads.md", "heads.json"))


def test_accuracies_are_those_of_plain_torch(profiled: Path, trace: ReplayTrace):
    """Heads written out in a few lines on one whole pass each: every head, every k, exactly."""
    right, judged = by_hand(trace)
    document = json.loads((profiled / "heads.json").read_text())

    for head, found in enumerate(document["heads"][0]["accuracy"]):
        assert judged[head] == found["num_places"]
        for k, top in enumerate(found["top"]):
            assert top["value"] == pytest.approx(right[head, k] / judged[head], abs=1e-12)


@torch.inference_mode()
def by_hand(trace: ReplayTrace) -> tuple[np.ndarray, np.ndarray]:
    """Places that are right among a head's k likeliest [H, 10], and places [H]."""
    plan = trace.manifest.request.request.plan
    loaded = LoadedModels.load(plan, most_threads=1)
    (heads_folder,) = {arm.heads for arm in plan.speculative_arms}
    matrices = [one.weight for one in loaded.add_heads(heads_folder or "").lm_heads]
    right, judged = np.zeros((NUM_HEADS, 10)), np.zeros(NUM_HEADS)
    for answer in trace.answers:
        ids = [*(answer.prompt_ids or ()), *(answer.token_ids or ())]
        hidden = loaded.target.model(
            input_ids=torch.tensor([ids]), output_hidden_states=True
        ).hidden_states[-1][0]
        for head, matrix in enumerate(matrices):
            # a state that the token at its place + 1 came from, of which an answer has had one
            for place in range(answer.num_prompt_tokens - 1, len(ids) - head - 2):
                likeliest = (hidden[place] @ matrix.T).topk(10).indices.tolist()
                judged[head] += 1
                if (token := ids[place + head + 2]) in likeliest:
                    right[head, likeliest.index(token) :] += 1
    return right, judged


@pytest.fixture(scope="module")
def confirmed(profiled: Path) -> dict[str, object]:
    """Trees of the profile, the best of them run for real."""
    written = profiled / "mine.json"
    done = heads(*("tree", profiled, "--nodes", "4,8", "--confirm", "--json", "--write", written))
    assert 0 == done.returncode, said(done)
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def test_real_runs_take_the_predicted_passes(confirmed: dict[str, object]):
    """Tree and chain, answer by answer, exactly; and heads that keep something."""
    agreements = confirmed["agreements"]
    assert isinstance(agreements, list)

    assert 2 == len(agreements)
    for one in agreements:
        assert NUM_PROMPTS + 1 == one["num_same_answers"] == one["num_equal_counts"]
        assert one["num_predicted_passes"] == one["num_measured_passes"]
        assert [] == one["unequal"]
        assert one["predicted_length"]["value"] == pytest.approx(one["measured_length"]["value"])
    assert agreements[0]["measured_length"]["value"] > 1


def test_the_written_trees_can_be_drafted(profiled: Path, confirmed: dict[str, object]):
    """Every file is a tree that --tree takes; the named one and trees.json are the tree to run."""
    study = confirmed["study"]
    assert isinstance(study, dict)
    best = read_tree(str(profiled / "mine.json"))

    assert study["best_size"] == best.num_nodes
    assert best == read_tree(str(profiled / "trees.json"))
    assert [4, 8] == [read_tree(str(profiled / f"tree-{n}.json")).num_nodes for n in (4, 8)]


def test_the_page_of_trees_says_what_was_measured(profiled: Path, confirmed: dict[str, object]):
    """Predicted stands beside measured, with the figure, and no word of any prompt."""
    page = (profiled / "tree.md").read_text()

    assert confirmed
    assert "## Predicted against measured" in page
    assert f"{NUM_PROMPTS + 1} of {NUM_PROMPTS + 1} answers" in page
    assert "](trees.svg)" in page
    assert PLANTED not in page + (profiled / "trees.json").read_text()


def test_a_finished_run_is_read_again(profiled: Path, confirmed: dict[str, object]):
    """Without --confirm the real run stands on the page still; with it nothing is run twice."""
    stamp = (profiled / "confirm" / "sealed.json").stat().st_mtime_ns
    done = heads("tree", profiled, "--nodes", "4,8", "--confirm")
    report = conclude_trees(read_replay(profiled), profiled)

    assert 0 == done.returncode, said(done)
    assert confirmed
    assert 2 == len(report.agreements)
    assert stamp == (profiled / "confirm" / "sealed.json").stat().st_mtime_ns


def test_other_trees_do_not_replace_a_run(profiled: Path, confirmed: dict[str, object]):
    """A run of another tree is kept, and the message says what to do."""
    done = heads("tree", profiled, "--nodes", "3", "--confirm")

    assert confirmed
    assert 2 == done.returncode
    assert re.search(r"holds a run of medusa tree \d, .*Move it away", said(done))


def test_a_finished_profile_is_concluded_again(profiled: Path):
    """--resume of a finished profile runs nothing and prints one document."""
    done = heads("profile", "--resume", profiled, "--json")

    assert 0 == done.returncode, said(done)
    assert ["medusa"] == [one["name"] for one in json.loads(done.stdout)["heads"]]


def test_the_library_says_the_same(profiled: Path, trace: ReplayTrace):
    """The command's document is the api's."""
    assert json.loads((profiled / "heads.json").read_text()) == json.loads(
        profiles.profile_as_json(conclude_profile(trace))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("profile", "--medusa", "x"), "no prompts"),
        (("profile", "prompts/", "--target", "t"), "no heads: name them with --medusa"),
    ],
)
def test_what_a_profile_needs(arguments: tuple[str, ...], message: str):
    """Prompts and heads are asked for before anything is loaded."""
    done = heads(*arguments)

    assert 2 == done.returncode
    assert message in said(done)


@pytest.mark.parametrize("nodes", ["16,8", "8,8", "0", "x", "8,", "8,1024"])
def test_sizes_that_do_not_rise_are_refused(profiled: Path, nodes: str):
    """The option is named with an example."""
    done = heads("tree", profiled, "--nodes", nodes)

    assert 2 == done.returncode
    assert f"--nodes {nodes}: use rising whole numbers" in said(done)


def test_unknown_heads_are_refused(profiled: Path):
    """Heads that the profile does not hold: the message lists those that it does."""
    done = heads("tree", profiled, "--medusa", "others")

    assert 2 == done.returncode
    assert "no such heads; recorded are: medusa" in said(done)


def test_a_folder_without_a_profile_is_refused(tmp_path: Path):
    """An empty folder is no profile."""
    done = heads("tree", tmp_path)

    assert 2 == done.returncode
    assert str(tmp_path) in said(done)


def test_only_heads_are_profiled(prompts: Path, tmp_path: Path):
    """A plan of other ways to draft is no profile."""
    draft = Arm(name="d", method=Method.DRAFT_MODEL, num_speculative_tokens=2, draft=demo.DRAFT)
    plan = Plan(target=demo.TARGET, arms=(BASELINE, draft), options=ModelOptions(device="cpu"))
    request = ReplayRequest(request=Request(plan=plan, sources=(str(prompts),)))

    with pytest.raises(UsageError, match="name them with --medusa"):
        start_profile(request, tmp_path / "profile")


def test_a_sampled_profile_has_no_trees(fitted: Path, prompts: Path, tmp_path: Path):
    """Its accuracies are told, why there is no tree is told, and the tree command refuses."""
    folder = tmp_path / "sampled"
    done = heads(
        *("profile", prompts, "--target", demo.TARGET, "--medusa", fitted, "--threads", 1),
        *("--max-new-tokens", 12, "--out", folder, "--device", "cpu", "--temperature", 0.8),
    )
    tree = heads("tree", folder)

    assert 0 == done.returncode, said(done)
    assert "Chain or tree is not told: no greedy answer" in (folder / "heads.md").read_text()
    assert 1 == tree.returncode
    assert "--temperature 0" in said(tree)
