from dataclasses import replace

from specmeasure.brief.planning import plan_tables
from specmeasure.estimate.precision import ASSUMED, plan_measurement
from specmeasure.records.decision import Policy
from specmeasure.records.precision import PilotCost, PromptSpread, Wish
from tests.brief.terminal import printed

MEASURED = PromptSpread(between=0.1, within=0.03, num_pilot_prompts=20)
WISH = Wish(effect=0.05, power=0.8)


def shown(plan):
    text = printed(plan_tables(plan, Policy(), max_new_tokens=64, command="specmeasure run x"))
    return " ".join(text.split())


def test_a_plan_says_what_it_rests_on():
    """Measured or assumed, the spreads are shown."""
    assumed = plan_measurement(WISH, ASSUMED, {"chat": 10_000})
    measured = plan_measurement(WISH, MEASURED, {"chat": 10_000})

    assert "Assumed, not measured: spreads of 42%" in shown(assumed)
    assert "Measured in a pilot of 20 prompts" in shown(measured)


def test_unknown_time_is_said():
    """Without a pilot there is no time, with one it is for all prompts and repeats."""
    plan = plan_measurement(WISH, MEASURED, {"chat": 10_000})
    cost = PilotCost(seconds=2.0, num_prompt_tokens=50, num_emitted_tokens=100)

    assert "time on this machine: not measured" in shown(plan)
    assert f"{100 * plan.num_prompts:,} tokens emitted" in shown(replace(plan, cost=cost))


def test_a_corpus_that_is_too_small_is_named_so():
    """What is needed, what there is, and what that can tell."""
    text = shown(plan_measurement(WISH, ASSUMED, {"chat": 40, "code": 3}))

    assert "The corpus has 43 prompts" in text
    assert "too few prompts" in text
