"""What loose rules buy, drawn."""

from dataclasses import replace

from specmeasure.brief.figures_lossy import lossy_figure
from specmeasure.records.estimates import Accuracy, Drift, Unmeasured
from tests.brief import examples
from tests.brief.examples import interval
from tests.brief.test_plots import letters

ACCURACY = Accuracy(
    check="number",
    num_answers=80,
    baseline=interval(0.5, 0.4, 0.6),
    arm=interval(0.45, 0.35, 0.55),
    difference=interval(-0.05, -0.1, 0.01),
)


def loosened(rule: str, nats: float, **changes):
    drift = Drift(
        num_tokens=9000,
        nats_per_token=interval(nats, nats / 2, 2 * nats),
        changed_share=interval(nats / 3, nats / 5, nats),
    )
    return replace(examples.draft_arm(), name=f"draft k=4 {rule}", drift=drift, **changes)


def sweep(**changes):
    _, estimates, _ = examples.go()
    arms = [loosened("typical", 0.02, **changes), loosened("typical 0.2,0.3", 0.05, **changes)]
    return replace(estimates, arms=(examples.draft_arm(), *arms))


def test_strict_runs_have_no_such_figure():
    """Nothing was loosened."""
    assert lossy_figure(examples.go()[1]) is None


def test_speed_stands_over_each_drift():
    """Nats and changed tokens; grades only where answers were graded."""
    said = letters(lossy_figure(sweep()))

    assert {"Drift (nats per token)", "Tokens changed (%)", "draft k=4"} <= set(said)
    assert not any("Right answers" in one for one in said)
    assert any("Right answers" in one for one in letters(lossy_figure(sweep(accuracy=ACCURACY))))


def test_points_are_told_by_their_thresholds():
    """ε and δ of each loosened arm, the paper's where the name has none, in both panels."""
    said = letters(lossy_figure(sweep()))

    assert 2 == said.count("0.09,0.3") == said.count("0.2,0.3")


def test_drift_that_was_not_measured_is_not_drawn():
    """No point stands at 0 for want of a number."""
    unknown = replace(loosened("typical", 0.1), drift=Unmeasured(reason="not audited"))
    _, estimates, _ = examples.go()

    assert lossy_figure(replace(estimates, arms=(unknown,))) is None
