import json
import re
import shlex
from dataclasses import replace
from itertools import pairwise

import pytest
from transformers import GenerationConfig

from specmeasure.brief.markdown import escape_markdown
from specmeasure.brief.settings import EngineSettings, write_caveats, write_settings
from specmeasure.records.estimates import Costs, Unmeasured
from specmeasure.records.plan import Arm, DraftSampling, Method, Sampling
from specmeasure.records.trace import Manifest
from tests.brief import examples

TRICKY = "/srv/it's a `model`"
EXIT_2 = Arm(
    name="early exit k=3", method=Method.EARLY_EXIT, num_speculative_tokens=3, exit_layer=2
)
SERVERS = ["vLLM", "SGLang", "llama.cpp"]
WARM = Sampling(temperature=0.7, top_k=20, top_p=0.9)
COSTS = examples.draft_arm().costs


def by_engine(
    manifest: Manifest, arm: Arm, costs: Costs | Unmeasured | None = None
) -> dict[str, EngineSettings]:
    return {settings.engine: settings for settings in write_settings(manifest, arm, costs)}


def words(engine: str, manifest: Manifest, arm: Arm) -> list[str]:
    """What a shell makes of the command."""
    return shlex.split(by_engine(manifest, arm)[engine].code)


def flags(engine: str, manifest: Manifest, arm: Arm) -> dict[str, str]:
    """Each flag of the command that takes a value, with it."""
    said = words(engine, manifest, arm)
    return {flag: value for flag, value in pairwise(said) if flag[0] == "-"}


def sampled(sampling: Sampling = WARM) -> Manifest:
    return examples.manifest(plan=replace(examples.manifest().plan, sampling=sampling))


def test_vllm_draft_model():
    """A shell reads back exactly the configuration of the arm, whatever the path."""
    said = words("vLLM", examples.manifest(), replace(examples.DRAFT_4, draft=TRICKY))

    assert ["vllm", "serve", "models/tiny-target", "--dtype", "float32"] == said[:5]
    assert {
        "method": "draft_model",
        "model": TRICKY,
        "num_speculative_tokens": 4,
    } == json.loads(said[-1])


def test_vllm_ngram():
    """n-gram arms carry their sizes and no model."""
    config = json.loads(words("vLLM", examples.manifest(), examples.NGRAM_8)[-1])

    assert {
        "method": "ngram",
        "num_speculative_tokens": 8,
        "prompt_lookup_max": 3,
        "prompt_lookup_min": 1,
    } == config


def test_sglang_draft_model():
    """SGLang counts the verified tokens: a chain of K drafts and the token before them."""
    said = flags("SGLang", examples.manifest(), examples.DRAFT_4)

    assert "STANDALONE" == said["--speculative-algorithm"]
    assert "models/tiny-draft" == said["--speculative-draft-model-path"]
    assert ["4", "1", "5"] == [
        said["--speculative-num-steps"],
        said["--speculative-eagle-topk"],
        said["--speculative-num-draft-tokens"],
    ]


def test_sglang_ngram():
    """A chain of K drafts after the longest n-gram fits into the trie; no model is named."""
    said = flags("SGLang", examples.manifest(), examples.NGRAM_8)

    assert {
        "--speculative-algorithm": "NGRAM",
        "--speculative-num-draft-tokens": "9",
        "--speculative-ngram-max-bfs-breadth": "1",
        "--speculative-ngram-max-trie-depth": "11",
    }.items() <= said.items()
    assert "--speculative-draft-model-path" not in said


def test_llamacpp_draft_model():
    """llama.cpp gets K, and file names that stand for the converted models."""
    said = flags("llama.cpp", examples.manifest(), examples.DRAFT_4)

    assert {
        "-m": "target.gguf",
        "-md": "draft.gguf",
        "--spec-type": "draft-simple",
        "--spec-draft-n-max": "4",
        "--spec-draft-n-min": "1",
    }.items() <= said.items()


@pytest.mark.parametrize(("num_drafts", "size"), [(8, "3"), (2, "2")])
def test_llamacpp_ngram_drafts(num_drafts, size):
    """It looks up the longest n-gram, but none above K: ngram-simple would never draft."""
    arm = replace(examples.NGRAM_8, num_speculative_tokens=num_drafts)
    said = flags("llama.cpp", examples.manifest(), arm)

    assert size == said["--spec-ngram-simple-size-n"]
    assert f"{num_drafts}" == said["--spec-ngram-simple-size-m"]


@pytest.mark.parametrize("engine", ["vLLM", "SGLang"])
@pytest.mark.parametrize("arm", [examples.DRAFT_4, examples.NGRAM_8])
def test_names_survive_the_shell(engine, arm):
    """Blanks, quotes and backticks in a path reach the engine as they are."""
    manifest = examples.manifest(models=(examples.model(TRICKY, num_parameters=1),))
    said = words(engine, manifest, replace(arm, draft=arm.draft and TRICKY))

    assert TRICKY in said
    assert 1 + bool(arm.draft) == sum(TRICKY in word for word in said)


@pytest.mark.parametrize(
    ("draft_sampling", "sampling", "is_told"),
    [
        (DraftSampling.PROBABILISTIC, WARM, True),
        (DraftSampling.GREEDY, WARM, False),
        (DraftSampling.PROBABILISTIC, Sampling(), False),
    ],
)
def test_drafts_are_drawn_as_the_run_did(draft_sampling, sampling, is_told):
    """vLLM and llama.cpp draft greedily unless told; told they are where the run drew drafts."""
    arm = replace(examples.DRAFT_4, draft_sampling=draft_sampling)
    config = json.loads(words("vLLM", sampled(sampling), arm)[-1])

    assert ("probabilistic" if is_told else None) == config.get("draft_sample_method")
    assert is_told == ("--spec-draft-sampling" in words("llama.cpp", sampled(sampling), arm))


