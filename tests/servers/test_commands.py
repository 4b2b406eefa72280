import json
import shutil
import sys
from pathlib import Path

import pytest

from specmeasure.demo import embedded_folder
from specmeasure.errors import ServerNotStarted, TokenizerMismatch, UsageError
from specmeasure.records.plan import (
    BASELINE,
    Arm,
    DraftSampling,
    Method,
    ModelOptions,
    NgramPick,
    Plan,
    Sampling,
    TypicalAcceptance,
)
from specmeasure.records.serving import Load, Serving, ServingEngine
from specmeasure.records.tree import TokenTree
from specmeasure.servers import llamacpp_main
from specmeasure.servers.commands import cache_folder, launch_for
from specmeasure.servers.launch import served_name
from specmeasure.servers.llamacpp_command import LlamaInstall, find_llamacpp, llamacpp_launch
from specmeasure.servers.vllm_command import vllm_launch
from specmeasure.servers.vllm_install import VllmInstall, find_vllm

DRAFT = Arm(
    name="draft k=4", method=Method.DRAFT_MODEL, num_speculative_tokens=4, draft="embedded:draft"
)
NGRAM = Arm(
    name="ngram k=5", method=Method.NGRAM, num_speculative_tokens=5, max_ngram=4, min_ngram=2
)
INSTALL = VllmInstall(
    program="/env/bin/python",
    version="0.32.0",
    is_for_cpu=False,
    openmp=None,
    tells_blocks=True,
    can_sample_drafts=True,
)
CPU_INSTALL = VllmInstall(
    program="/env/bin/python",
    version="0.32.0",
    is_for_cpu=True,
    openmp="/env/lib/libiomp5.so",
    tells_blocks=True,
    can_sample_drafts=True,
)


def planned(*arms, engine=ServingEngine.VLLM, levels=(1, 8), sampling=None, **more):
    options = more.pop("options", ModelOptions(num_threads=2))
    loads = more.pop("loads", tuple(Load(concurrency=level) for level in levels))
    return Plan(
        target="embedded:target",
        arms=(BASELINE, *arms),
        sampling=sampling or Sampling(),
        options=options,
        serving=Serving(engine=engine, loads=loads, **more),
    )


def vllm(arm, *, install=INSTALL, environ=None, **more):
    arms = () if arm.is_baseline else (arm,)
    plan = planned(*arms, **more)
    return vllm_launch(plan, arm, 8123, install=install, environ=environ or {})


def llamacpp(arm, *, binary=None, environ=None, **more):
    arms = () if arm.is_baseline else (arm,)
    files = {"embedded:target": Path("/g/target-1.gguf"), "embedded:draft": Path("/g/draft-2.gguf")}
    installed = LlamaInstall(binary=binary, files=files, environ=environ or {})
    plan = planned(*arms, engine=ServingEngine.LLAMACPP, **more)
    return llamacpp_launch(plan, arm, 8123, installed=installed)


def value(argv, flag):
    return argv[argv.index(flag) + 1]


def configured(config, length=3):
    return Arm(
        name="served",
        method=Method.SERVED,
        num_speculative_tokens=length,
        speculative_config=config if isinstance(config, str) else json.dumps(config),
    )


def test_a_vllm_baseline_is_told_everything_that_a_default_could_spoil():
    """No prefix cache, no sampling defaults, no room for queues; nothing about speculation."""
    argv = vllm(BASELINE).argv

    assert "/env/bin/python" == argv[0]
    assert "--no-enable-prefix-caching" in argv
    assert "vllm" == value(argv, "--generation-config")
    assert ("127.0.0.1", "8123") == (value(argv, "--host"), value(argv, "--port"))
    assert "8" == value(argv, "--max-num-seqs")
    assert str(embedded_folder("embedded:target")) == value(argv, "--model")
    assert [] == [word for word in argv if "spec" in word and word.startswith("--")]


def test_a_speculative_vllm_drafts_k_and_tells_its_blocks():
    """Its configuration is the arm's; the per-request metrics are the detailed ones."""
    argv = vllm(DRAFT).argv

    assert {
        "method": "draft_model",
        "model": str(embedded_folder("embedded:draft")),
        "num_speculative_tokens": 4,
    } == json.loads(value(argv, "--speculative-config"))
    assert "detailed" == value(argv, "--per-request-spec-decode-metrics")


