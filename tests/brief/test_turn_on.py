import json
import shlex
from dataclasses import replace
from itertools import pairwise

import pytest

from specmeasure.brief.settings import write_caveats, write_settings
from specmeasure.brief.turn_on import write_schedules, write_turn_on, write_turn_on_caveats
from specmeasure.records.decision import Verdict
from specmeasure.records.estimates import Costs
from specmeasure.records.load_curve import BatchSizes
from specmeasure.records.plan import Arm, DraftSampling, Method, Sampling
from specmeasure.records.serving import ServingEngine
from tests.brief import examples, examples_load
from tests.brief.examples_load import UNTIMED, ServedExample

CONFIG = "--speculative-config"
EAGLE = '{"method": "eagle", "model": "/models/eagle head", "num_speculative_tokens": 3}'


def engines(served: ServedExample, **given):
    arm = next(a for a in served.manifest.plan.arms if a.name == served.decision.arm)
    return write_turn_on(served.manifest, given.get("arm", arm), UNTIMED, given.get("curve"))


def configs(code: str) -> list[dict]:
    """The JSON of each command."""
    words = shlex.split(code.replace("\\\n", " "), comments=True)
    places = [place for place, word in enumerate(words) if word == CONFIG]
    return [json.loads(words[place + 1]) for place in places]


def test_in_process_nothing_changes():
    """A run without servers is turned on as before."""
    manifest = examples.manifest()
    costs = examples.draft_arm().costs
    given = (manifest, examples.DRAFT_4, costs)

    assert write_settings(*given) == write_turn_on(*given)
    assert write_caveats(manifest, examples.DRAFT_4) == write_turn_on_caveats(*given)


def test_the_measured_engine_comes_first():
    """Its settings are those its server was started with, and are said to be measured."""
    served = examples_load.managed()
    first, *others = engines(served)
    (said, *rest) = write_turn_on_caveats(served.manifest, examples.DRAFT_4, UNTIMED)

    assert "vLLM" == first.engine
    assert [json.loads(examples_load.CONFIG.format(4))] == configs(first.code)
    assert first.code.startswith("vllm serve models/tiny-target --max-model-len 1024 ")
    assert ["SGLang", "llama.cpp", "transformers"] == [one.engine for one in others]
    assert said.startswith("This run measured these settings on vLLM, at concurrency 1, 4 and 16;")
    assert "Those of SGLang, llama.cpp and transformers it did not test" in said
    assert not any("not tested on any of these engines" in one for one in (said, *rest))


def test_k_by_requests_in_flight():
    """As vLLM 0.32 reads it: ranges from 1 that rise, K at most the server's own."""
    served = examples_load.managed()
    measured, scheduled = configs(engines(served, curve=served.curve)[0].code)
    ranges = scheduled.pop("num_speculative_tokens_per_batch_size")

    assert measured == scheduled
    assert [[1, 4, 4], [5, 16, 0]] == ranges
    assert 1 == ranges[0][0]
    assert all(after[0] > before[1] for before, after in pairwise(ranges))
    assert max(length for _, _, length in ranges) == scheduled["num_speculative_tokens"]


def test_the_schedule_starts_the_server_with_its_largest_k():
    """Where the recommended arm has a smaller K than another load would take."""
    served = examples_load.overloaded()
    (scheduled,) = configs(write_schedules(served.manifest, served.curve) or "")

    assert Verdict.NO_GO is served.decision.verdict
    assert 4 == scheduled["num_speculative_tokens"]


@pytest.mark.parametrize(
    "sizes",
    [
        (),
        (BatchSizes(candidate="draft", ranges=((1, 16, 0),)),),
        (BatchSizes(candidate="x", ranges=((1, 4, 4),)),),
    ],
)
def test_no_schedule_without_a_k_that_pays(sizes):
    """Nothing measured, no K anywhere, or a candidate that the plan does not have."""
    served = examples_load.managed()

    assert write_schedules(served.manifest, replace(served.curve, batch_sizes=sizes)) is None


