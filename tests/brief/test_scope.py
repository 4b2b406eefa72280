from dataclasses import replace

import pytest

from specmeasure.brief.scope import write_deciding_load, write_scope
from specmeasure.records.decision import Decision, LoadVerdict, Policy, Verdict
from specmeasure.records.serving import Load
from tests.brief import examples, examples_load

GO, NO_GO, OPEN = Verdict.GO, Verdict.NO_GO, Verdict.INCONCLUSIVE
ONE, FOUR, EIGHT, SIXTEEN = (Load(concurrency=number) for number in (1, 4, 8, 16))


def decided(at: Load, *by_load: tuple[Load, Verdict]) -> Decision:
    verdicts = dict(by_load)
    return replace(
        examples.go()[-1],
        arm="draft k=4",
        verdict=verdicts[at],
        load=at,
        by_load=tuple(
            LoadVerdict(load=load, arm="draft k=4", verdict=one) for load, one in by_load
        ),
    )


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (decided(SIXTEEN, (SIXTEEN, GO)), " at concurrency 16"),
        (decided(FOUR, (ONE, GO), (FOUR, GO)), " at concurrency 4"),
        (
            decided(FOUR, (ONE, GO), (FOUR, GO), (SIXTEEN, NO_GO)),
            " up to concurrency 4, NO_GO at 16",
        ),
        (
            decided(SIXTEEN, (ONE, GO), (FOUR, GO), (SIXTEEN, NO_GO)),
            " at concurrency 16, GO up to 4",
        ),
        (
            decided(EIGHT, (ONE, GO), (FOUR, OPEN), (EIGHT, NO_GO), (SIXTEEN, NO_GO)),
            " at concurrency 8 and 16, GO at 1, INCONCLUSIVE at 4",
        ),
        (
            decided(Load(rate=2.5), (Load(rate=0.5), GO), (Load(rate=2.5), OPEN)),
            " at 2.5 requests/s, GO at 0.5",
        ),
        (
            decided(ONE, (ONE, GO), (Load(rate=8.0), NO_GO)),
            " at concurrency 1, NO_GO at 8 requests/s",
        ),
        (examples.go()[-1], ""),
    ],
)
def test_the_load_decided_on_comes_first(decision, said):
    """Behind the verdict's word stands where it holds; the others follow where they differ."""
    assert said == write_scope(decision)


def test_another_arms_go_is_named():
    """Who reads GO at a lighter load would turn on the arm in the headline."""
    (first, *others) = decided(SIXTEEN, (ONE, GO), (SIXTEEN, GO)).by_load
    decision = replace(
        decided(SIXTEEN, (ONE, GO), (SIXTEEN, GO)),
        by_load=(replace(first, arm="ngram k=8"), *others),
    )

    assert " at concurrency 16, GO at 1 with ngram k=8" == write_scope(decision)


def test_why_this_load():
    """The policy names it, or it is the highest."""
    decision = examples_load.managed().decision

    assert "concurrency 4, the load that the policy names" == write_deciding_load(decision)
    assert (
        write_deciding_load(replace(decision, policy=Policy()))
        == "concurrency 4, the highest load that was measured"
    )
    assert write_deciding_load(examples.go()[-1]) is None