def test_an_older_vllm_is_not_asked_for_blocks():
    """A flag that it does not know would end it at once."""
    older = VllmInstall(
        program="p",
        version="0.11",
        is_for_cpu=False,
        openmp=None,
        tells_blocks=False,
        can_sample_drafts=False,
    )

    assert "--per-request-spec-decode-metrics" not in vllm(DRAFT, install=older).argv
    with pytest.raises(UsageError, match=r"vLLM 0.11 picks a draft model's likeliest"):
        vllm(DRAFT, install=older, sampling=Sampling(temperature=0.7))


def test_ngram_sizes_reach_vllm():
    """Prompt lookup has the arm's longest and shortest suffix."""
    config = json.loads(value(vllm(NGRAM).argv, "--speculative-config"))

    assert {
        "method": "ngram",
        "num_speculative_tokens": 5,
        "prompt_lookup_max": 4,
        "prompt_lookup_min": 2,
    } == config


def test_heads_reach_vllm_in_its_own_layout(tmp_path):
    """A folder that holds both layouts names the inner one."""
    inner = tmp_path / "vllm"
    inner.mkdir()
    arm = Arm(
        name="medusa k=3", method=Method.MEDUSA, num_speculative_tokens=3, heads=str(tmp_path)
    )
    expected = {"method": "medusa", "num_speculative_tokens": 3}

    for folder in (inner, tmp_path):
        found = json.loads(value(vllm(arm).argv, "--speculative-config"))
        assert {**expected, "model": str(folder.resolve())} == found
        if inner.exists():
            inner.rmdir()


def test_heads_in_another_layout_are_refused():
    """vLLM would not find its keys."""
    arm = Arm(
        name="medusa k=3", method=Method.MEDUSA, num_speculative_tokens=3, heads="embedded:medusa"
    )

    with pytest.raises(UsageError, match="vLLM does not read this layout"):
        vllm(arm)


def test_suffix_lookup_reaches_vllm():
    """K is its cap, and it keeps no answers: the arm has no past outputs."""
    arm = Arm(name="suffix k=8", method=Method.SUFFIX, num_speculative_tokens=8)
    config = json.loads(value(vllm(arm).argv, "--speculative-config"))

    assert ("suffix", 8) == (config["method"], config["num_speculative_tokens"])
    assert 0 == config["suffix_decoding_max_cached_requests"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": Method.MEDUSA, "heads": "h", "tree": TokenTree.chain(4)}, "no trees"),
        ({"method": Method.SUFFIX, "past_outputs": "logs.jsonl"}, "no file of past ones"),
        (
            {
                "method": Method.NGRAM,
                "max_ngram": 4,
                "min_ngram": 2,
                "ngram_pick": NgramPick.LATEST,
            },
            "continues the earliest",
        ),
    ],
)
def test_what_vllm_drafts_otherwise_is_refused(changes, message):
    """Measured there it would be another arm."""
    with pytest.raises(UsageError, match=message):
        vllm(Arm(name="x", num_speculative_tokens=4, **changes))


@pytest.mark.parametrize(
    ("draft_sampling", "temperature", "expected"),
    [
        (DraftSampling.PROBABILISTIC, 0.7, "probabilistic"),
        (DraftSampling.GREEDY, 0.7, None),
        (DraftSampling.PROBABILISTIC, 0.0, None),
    ],
)
def test_drafts_are_drawn_where_the_target_samples(draft_sampling, temperature, expected):
    """Greedy is vLLM's default; drawn drafts are asked for by name."""
    arm = Arm(
        name="d",
        method=Method.DRAFT_MODEL,
        num_speculative_tokens=2,
        draft="embedded:draft",
        draft_sampling=draft_sampling,
    )
    argv = vllm(arm, sampling=Sampling(temperature=temperature)).argv

    config = json.loads(value(argv, "--speculative-config"))
    assert expected == config.get("draft_sample_method")