def test_other_engines_have_no_such_setting():
    """The best K by load is told in the details; only vLLM can be told to switch."""
    served = examples_load.llamacpp()
    sizes = (BatchSizes(candidate="ngram", ranges=((1, 4, 4),)),)

    assert write_schedules(served.manifest, replace(served.curve, batch_sizes=sizes)) is None


def test_the_users_own_json_is_repeated():
    """An arm that was configured by JSON is turned on by the same; other engines cannot take it."""
    served = examples_load.managed()
    arm = Arm(
        name="eagle k=3", method=Method.SERVED, num_speculative_tokens=3, speculative_config=EAGLE
    )
    plan = replace(served.manifest.plan, arms=(served.manifest.plan.arms[0], arm))
    manifest = replace(served.manifest, plan=plan, servers=())
    (only,) = write_turn_on(manifest, arm, UNTIMED)

    assert [json.loads(EAGLE)] == configs(only.code)
    assert "not test" not in " ".join(write_turn_on_caveats(manifest, arm, UNTIMED))


def test_a_server_configured_elsewhere_is_left_as_it_is():
    """Nothing to paste: a comment that names it."""
    served = examples_load.attached()
    (only,) = engines(served)

    assert all(line.startswith("# ") for line in only.code.splitlines())
    assert "configured outside this run" in only.code
    assert "http://10.0.0.8:8000" in only.code


def test_an_attached_server_cannot_write_a_command():
    """Whatever it says its model and version are stays a comment."""
    served = examples_load.attached()
    hostile = tuple(
        replace(one, model="m\nrm -rf x", version="1\n2", engine=ServingEngine.VLLM)
        for one in served.manifest.servers
    )
    (only,) = engines(replace(served, manifest=replace(served.manifest, servers=hostile)))

    assert all(line.startswith("# ") for line in only.code.splitlines())


def test_llamacpp_as_it_was_started():
    """The file, quoted; its n-gram's size as measured; the user's own options."""
    (only,) = engines(examples_load.llamacpp())

    assert only.code == (
        "llama-server -m '/models/tiny target.gguf' --metrics \\\n  --spec-type ngram-simple "
        "--spec-ngram-simple-size-n 1 --spec-ngram-simple-size-m 4 --mlock"
    )


def test_llamacpp_drafts_as_they_were_drawn():
    """K drafts whatever their chance, drawn where the target sampled; names for converted files."""
    served = examples_load.llamacpp()
    drawn = replace(examples.DRAFT_4, draft_sampling=DraftSampling.PROBABILISTIC)
    plan = replace(served.manifest.plan, sampling=Sampling(temperature=0.7), target="folder")
    plan = replace(plan, serving=replace(plan.serving, program=None))
    manifest = replace(served.manifest, plan=plan)
    (only,) = write_turn_on(manifest, drawn, UNTIMED)

    assert only.code == (
        "llama-server -m target.gguf --spec-draft-model draft.gguf --metrics \\\n  --spec-type "
        "draft-simple --spec-draft-n-max 4 --spec-draft-n-min 1 --spec-draft-p-min 0 "
        "--spec-draft-sampling probabilistic"
    )
    assert "GGUF names stand" in " ".join(write_turn_on_caveats(manifest, drawn, UNTIMED))


def test_no_threshold_without_its_reason():
    """What was not measured is not watched, and why is said."""
    served = examples_load.managed()
    costs = examples.draft_arm().costs
    assert isinstance(costs, Costs)
    watched, *_ = write_turn_on(served.manifest, examples.DRAFT_4, costs)
    caveats = " ".join(write_turn_on_caveats(served.manifest, examples.DRAFT_4, UNTIMED))

    assert all(one.watch is None for one in engines(served))
    assert "was not measured (a server does not time its passes): measure again" in caveats
    assert watched.watch
    assert "vllm:spec_decode_num_drafts_total" in watched.watch