@pytest.mark.parametrize("arm", [examples.DRAFT_4, examples.NGRAM_8, EXIT_2])
@pytest.mark.parametrize("sampling", [Sampling(), WARM])
def test_transformers_code_is_python(arm, sampling):
    """What is to be pasted compiles."""
    settings = by_engine(sampled(sampling), replace(arm, draft=arm.draft and TRICKY))

    compile(settings["transformers"].code, "brief", "exec")


def test_transformers_knows_the_names():
    """Every knob that is set exists in transformers' generation configuration."""
    known = GenerationConfig().to_dict()

    assert {
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "max_matching_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "prompt_lookup_num_tokens",
    } <= known.keys()


def test_early_exit_is_for_transformers():
    """The method has no entry for an engine without it, and the brief names those engines."""
    settings = by_engine(examples.manifest(), EXIT_2, COSTS)

    assert ["transformers"] == list(settings)
    assert "assistant_early_exit=2)" in settings["transformers"].code
    assert "target.generation_config.num_assistant_tokens = 3\n" in settings["transformers"].code
    assert "vLLM, SGLang and llama.cpp have no early-exit drafting." in write_caveats(
        examples.manifest(), EXIT_2
    )


@pytest.mark.parametrize("arm", [examples.DRAFT_4, examples.NGRAM_8])
@pytest.mark.parametrize("engine", SERVERS)
def test_threshold_is_break_even(engine, arm):
    """Every server is watched for the tokens per pass at which this run broke even."""
    costs = replace(COSTS, break_even_tokens_per_pass=2.346)

    assert "stays below 2.35: " in by_engine(examples.manifest(), arm, costs)[engine].watch


@pytest.mark.parametrize("costs", [None, Unmeasured(reason="no pass was timed")])
def test_no_threshold_without_costs(costs):
    """What was not measured is not watched."""
    settings = write_settings(examples.manifest(), examples.DRAFT_4, costs)

    assert [None] * 4 == [engine.watch for engine in settings]


def test_transformers_cannot_be_watched():
    """transformers reports no acceptance, so no number is given for it."""
    watch = by_engine(examples.manifest(), examples.DRAFT_4, COSTS)["transformers"].watch

    assert "reports no acceptance" in watch
    assert not re.search(r"\d", watch)


def test_draft_models_are_watched_by_tau():
    """τ = 1 + accepted / drafted blocks: llama.cpp's counters after five recorded requests."""
    counters = {
        "llamacpp:spec_decode_num_accepted_tokens_total": 224,
        "llamacpp:spec_decode_num_drafts_total": 248,
    }
    watch = by_engine(examples.manifest(), examples.DRAFT_4, COSTS)["llama.cpp"].watch

    assert 1 + 224 / 248 == observed(watch, counters)


def test_lookups_are_watched_over_all_passes():
    """Passes = generated − accepted, those without drafts too: recorded as 722 by llama.cpp."""
    counters = {
        "llamacpp:tokens_predicted_total": 992,
        "llamacpp:spec_decode_num_accepted_tokens_total": 270,
    }
    watch = by_engine(examples.manifest(), examples.NGRAM_8, COSTS)["llama.cpp"].watch

    assert 992 / 722 == observed(watch, counters)


@pytest.mark.parametrize("arm", [examples.DRAFT_4, examples.NGRAM_8])
def test_metrics_need_no_escape(arm):
    """PromQL can be copied from the raw markdown too."""
    watches = [engine.watch for engine in write_settings(examples.manifest(), arm, COSTS)]

    assert watches == [escape_markdown(watch) for watch in watches]


@pytest.mark.parametrize(
    ("engine", "flag"), [("SGLang", "--enable-metrics"), ("llama.cpp", "--metrics")]
)
def test_watched_metrics_are_on(engine, flag):
    """These servers export nothing unless asked."""
    assert flag in words(engine, examples.manifest(), examples.NGRAM_8)


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

    assert "temperature=0.7" in by_engine(manifest, examples.DRAFT_4)["transformers"].code
    assert any(
        "2 sampling settings; shown is that of most: temperature 0.7." in caveat
        for caveat in write_caveats(manifest, examples.DRAFT_4)
    )


@pytest.mark.parametrize(
    ("draft_sampling", "engine"),
    [(DraftSampling.PROBABILISTIC, "SGLang takes"), (DraftSampling.GREEDY, "transformers draws")],
)
def test_other_draft_sampling_is_said(draft_sampling, engine):
    """An engine that cannot draft as the run did is named, where the target samples."""
    arm = replace(examples.DRAFT_4, draft_sampling=draft_sampling)

    assert any(caveat.startswith(engine) for caveat in write_caveats(sampled(), arm))
    assert not any(caveat.startswith(engine) for caveat in write_caveats(examples.manifest(), arm))


def observed(watch: str, counters: dict[str, int]) -> float:
    """The watched expression over counters that grew from zero."""
    expression = watch.removeprefix("Turn it off when ").partition(" stays below ")[0]
    for name, value in counters.items():
        expression = expression.replace(f"rate({name}[5m])", f"{value}")
    return eval(expression, {"__builtins__": {}})  # noqa: S307 - arithmetic that we wrote