def test_a_users_own_configuration_is_passed_on():
    """Its embedded or relative model becomes a path; nothing else changes."""
    arm = configured({"method": "eagle", "model": "embedded:draft", "num_speculative_tokens": 3})
    config = json.loads(value(vllm(arm).argv, "--speculative-config"))

    assert ("eagle", 3) == (config["method"], config["num_speculative_tokens"])
    assert str(embedded_folder("embedded:draft")) == config["model"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"num_speculative_tokens": 3, "rejection_sample_method": "synthetic"}, "made up"),
        ({"num_speculative_tokens": 3, "synthetic_acceptance_length": 2.5}, "made up"),
        ({"num_speculative_tokens": 5}, "drafts 5 tokens, the plan 3"),
        ("[3]", "not an object"),
        ("{", "not an object"),
    ],
)
def test_acceptance_that_is_made_up_or_another_k_is_refused(config, told):
    """Forced acceptance is never measured, and K is the plan's."""
    with pytest.raises(UsageError, match=told):
        vllm(configured(config))


@pytest.mark.parametrize(
    "words",
    [
        ("--port", "8000"),
        ("--model=x",),
        ("--speculative_config", "{}"),
        ("--speculative-conf", "{}"),
        ("--speculative-config.method", "ngram"),
        ("-sc", "{}"),
        ("--enable-prefix-caching",),
        ("--disable-log-stats",),
        ("--spec-tokens", "3"),
    ],
)
def test_arguments_that_fight_with_the_measurement_are_refused(words):
    """However they are spelt."""
    with pytest.raises(UsageError, match="specmeasure sets these itself"):
        vllm(DRAFT, engine_args=words)


def test_other_engine_arguments_are_passed_on_last():
    """Values that begin with a minus or hold an equals sign do not matter."""
    words = ("--max-model-len", "1024", "--enforce-eager", "--max-num-seqs=64", "--seed", "-1")

    argv = vllm(DRAFT, engine_args=words).argv

    assert words == argv[-len(words) :]
    assert "--max-num-seqs" not in argv


def test_fewer_sequences_than_the_load_are_refused():
    """The server would make requests queue that the load says are in flight."""
    with pytest.raises(UsageError, match="--max-num-seqs 4 is below the concurrency of 8"):
        vllm(BASELINE, engine_args=("--max-num-seqs", "4"))


def test_an_open_load_leaves_the_number_of_sequences_to_vllm():
    """At a rate, nobody knows how many are in flight."""
    assert "--max-num-seqs" not in vllm(BASELINE, loads=(Load(rate=2.0),)).argv


def test_a_gpu_is_shared_by_servers_that_stay_up_together():
    """Baseline and one arm get 45 % each, said so; kept apart each has vLLM's default."""
    together, apart = vllm(DRAFT), vllm(DRAFT, keep_apart=True)

    assert "0.450" == value(together.argv, "--gpu-memory-utilization")
    assert "45%" in together.notes[0]
    assert "--gpu-memory-utilization" not in apart.argv
    assert () == apart.notes


def test_a_cpu_build_gets_threads_openmp_and_a_small_cache():
    """A set variable of the user's stands; the plan's threads win; LD_PRELOAD is joined."""
    environ = {"VLLM_CPU_KVCACHE_SPACE": "9", "LD_PRELOAD": "/other.so", "OMP_NUM_THREADS": "7"}
    env = vllm(DRAFT, install=CPU_INSTALL, environ=environ).env

    assert "2" == env["OMP_NUM_THREADS"]
    assert "nobind" == env["VLLM_CPU_OMP_THREADS_BIND"]
    assert "9" == env["VLLM_CPU_KVCACHE_SPACE"]
    assert "/env/lib/libiomp5.so:/other.so" == env["LD_PRELOAD"]
    assert "1" == env["HF_HUB_OFFLINE"]


def test_on_a_cpu_no_worker_spins_beside_the_engine():
    """It would starve the API; the user's own word stands, and a GPU build chooses itself."""
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    own = vllm(DRAFT, install=CPU_INSTALL, environ={name: "1"}).env

    assert "0" == vllm(BASELINE, install=CPU_INSTALL).env[name]
    assert "1" == own[name]
    assert name not in vllm(DRAFT).env


def test_a_gpu_build_keeps_its_own_environment():
    """Nothing of CPUs; no usage statistics, no keys, no folder of where we happen to be."""
    env = vllm(BASELINE).env

    assert {"OMP_NUM_THREADS", "LD_PRELOAD", "VLLM_CPU_KVCACHE_SPACE"}.isdisjoint(env)
    assert env["VLLM_API_KEY"] is None
    assert ("1", "1") == (env["VLLM_NO_USAGE_STATS"], env["PYTHONSAFEPATH"])


