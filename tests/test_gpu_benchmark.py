"""The GPU benchmark on a CPU: its numbers fit together, whatever the machine's times are."""

import json
import math
from itertools import pairwise

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_answers import ASSISTED, GENERATE, PLAIN, SPECULATIVE, Contest, scripted
from benchmarks.gpu_models import SIZES, build
from benchmarks.gpu_passes import EAGER, STATIC, Pair, interleaved
from benchmarks.gpu_report import Figure
from specmeasure.decode.static_model import StaticCausalLM

CPU = torch.device("cpu")
TINY = SIZES["tiny"]
ON_CPU = [
    "--device",
    "cpu",
    "--dtype",
    "float32",
    "--sizes",
    "tiny",
    "--rounds",
    "1",
    "--runs",
    "1",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    out = tmp_path_factory.mktemp("gpu") / "tiny"
    gpu.main([*ON_CPU, "--out", str(out)])
    return json.loads(out.with_suffix(".json").read_text()), out.with_suffix(".md").read_text()


@pytest.fixture
def found(ran: tuple[dict, str]) -> dict:
    (size,) = ran[0]["sizes"]
    return size


@pytest.fixture(scope="module")
def pair() -> Pair:
    target, draft = (
        build(shape, TINY, device=CPU, dtype=torch.float32) for shape in (TINY.target, TINY.draft)
    )
    return Pair(
        size=TINY,
        target=target,
        draft=draft,
        static_target=StaticCausalLM(target),
        static_draft=StaticCausalLM(draft),
    )


def figure(found: dict, name: str) -> float:
    return next(one["value"] for one in found["figures"] if one["name"] == name)


def test_steps_are_judged_by_what_their_weights_take(found):
    """Each ratio is the step's seconds over weight bytes at the copies' own rate."""
    steps = found["steps"]
    for model, name in (("target", "target step"), ("draft", "drafted token")):
        for way in (STATIC, EAGER):
            at_copy_speed = steps[f"{model}_bytes"] / steps["bytes_per_s"]

            assert math.isclose(
                steps[f"{model}_s"][way] / at_copy_speed,
                figure(found, f"{name} / weight bytes at copy bandwidth, {way}"),
            )


def test_a_step_reads_one_embedding(pair):
    """Of the embeddings a step reads one row, of all else everything."""
    weights = list(pair.target.model.parameters())
    embedding = pair.target.model.get_input_embeddings().weight
    step = gpu.time_steps(pair, compiled=False, num_rounds=1, num_runs=1)

    assert sum(w.numel() for w in weights) == step.num_target_parameters
    assert 4 * (step.num_target_parameters - embedding[1:].numel()) == step.target_bytes


def test_verifications_start_at_one_row(found):
    """v(0) is 1, v(K) the ratio to it; every context, every K of a static cache."""
    for one in found["verifications"]:
        assert {k: s / one["seconds"]["0"] for k, s in one["seconds"].items()} == one["v"]
    static = [one for one in found["verifications"] if one["way"] == STATIC]

    assert list(TINY.contexts) == [one["context"] for one in static]
    assert all(len(one["v"]) == TINY.most_drafts + 1 for one in static)


def test_all_ways_give_the_same_answer_in_fewer_passes(found):
    """Emitted tokens are passes and accepted drafts; ours and transformers' accept alike."""
    answers = found["answers"]
    passes = {one["way"]: one["num_target_passes"] for one in answers["answered"]}

    assert {TINY.num_new_tokens} == {one["num_tokens"] for one in answers["answered"]}
    assert TINY.num_new_tokens == passes[PLAIN] == passes[GENERATE] == passes[f"{PLAIN}, {EAGER}"]
    assert TINY.num_new_tokens == passes[SPECULATIVE] + answers["num_accepted_tokens"]
    assert passes[SPECULATIVE] == passes[f"{SPECULATIVE}, {EAGER}"]
    assert abs(passes[SPECULATIVE] - passes[ASSISTED]) <= 1  # theirs drafts before the prefill
    assert 0 < answers["num_accepted_tokens"] < answers["num_draft_tokens"]


def test_rates_and_shares_fit_their_seconds(found):
    """Tokens over seconds; what decoding takes beside the passes."""
    answers = found["answers"]
    for one in answers["answered"]:
        rate = answers["tokens_per_s"][one["way"]]

        assert math.isclose(one["num_tokens"], rate * one["seconds"])
    for one in answers["overheads"]:
        share = answers["overhead_shares"][one["way"]]

        assert math.isclose(one["decode_s"] * (1 - share), one["passes_s"])
    rates = answers["tokens_per_s"]
    for way, theirs in ((PLAIN, GENERATE), (SPECULATIVE, ASSISTED)):
        assert math.isclose(
            rates[way] / rates[theirs], figure(found, f"tokens/s, {way} / {theirs}")
        )


def test_nothing_is_judged_on_a_cpu(ran, found):
    """Aims are for a GPU; nothing is captured, either."""
    document, text = ran

    assert not document["machine"]["graphs"]
    assert {None} == {one["is_met"] for one in found["figures"]}
    assert {0} == {one["num_passes"] for one in found["answers"]["captures"].values()}
    assert all(one["name"] in text for one in found["figures"])
    assert "| met |" not in text
    assert "| missed |" not in text


def test_what_time_does_not_allow_is_named(tmp_path):
    """A size that is not begun in time stands in both files."""
    gpu.main([*ON_CPU, "--minutes", "-1", "--out", str(tmp_path / "late")])

    assert ["tiny"] == json.loads((tmp_path / "late.json").read_text())["left_out"]
    assert "not measured, time was up: tiny" in (tmp_path / "late.md").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--sizes", "70B"], "no size '70B'"),
        (["--compiled", "tiny"], "needs a CUDA device"),
    ],
)
def test_what_cannot_be_run_is_refused(more, said, capsys):
    """Before anything is built."""
    with pytest.raises(SystemExit):
        gpu.main([*ON_CPU, *more])

    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("aim", "value", "is_met"),
    [
        ({"at_most": 1.2}, 1.2, True),
        ({"at_most": 1.2}, 1.21, False),
        ({"at_least": 2.0}, 2.0, True),
        ({"at_least": 2.0}, 1.9, False),
        ({}, 1.0, None),
    ],
)
def test_aims_hold_at_their_bounds(aim, value, is_met):
    """A value at the bound meets it; on a CPU none is judged."""
    on_gpu, on_cpu = (
        Figure(name="one", value=value, is_judged=is_gpu, **aim) for is_gpu in (True, False)
    )

    assert is_met is on_gpu.is_met
    assert on_cpu.is_met is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [TINY.target, TINY.draft])
