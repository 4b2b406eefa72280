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
from specmeasure.records.plan import (
    Arm,
    DraftSampling,
    Method,
    NgramPick,
    Sampling,
    TypicalAcceptance,
)
from specmeasure.records.trace import Manifest, OtherVocabulary
from specmeasure.records.tree import TokenTree
from tests.brief import examples

TRICKY = "/srv/it's a `model`"
EXIT_2 = Arm(
    name="early exit k=3", method=Method.EARLY_EXIT, num_speculative_tokens=3, exit_layer=2
)
SERVERS = ["vLLM", "SGLang", "llama.cpp"]
WARM = Sampling(temperature=0.7, top_k=20, top_p=0.9)
LATEST = replace(examples.NGRAM_8, ngram_pick=NgramPick.LATEST)
SUFFIX = Arm(name="suffix k=16", method=Method.SUFFIX, num_speculative_tokens=16)
PAST = replace(SUFFIX, past_outputs="logs/answers.jsonl")
HEADS = Arm(name="medusa", method=Method.MEDUSA, num_speculative_tokens=3, heads=TRICKY)
TREE = replace(HEADS, num_speculative_tokens=4, tree=TokenTree.of([[0], [1], [0, 0], [0, 0, 0]]))
COSTS = examples.draft_arm().costs


def by_engine(
    manifest: Manifest, arm: Arm, costs: Costs | Unmeasured | None = None
) -> dict[str, EngineSettings]:
    return {settings.engine: settings for settings in write_settings(manifest, arm, costs)}


def no_setting(arm: Arm, manifest: Manifest | None = None) -> str:
    """What is said of engines that cannot draft like the arm."""
    caveats = write_caveats(manifest or examples.manifest(), arm)
    return " ".join(caveat for caveat in caveats if caveat.startswith("No setting for "))


def of_other_vocabulary(**changes: Sampling) -> Manifest:
    """A run whose draft has another tokenizer."""
    target, *_ = examples.manifest().models
    other = OtherVocabulary(
        num_draft_tokens=300, num_target_tokens=400, num_shared_tokens=200, matches_text=True
    )
    draft = replace(
        examples.model(examples.DRAFT_4.draft, num_parameters=1), other_vocabulary=other
    )
    plan = replace(examples.manifest().plan, **changes)
    return examples.manifest(plan=plan, models=(target, draft))


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
    assert no_setting(EXIT_2).startswith("No setting for vLLM, SGLang and llama.cpp: early exit ")


def test_vllm_suffix():
    """Its four keys, limits as this run's, and no cache where the run had no past answers."""
    config, with_past = (
        json.loads(words("vLLM", examples.manifest(), arm)[-1]) for arm in (SUFFIX, PAST)
    )

    assert {
        "method": "suffix",
        "num_speculative_tokens": 16,
        "suffix_decoding_max_tree_depth": 32,
        "suffix_decoding_max_cached_requests": 0,
        "suffix_decoding_max_spec_factor": 1.0,
        "suffix_decoding_min_token_prob": 0.1,
    } == config
    assert {**config, "suffix_decoding_max_cached_requests": 10_000} == with_past


def test_suffix_is_for_vllm():
    """Other engines have none, and what vLLM needs and lacks is said."""
    assert ["vLLM"] == list(by_engine(examples.manifest(), PAST))
    assert all(name in no_setting(PAST) for name in ("SGLang", "llama.cpp", "transformers"))
    assert any("arctic-inference" in one for one in write_caveats(examples.manifest(), SUFFIX))
    assert any("no file of past" in one for one in write_caveats(examples.manifest(), PAST))


def test_suffix_arms_are_watched_over_all_passes():
    """Passes that drafted nothing count for suffix lookup as for n-grams."""
    looked_up, by_ngram = (
        by_engine(examples.manifest(), arm, COSTS)["vLLM"].watch
        for arm in (SUFFIX, examples.NGRAM_8)
    )

    assert by_ngram == looked_up


def test_latest_occurrence_has_no_flag():
    """vLLM and transformers take the earliest occurrence: nothing is made up for them."""
    assert {"SGLang", "llama.cpp"} == by_engine(examples.manifest(), LATEST).keys()
    assert no_setting(LATEST).startswith("No setting for vLLM and transformers: prompt lookup ")


@pytest.mark.parametrize("arm", [HEADS, TREE])
def test_vllm_heads_are_a_chain(arm):
    """As many drafts as can be kept of a chain; a tree's gain is not promised."""
    config = json.loads(words("vLLM", examples.manifest(), arm)[-1])
    said = [one for one in write_caveats(examples.manifest(), arm) if "no tree" in one]

    assert {"method": "medusa", "model": TRICKY, "num_speculative_tokens": 3} == config
    assert (arm.tree is not None) == bool(said)


def test_tensorrt_llm_heads_are_a_tree():
    """Its choices are the tree's paths, the root left out; its Python compiles."""
    code = by_engine(examples.manifest(), TREE)["TensorRT-LLM"].code
    compile(code, "brief", "exec")

    assert "medusa_choices=[[0], [1], [0, 0], [0, 0, 0]]," in code
    assert "num_medusa_heads=3," in code
    assert "max_draft_len=4," in code
    assert "SGLang, llama.cpp and transformers" in no_setting(TREE)


def test_heads_alone_name_tensorrt_llm():
    """It is no engine of the other methods' settings."""
    for arm in (examples.DRAFT_4, examples.NGRAM_8, SUFFIX, EXIT_2):
        assert "TensorRT" not in str(write_settings(examples.manifest(), arm, COSTS))


@pytest.mark.parametrize("sampling", [Sampling(), WARM])
def test_a_draft_of_another_vocabulary(sampling):
    """vLLM is told and drafts greedily, transformers gets both tokenizers, SGLang has none."""
    manifest = of_other_vocabulary(sampling=sampling)
    settings = by_engine(manifest, examples.DRAFT_4)
    config = json.loads(words("vLLM", manifest, examples.DRAFT_4)[-1])
    compile(settings["transformers"].code, "brief", "exec")

    assert config["use_heterogeneous_vocab"] is True
    assert "draft_sample_method" not in config
    assert "assistant_tokenizer=assistant_tokenizer)" in settings["transformers"].code
    assert no_setting(examples.DRAFT_4, manifest).startswith("No setting for SGLang: ")
    assert any("vocabulary of its own" in one for one in write_caveats(manifest, examples.DRAFT_4))


def test_a_shared_vocabulary_is_not_mentioned():
    """No flag and no caveat where both models have one tokenizer."""
    arm = examples.DRAFT_4

    assert "heterogeneous" not in str(write_settings(examples.manifest(), arm, None))
    assert not any("vocabular" in one for one in write_caveats(examples.manifest(), arm))


@pytest.mark.parametrize("arm", [examples.DRAFT_4, examples.NGRAM_8, SUFFIX, HEADS, EXIT_2])
def test_typical_acceptance_has_no_setting(arm):
    """Engines that verify otherwise would not do what was measured; only that is said."""
    lossy = replace(arm, lossy=TypicalAcceptance())
    (said,) = write_caveats(examples.manifest(), lossy)

    assert () == write_settings(examples.manifest(), lossy, COSTS)
    assert said.startswith("No setting for vLLM, SGLang, llama.cpp")


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