def test_an_interpreter_without_vllm_is_told():
    """The message names the option."""
    with pytest.raises(ServerNotStarted, match=r"--vllm-python .*: this interpreter has no vLLM"):
        find_vllm(sys.executable)
    with pytest.raises(ServerNotStarted, match="--vllm-python /nowhere/python: it did not run"):
        find_vllm("/nowhere/python")
    with pytest.raises(ServerNotStarted, match="Name the Python interpreter"):
        find_vllm(None)


def test_vllm_is_understood_without_being_imported(tmp_path, monkeypatch):
    """Version, build and abilities are read from the files of an environment."""
    config = tmp_path / "vllm" / "config"
    config.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text("raise SystemExit('imported')")
    (config / "observability.py").write_text("per_request_spec_decode_metrics = 1")
    (config / "speculative.py").write_text("")
    (tmp_path / "vllm-0.30.0+cpu.dist-info").mkdir()
    (tmp_path / "vllm-0.30.0+cpu.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm\nVersion: 0.30.0+cpu\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    found = find_vllm(sys.executable)

    assert ("0.30.0+cpu", True) == (found.version, found.is_for_cpu)
    assert (True, False) == (found.tells_blocks, found.can_sample_drafts)


def test_a_served_name_is_short_for_folders_and_whole_for_hub_ids(tmp_path):
    """A path of this machine is no model's name."""
    assert tmp_path.name == served_name(str(tmp_path))
    assert "embedded:target" == served_name("embedded:target")


def test_a_llamacpp_draft_arm_drafts_k_in_every_block():
    """K at most, one at least, no stop at low confidence; keys and values as wide as weights."""
    argv = llamacpp(DRAFT).argv

    assert (sys.executable, "-P", llamacpp_main.__file__) == argv[:3]
    assert {
        "model.path=/g/target-1.gguf",
        "port=8123",
        "n_parallel=8",
        "cpuparams.n_threads=2",
        "endpoint_metrics=true",
        "cache_prompt=false",
        "cache_type_k=f32",
        "speculative.types=draft-simple",
        "speculative.draft.mparams.path=/g/draft-2.gguf",
        "speculative.draft.n_max=4",
        "speculative.draft.n_min=1",
        "speculative.draft.p_min=0.0",
        "speculative.draft.cache_type_v=f32",
    } <= set(argv)
    assert not any("probabilistic" in word for word in argv)


def test_the_binary_gets_the_same_in_its_own_options():
    """Every setting of xllamacpp's is an option of llama-server's, in the same order."""
    ours, theirs = llamacpp(DRAFT).argv, llamacpp(DRAFT, binary="/opt/llama-server").argv

    assert "/opt/llama-server" == theirs[0]
    assert len(ours) - 3 == len([word for word in theirs if word.startswith("--")])
    assert "4" == value(theirs, "--spec-draft-n-max")
    assert "/g/draft-2.gguf" == value(theirs, "--spec-draft-model")
    assert "--no-cache-prompt" in theirs


def test_llamacpp_draws_drafts_where_the_target_samples():
    """In xllamacpp's and in the binary's words."""
    sampling = Sampling(temperature=0.8)

    assert "speculative.draft.probabilistic=true" in llamacpp(DRAFT, sampling=sampling).argv
    argv = llamacpp(DRAFT, sampling=sampling, binary="/b").argv
    assert "probabilistic" == value(argv, "--spec-draft-sampling")


def test_llamacpp_looks_up_the_shortest_suffix_and_says_so():
    """Its lookup has one size and is not vLLM's: a note tells."""
    launch = llamacpp(NGRAM)

    assert "speculative.types=ngram-simple" in launch.argv
    assert "speculative.ngram_simple.size_n=2" in launch.argv
    assert "speculative.ngram_simple.size_m=5" in launch.argv
    assert "ngram k=5" in launch.notes[0]


def test_speculative_arguments_stay_away_from_the_baseline():
    """Synthetic rates reach the arms that draft, with a note that no figure is real."""
    words = ("speculative.synth_rates=[0.8, 0.4]", "n_batch=512")

    baseline, draft = llamacpp(BASELINE, engine_args=words), llamacpp(DRAFT, engine_args=words)

    assert words == draft.argv[-2:]
    assert words[1:] == baseline.argv[-1:]
    assert words[0] not in baseline.argv
    assert "synthetic" in draft.notes[-1]


@pytest.mark.parametrize(
    ("binary", "words"),
    [
        (None, ("port=1",)),
        (None, ("model.path=x",)),
        (None, ("speculative.draft.n_max=9",)),
        (None, ("verbosity=9",)),
        ("/b", ("-m", "x")),
        ("/b", ("--parallel", "1")),
        ("/b", ("--api-key", "k")),
        ("/b", ("-v",)),
    ],
)
def test_llamacpp_arguments_that_fight_with_the_measurement_are_refused(binary, words):
    """In both spellings."""
    with pytest.raises(UsageError, match="specmeasure sets these itself"):
        llamacpp(DRAFT, binary=binary, engine_args=words)


def test_xllamacpp_takes_assignments_only():
    """An option of the binary's is answered with how to say it."""
    with pytest.raises(UsageError, match="takes name=value"):
        llamacpp(BASELINE, engine_args=("--ctx-size", "512"))


def test_context_and_threads_are_defaults_that_the_user_may_change():
    """The user's word comes last and counts."""
    argv = llamacpp(BASELINE, engine_args=("n_ctx=512",)).argv

    assert "n_ctx=512" == argv[-1]
    assert "n_ctx=32768" in argv


def test_settings_in_the_environment_are_taken_away():
    """llama.cpp would read options from there that no record shows."""
    env = llamacpp(BASELINE, environ={"LLAMA_ARG_CTX_SIZE": "64", "HOME": "/h"}).env

    assert env["LLAMA_ARG_CTX_SIZE"] is None
    assert "HOME" not in env


def test_a_folder_is_served_in_float32_only():
    """What is converted is float32; another type has another way."""
    with pytest.raises(UsageError, match="--dtype float16"):
        llamacpp(BASELINE, options=ModelOptions(dtype="float16"))


@pytest.mark.parametrize(
    ("engine", "arm", "told"),
    [
        (
            vllm,
            Arm(name="e", method=Method.EARLY_EXIT, num_speculative_tokens=2, exit_layer=1),
            "no",
        ),
        (llamacpp, configured({"num_speculative_tokens": 3}), "no served drafting"),
        (
            vllm,
            Arm(
                name="l",
                method=Method.NGRAM,
                num_speculative_tokens=2,
                max_ngram=2,
                min_ngram=2,
                lossy=TypicalAcceptance(),
            ),
            "no typical acceptance",
        ),
    ],
)
def test_arms_that_an_engine_cannot_serve_are_refused(engine, arm, told):
    """Before anything is started."""
    with pytest.raises(UsageError, match=told):
        engine(arm)


def test_a_missing_binary_is_told():
    """With the option that names it."""
    with pytest.raises(
        ServerNotStarted, match="--llama-server /nowhere/llama-server: no such file"
    ):
        find_llamacpp("/nowhere/llama-server")


def test_converted_models_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    """A second run converts nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    launch = launch_for(planned(DRAFT, engine=ServingEngine.LLAMACPP))
    (target,) = cache_folder().glob("gguf/target-*.gguf")
    written = target.stat().st_mtime_ns

    launch_for(planned(DRAFT, engine=ServingEngine.LLAMACPP))

    assert f"model.path={target}" in launch(BASELINE, 1).argv
    assert written == target.stat().st_mtime_ns


def test_engines_that_are_attached_to_are_not_started():
    """The message says how to reach them."""
    with pytest.raises(UsageError, match="attach to a running SGLang with --baseline-url"):
        launch_for(planned(engine=ServingEngine.SGLANG))


def test_a_draft_with_another_tokenizer_is_refused(tmp_path):
    """Engines would take it for its size; its ids mean other text."""
    folder = Path(shutil.copytree(embedded_folder("embedded:draft"), tmp_path / "d"))
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(document))
    arm = Arm(name="d", method=Method.DRAFT_MODEL, num_speculative_tokens=2, draft=str(folder))

    with pytest.raises(TokenizerMismatch, match="differs from the target's in 2 tokens"):
        launch_for(planned(arm, engine=ServingEngine.LLAMACPP), cache=tmp_path)
