import json
from pathlib import Path

import pytest
import typer

from specmeasure.api import comparisons
from specmeasure.cli import comparing
from specmeasure.errors import UnpairedPrompts, UnreadableTrace, UsageError
from specmeasure.records.plan import BASELINE, Sampling
from specmeasure.trace import store
from tests.estimate.paired_runs import SAME
from tests.fakes import (
    DRAFT_2,
    DRAFT_4,
    NGRAM_4,
    FakeEngine,
    Traffic,
    make_plan,
    make_prompts,
    record_into,
)

PROMPTS = make_prompts(24, categories=["chat", "code"])
MUCH_WORSE = Traffic(lengths=SAME.lengths, acceptance_rates=(0.1,) * 6)


def record(folder: Path, *arms, prompts=PROMPTS, traffic=SAME, **changes) -> Path:
    """A sealed run of these arms."""
    engine = FakeEngine(plan=make_plan(BASELINE, *arms, **changes), traffic=traffic)
    record_into(folder, engine, prompts)
    store.seal_run(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run of two arms; a part of it; one whose draft got worse."""
    root = tmp_path_factory.mktemp("runs")
    return {
        "whole": record(root / "whole", DRAFT_4, NGRAM_4),
        "part": record(root / "part", DRAFT_4, DRAFT_2, prompts=PROMPTS[:16]),
        "worse": record(root / "worse", DRAFT_4, traffic=MUCH_WORSE),
        "other": record(root / "other", DRAFT_4, prompts=make_prompts(30)[25:]),
    }


def compare(*folders, **changes):
    comparing.compare_folders(folders, **{"out": None, "as_json": False, **changes})


def gate(folder, baseline, **changes):
    """The exit code of a regression check."""
    asked = {"fail_if_lower": 0.02, "out": None, "as_json": False, **changes}
    try:
        comparing.check_regression(folder, baseline, **asked)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def test_candidates_are_all_arms_of_all_runs(runs):
    """Arms that share a name carry their run's; the winner comes first and prompts are common."""
    found = comparisons.compare_runs([runs["whole"], runs["part"]]).comparison

    assert {"draft k=4 (whole)", "draft k=4 (part)", "ngram k=4", "draft k=2"} == {
        one.name for one in found.candidates
    }
    assert 6 == len(found.differences)
    assert [(24, 16), (16, 16)] == [(r.num_prompts, r.num_common_prompts) for r in found.runs]
    assert {"chat", "code"} == {one.name for one in found.leaders}


def test_a_run_beside_itself_is_indistinguishable(runs):
    """Ratio 1.00, no points apart; the twin's folder is numbered."""
    found = comparisons.compare_runs([runs["worse"], runs["worse"]]).comparison
    [twins] = found.differences

    assert (1, 1, 1) == (
        twins.speedup_ratio.value,
        twins.speedup_ratio.low,
        twins.speedup_ratio.high,
    )
    assert (found.candidates[1].name,) == found.indistinguishable
    assert "draft k=4 (worse (2))" == found.candidates[1].name


def test_one_run_of_several_arms_is_compared(runs):
    """Arms of one run are candidates enough; one arm alone is not."""
    assert 2 == len(comparisons.compare_runs([runs["whole"]]).comparison.candidates)
    with pytest.raises(UsageError, match="worse: one speculative arm"):
        comparisons.compare_runs([runs["worse"]])


def test_verdicts_are_those_of_the_runs_own_briefs(runs):
    """Where nothing is left out, a candidate's numbers are its brief's."""
    [report] = comparisons.compare_runs([runs["whole"]]).reports

    assert report.trace == store.read_trace(runs["whole"])


def test_console_says_what_was_left_out(runs, capsys):
    """The intersection is compared, and said so."""
    compare(runs["whole"], runs["part"])
    said = " ".join(capsys.readouterr().out.split())

    assert "Left out of whole: 8 of 24 prompts" in said
    assert "draft k=4 (part)" in said


def test_files_are_written(runs, tmp_path, capsys):
    """The page, its figure and its numbers; the run folders stay as they were."""
    before = {path: path.read_bytes() for path in runs["whole"].iterdir()}
    compare(runs["whole"], runs["part"], out=tmp_path / "new" / "folder")

    assert {"compare.md", "compare.json", "pareto.svg"} == {
        path.name for path in (tmp_path / "new" / "folder").iterdir()
    }
    assert "compare.md" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in runs["whole"].iterdir()}


def test_no_prompt_is_quoted(runs, tmp_path):
    """Neither page nor numbers hold what was asked, nor its id."""
    compare(runs["whole"], runs["part"], out=tmp_path)
    gate(runs["worse"], runs["whole"], out=tmp_path)
    said = "".join(path.read_text() for path in tmp_path.iterdir())

    assert "question" not in said
    assert '"p1"' not in said


@pytest.mark.parametrize("is_gate", [True, False])
def test_json_is_exactly_one_document(runs, capsys, is_gate):
    """Standard output parses as a whole, without NaN."""
    if is_gate:
        gate(runs["worse"], runs["whole"], as_json=True)
    else:
        compare(runs["whole"], runs["part"], as_json=True)
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    expected = (
        ["outcome", "regression"] if is_gate else ["winner", "indistinguishable", "comparison"]
    )
    assert expected == list(document)


def test_a_worse_draft_exits_10(runs, capsys):
    """The acceptance rate fell beyond what is tolerated."""
    assert 10 == gate(runs["worse"], runs["whole"])
    said = capsys.readouterr().out
    assert said.startswith("FELL: acceptance fell by more than 2 points with draft k=4")
    assert "Only in whole, and not compared: ngram k=4." in said


def test_the_same_run_exits_0(runs):
    """Nothing fell, at any threshold."""
    assert [0, 0] == [gate(runs["whole"], runs["whole"], fail_if_lower=drop) for drop in (0, 0.02)]


def test_too_few_prompts_exit_20(runs, tmp_path):
    """What is not measured is open, not held."""
    few = record(tmp_path / "few", DRAFT_4, prompts=PROMPTS[:3])

    assert 20 == gate(few, runs["whole"])


def test_without_a_gate_nothing_fails(runs, capsys):
    """A drop is told; the exit code is 0."""
    assert 0 == gate(runs["worse"], runs["whole"], fail_if_lower=None)
    assert "acceptance fell" in capsys.readouterr().out


@pytest.mark.parametrize("drop", [-0.1, 1, 2])
def test_a_tolerated_drop_is_a_share(runs, drop):
    """2 for 2 points is a mistake that is explained."""
    with pytest.raises(UsageError, match=r"0\.02 is 2 points"):
        gate(runs["worse"], runs["whole"], fail_if_lower=drop)


def test_disjoint_prompts_are_refused(runs):
    """No common prompt, no comparison; both runs are named."""
    with pytest.raises(UnpairedPrompts, match=r"whole \(24\) and other \(5\)"):
        compare(runs["whole"], runs["other"])


def test_other_sampling_is_refused(runs, tmp_path):
    """Sampled and greedy answers are no pairs."""
    sampled = record(tmp_path / "sampled", DRAFT_4, sampling=Sampling(temperature=0.7))
    with pytest.raises(UsageError, match="whole and sampled decode differently"):
        compare(runs["whole"], sampled)


def test_a_folder_without_a_run_is_named(runs, tmp_path):
    """A path that no run wrote is one clear error."""
    with pytest.raises(UnreadableTrace, match="nothing: no manifest"):
        compare(runs["whole"], tmp_path / "nothing")
