import json
import shlex
from dataclasses import replace

import pytest
from transformers import GenerationConfig

from specmeasure.brief.settings import write_caveats, write_settings
from specmeasure.records.plan import Arm, Sampling
from specmeasure.records.trace import Manifest
from tests.brief import examples

TRICKY = "/srv/it's a `model`"


def vllm_words(manifest: Manifest, arm: Arm) -> list[str]:
    return shlex.split(write_settings(manifest, arm)[0].code)


def test_vllm_draft_model():
    """A shell reads back exactly the configuration of the arm, whatever the path."""
    words = vllm_words(examples.manifest(), replace(examples.DRAFT_4, draft=TRICKY))

    assert ["vllm", "serve", "models/tiny-target", "--dtype", "float32"] == words[:5]
    assert {
        "method": "draft_model",
        "model": TRICKY,
        "num_speculative_tokens": 4,
    } == json.loads(words[-1])


def test_vllm_ngram():
    """n-gram arms carry their sizes and no model."""
    config = json.loads(vllm_words(examples.manifest(), examples.NGRAM_8)[-1])

    assert {
        "method": "ngram",
        "num_speculative_tokens": 8,
        "prompt_lookup_max": 3,
        "prompt_lookup_min": 1,
    } == config


def test_vllm_samples_drafts_as_the_run_did():
    """vLLM drafts greedily by default, this run sampled its drafts."""
    plan = replace(examples.manifest().plan, sampling=Sampling(temperature=0.7))
    config = json.loads(vllm_words(examples.manifest(plan=plan), examples.DRAFT_4)[-1])

    assert "probabilistic" == config["draft_sample_method"]


@pytest.mark.parametrize("arm", [examples.DRAFT_4, examples.NGRAM_8])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=20, top_p=0.9)])
def test_transformers_code_is_python(arm, sampling):
    """What is to be pasted compiles."""
    plan = replace(examples.manifest().plan, sampling=sampling)
    settings = write_settings(
        examples.manifest(plan=plan), replace(arm, draft=arm.draft and TRICKY)
    )

    compile(settings[1].code, "brief", "exec")


def test_transformers_knows_the_names():
    """Every knob that is set exists in transformers' generation configuration."""
    known = GenerationConfig().to_dict()

    assert {
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "prompt_lookup_num_tokens",
        "max_matching_ngram_size",
    } <= known.keys()


def test_embedded_pair_is_no_setting():
    """The demo pair's names mean nothing to an engine, and the brief says so."""
    demo = examples.model("embedded:target", num_parameters=1)
    manifest = examples.manifest(models=(demo,))

    assert any("demo pair" in caveat for caveat in write_caveats(manifest, examples.DRAFT_4))
    assert not any(
        "demo pair" in caveat for caveat in write_caveats(examples.manifest(), examples.DRAFT_4)
    )


def test_settings_follow_what_rows_asked_for():
    """Where prompts brought their own sampling, that of most is shown and said to be."""
    asked = ((Sampling(), 20), (Sampling(temperature=0.7), 40))
    manifest = examples.manifest()
    manifest = replace(manifest, corpus=replace(manifest.corpus, samplings=asked))

    assert "temperature=0.7" in write_settings(manifest, examples.DRAFT_4)[1].code
    assert any(
        "2 sampling settings; shown is that of most: temperature 0.7." in caveat
        for caveat in write_caveats(manifest, examples.DRAFT_4)
    )
