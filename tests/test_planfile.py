import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.api import plan_arms
from specmeasure.api.arms import arms_at
from specmeasure.api.candidates import Drafters, NamedHeads, NgramSizes, plan_candidates
from specmeasure.errors import UnusablePlan
from specmeasure.planfile import read_request, write_request
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.decision import Policy
from specmeasure.records.plan import (
    AnswerCheck,
    ModelOptions,
    NgramPick,
    Plan,
    Sampling,
    TypicalAcceptance,
)
from specmeasure.records.request import Request
from specmeasure.records.tree import TokenTree

words = st.text(max_size=12)
requests = st.builds(
    Request,
    plan=st.builds(
        Plan,
        target=words,
        arms=st.builds(
            plan_arms,
            st.builds(
                Drafters,
                drafts=st.lists(st.sampled_from(["a/b", "c", "embedded:draft"]), max_size=2),
                heads=st.lists(st.just(NamedHeads(name="h", num_heads=3)), max_size=1),
                trees=st.lists(st.just(TokenTree.of([[0], [1], [0, 0]])), max_size=1),
                ngrams=st.lists(st.builds(NgramSizes, pick=st.sampled_from(NgramPick)), max_size=2),
                suffix=st.booleans(),
                past_outputs=st.lists(words.filter(bool), max_size=1),
            ),
            lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
        ),
        sampling=st.sampled_from([Sampling(), Sampling(temperature=0.7, top_p=0.9, top_k=5)]),
        max_new_tokens=st.integers(1, 500),
        num_repeats=st.integers(1, 9),
        seed=st.integers(0, 2**31),
        use_asked_sampling=st.booleans(),
        options=st.builds(ModelOptions, num_threads=st.none() | st.integers(1, 64)),
    ),
    sources=st.lists(words, max_size=3).map(tuple),
    options=st.builds(
        CorpusOptions,
        field=st.none() | words,
        slice_by=st.lists(words, max_size=2).map(tuple),
        limit=st.none() | st.integers(1, 9999),
        format=st.sampled_from(["auto", "csv"]),
    ),
    policy=st.builds(Policy, min_decode_speedup=st.floats(1, 3), min_prompts=st.integers(0, 99)),
    corpus_fingerprint=st.none() | words,
)


@given(requests)
def test_what_is_written_is_what_is_read(request):
    """Every field survives; what was typed does not matter."""
    assert request == read_request(write_request(request), "plan.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("min_prompts", "min_prompt", "plan.toml: no field 'policy.min_prompt'; there are"),
        ("max_new_tokens = 128", 'max_new_tokens = "x"', "max_new_tokens"),
        ("temperature = 0.0", "temperature = -1.0", "temperature -1.0 is below 0"),
        ('name = "small k=4"', 'nam = "small k=4"', "plan.toml: no field 'plan.arms.nam'"),
        ("[plan]", "[plan", "plan.toml: not TOML"),
    ],
)
def test_a_wrong_plan_is_refused(old, new, message):
    """One error that names the file and the field; nothing is ignored."""
    plan = Plan(target="t", arms=plan_arms(Drafters(drafts=["a/small"]), lengths=[4]))
    text = write_request(Request(plan=plan, sources=("p.jsonl",)))
    assert old in text

    with pytest.raises(UnusablePlan) as refusal:
        read_request(text.replace(old, new, 1), "plan.toml")

    assert message in str(refusal.value)


def test_a_lossy_arm_is_written_with_its_rule():
    """So is how answers are graded; a misspelt threshold is refused like any other field."""
    rule = TypicalAcceptance(epsilon=0.2, delta=0.5)
    arms = arms_at(plan_candidates(Drafters(ngrams=[NgramSizes()]), most=1), [4], [rule])
    plan = Plan(target="t", arms=arms, answer_check=AnswerCheck.NUMBER)
    request = Request(plan=plan, sources=("p.jsonl",))
    text = write_request(request)

    assert request == read_request(text, "plan.toml")
    with pytest.raises(UnusablePlan, match=r"no field 'plan\.arms\.lossy\.epsilonn'"):
        read_request(text.replace("epsilon", "epsilonn"), "plan.toml")