def test_a_made_model_counts_up(shape, dtype):
    """It says t + 1 after t, and the next likeliest is far below."""
    model = build(shape, TINY, device=CPU, dtype=dtype)
    with torch.inference_mode():
        logits = model.prefill([3, 250, 8, 41]).float()
    first, second = logits[0].topk(2).values.tolist()

    assert 42 == int(logits.argmax())
    assert second < first - 1


def test_a_script_is_wrong_as_often_as_asked():
    """With no chance of a wrong token it is the answer; with certainty nowhere."""
    answer = list(range(100))
    none, half, every = (scripted(answer, share, 256, seed=3) for share in (0.0, 0.5, 1.0))
    num_wrong = sum(one != other for one, other in zip(answer, half, strict=True))

    assert answer == none
    assert all(one != other for one, other in zip(answer, every, strict=True))
    assert 30 < num_wrong < 70


@pytest.mark.parametrize(
    ("wrong_share", "num_kept"), [(0.0, TINY.num_speculative_tokens), (1.0, 0)]
)
def test_the_script_decides_what_is_accepted(pair, wrong_share, num_kept):
    """Everything or nothing, in both loops, though the draft model drafts something else."""
    contest = Contest(pair, wrong_share=wrong_share)
    blocks = contest.ours(pair.static_target, pair.static_draft).blocks
    answer, num_passes = contest.theirs(assisted=True)
    most = -(-TINY.num_new_tokens // (1 + num_kept))

    assert {num_kept} == {block.num_accepted_tokens for block in blocks[1:-1]}
    assert contest.answer == answer
    assert num_passes == most


def test_rounds_go_through_everyone_in_turn():
    """Each one once a round, each first in turn, and the first round is not counted."""
    asked = list[str]()

    def contestant(name: str, values: list[float]):
        seen = iter(values)

        def once() -> float:
            asked.append(name)
            return next(seen)

        return once

    medians = interleaved(
        {"a": contestant("a", [99, 1, 2, 9]), "b": contestant("b", [99, 4, 6, 5])}, 3
    )
    rounds = [asked[place : place + 2] for place in range(0, 8, 2)]

    assert {"a": 2, "b": 5} == medians
    assert all(one == other[::-1] for one, other in pairwise(rounds))
