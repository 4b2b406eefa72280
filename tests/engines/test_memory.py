"""Predictions beside what torch's own allocator hands out on a CPU."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from specmeasure import demo
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.engines import memory
from specmeasure.engines.ahead import ModelsAhead
from specmeasure.engines.dry_passes import DryModel, Rows
from specmeasure.engines.head_files import HeadsCheckpoint
from specmeasure.engines.memory import Longest, _Reckoning, predict_memory
from specmeasure.engines.proposing import target_rows
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.records.plan import (
    BASELINE,
    GREEDY,
    Arm,
    DecodeSettings,
    Method,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.records.tree import TokenTree

CPU_OPTIONS = ModelOptions(device="cpu", dtype="float32", num_threads=1)
NUM_NEW = 70  # more than the audit reads at once
WARM = Sampling(temperature=0.8, top_p=0.9)


def llama(folder: Path, **changes: object) -> str:
    """A random model of a few million weights that speaks the embedded target's tokens."""
    source = demo.embedded_folder(demo.TARGET)
    assert source is not None
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    sizes = {
        "vocab_size": 2048,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
    }
    config = LlamaConfig(**(sizes | changes))
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return str(folder)


def small(folder: Path) -> str:
    return llama(folder, hidden_size=128, intermediate_size=256, num_hidden_layers=1)


def plan_of(target: str, draft: str | None, **changes: object) -> Plan:
    drafting = () if draft is None else (drafting_with(draft),)
    options = replace(CPU_OPTIONS, **changes)
    return Plan(target=target, arms=(BASELINE, *drafting), options=options, ignore_eos=True)


def drafting_with(draft: str, num_drafts: int = 4) -> Arm:
    return Arm(
        name=f"draft k={num_drafts}",
        method=Method.DRAFT_MODEL,
        num_speculative_tokens=num_drafts,
        draft=draft,
    )


def predicted(plan: Plan, num_prompt: int, num_new: int = NUM_NEW, sampling: Sampling = GREEDY):
    return predict_memory(
        ModelsAhead.read(plan),
        Longest(
            num_prompt_tokens=num_prompt,
            num_new_tokens=num_new,
            num_context_tokens=num_prompt + num_new,
            samplings=(sampling,),
        ),
    )


def allocated(work: Callable[[], object]) -> int:
    """The most bytes that torch's CPU allocator had handed out at once since the work began."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [one for one in seen.profiler.kineto_results.events() if one.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def measured(plan: Plan, num_prompt: int, num_new: int = NUM_NEW, sampling: Sampling = GREEDY):
    """Weights as loaded, and the most that all arms and their audits took beside them."""
    engine = TransformersEngine.load(replace(plan, sampling=sampling))
    models = [engine._target, *engine._drafts.values()]
    storages = {
        id(tensor.untyped_storage()): tensor.untyped_storage()
        for one in models
        for tensor in (*one.model.parameters(), *one.model.buffers())
    }
    context = [3 + place % 200 for place in range(num_prompt)]
    settings = DecodeSettings(sampling=sampling, max_new_tokens=num_new)
    for one in models:
        one.reset(rolls_back=False)

    def run() -> None:
        for arm in plan.arms:
            seen = engine.observe(context, arm, settings)
            if sampling.is_greedy:
                engine.audit(context, seen.token_ids)
            else:
                engine.audit_sampled(context, seen, arm, settings)

    return sum(one.nbytes() for one in storages.values()) + allocated(run)


def test_of_the_embedded_pair():
    """Within a tenth of what a run takes: weights, prefill, decoding and audit."""
    plan = plan_of(demo.TARGET, demo.DRAFT)
    need = predicted(plan, 500).largest

    assert need.total_bytes == pytest.approx(measured(plan, 500), rel=0.1)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "changes",
    [{"num_key_value_heads": 2}, {"tie_word_embeddings": True}],
    ids=["grouped heads", "tied head"],
)
def test_of_long_prompts(tmp_path: Path, attn: str, changes: dict[str, object]):
    """Within a tenth, whatever attends and whatever is shared."""
    target, draft = llama(tmp_path / "target", **changes), small(tmp_path / "draft")
    plan = plan_of(target, draft, attn=attn)
    need = predicted(plan, 1200).largest

    assert need.total_bytes == pytest.approx(measured(plan, 1200), rel=0.1)


def test_of_two_thousand_tokens_in_bfloat16(tmp_path: Path):
    """Half the bytes a weight, and the audit's logits in float32."""
    plan = plan_of(llama(tmp_path / "target"), None, dtype="bfloat16")
    need = predicted(plan, 2000).largest

    assert need.total_bytes == pytest.approx(measured(plan, 2000), rel=0.1)


def test_of_large_vocabularies(tmp_path: Path):
    """Short prompts, many tokens: the audit's logits are the most."""
    target = llama(tmp_path / "target", vocab_size=20_000)
    plan = plan_of(target, None)
    need = predicted(plan, 20).largest

    assert need.checking_bytes > 0
    assert need.total_bytes == pytest.approx(measured(plan, 20), rel=0.1)


def test_of_sampled_answers(tmp_path: Path):
    """Distributions of drafts and target, and the audit's copies of them."""
    plan = plan_of(llama(tmp_path / "target"), small(tmp_path / "draft"))
    need = predicted(plan, 40, sampling=WARM).largest

    assert need.total_bytes == pytest.approx(measured(plan, 40, sampling=WARM), rel=0.1)


@pytest.mark.parametrize("num_rows", [1, 5])
def test_of_caches_that_are_set_aside(tmp_path: Path, num_rows: int):
    """What graphs replay on a GPU reads and writes the same tensors on a CPU."""
    folder = llama(tmp_path / "target", num_key_value_heads=2)
    real = CachedCausalLM(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), vocab_size=2048
    )
    (bare,) = ModelsAhead.read(plan_of(folder, None)).bare_models().values()
    dry = DryModel(model=StaticCausalLM(bare.cached), weights=bare.tensors, num_tokens=900)
    static = StaticCausalLM(real)
    static.release()

    @torch.inference_mode()
    def decode() -> None:
        static.prepare((), first=1, last=900)
        static.reset(rolls_back=True)
        static.prefill([3] * (900 - num_rows))
        static.forward(torch.full((num_rows,), 3))

    prompt = dry.read_prompt(900 - num_rows).peak_bytes
    (rows,) = dry.read_rows([Rows(number=num_rows)], Tensor.float)

    assert max(prompt, rows) == pytest.approx(allocated(decode), rel=0.1)


def test_rooms_of_all_drafts_are_kept():
    """With graphs each model's room stays, in a baseline's answers too, and passes keep memory."""
    plan = plan_of(demo.TARGET, demo.DRAFT)
    models = ModelsAhead.read(plan).bare_models()
    longest = Longest(
        num_prompt_tokens=500, num_new_tokens=70, num_context_tokens=570, samplings=(GREEDY,)
    )
    growing, static = (
        [_Reckoning(plan, models, longest, has_graphs=graphs).need(arm, 0) for arm in plan.arms]
        for graphs in (False, True)
    )

    assert growing[0].cache_bytes < growing[1].cache_bytes
    assert static[0].cache_bytes == static[1].cache_bytes
    assert 768 * growing[1].cache_bytes == 570 * static[1].cache_bytes  # room for 570 is 768
    assert all(
        one.total_bytes < other.total_bytes for one, other in zip(growing, static, strict=True)
    )


TREE = Arm(
    name="tree",
    method=Method.MEDUSA,
    num_speculative_tokens=20,
    heads=demo.MEDUSA,
    tree=TokenTree.of([[0], *([0, place] for place in range(8)), *([0, 0, n] for n in range(11))]),
)


def reckoning(plan: Plan, num_prompt: int, num_new: int, **changes: object) -> _Reckoning:
    models = ModelsAhead.read(plan).bare_models()
    longest = Longest(
        num_prompt_tokens=num_prompt,
        num_new_tokens=num_new,
        num_context_tokens=num_prompt + num_new,
        samplings=(GREEDY,),
    )
    return _Reckoning(replace(plan, **changes), models, longest, has_graphs=True)


def test_room_is_that_of_the_largest_pass():
    """What stands beside a tree's longest path is read as well, and rooms grow by it."""
    plan = plan_of(demo.TARGET, None)
    chain, tree = (
        reckoning(plan, 500, 8, arms=arms).need(BASELINE, 0).cache_bytes
        for arms in ((BASELINE,), (BASELINE, TREE))
    )

    assert 768 * chain == 512 * tree  # 508 − 1 + 20 − 3 tokens do not fit into 512


def test_results_of_captured_passes_are_counted_once_each():
    """A tree is cut by depth: three passes beside that of one row; logits in the model's dtype."""
    plan = replace(plan_of(demo.TARGET, None, dtype="bfloat16"), arms=(BASELINE, TREE))
    one = reckoning(plan, 20, 8)
    beyond = max(one._blocks.values()) - one._target.cache_bytes

    assert (1, 2, 10, 21) == target_rows(TREE)
    assert (1 + 2 + 10 + 21) * 2048 * 2 == one._graph_bytes - beyond


def test_a_model_whose_attention_takes_no_mask_has_no_graphs():
    """Without weights it attends otherwise: what was asked for counts."""
    plan = plan_of(demo.TARGET, None)
    flash = replace(plan, options=replace(plan.options, attn="flash_attention_2"))

    assert reckoning(plan, 20, 8).is_captured
    assert not reckoning(flash, 20, 8).is_captured


def test_captures_have_a_workspace_of_their_own(monkeypatch: pytest.MonkeyPatch):
    """cuBLAS sets one aside for each stream; a run without graphs has one."""
    monkeypatch.setattr(memory, "workspace_bytes", lambda _: 2**40)
    monkeypatch.setattr(memory, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(memory, "free_bytes", lambda _: 2**50)
    with_graphs, without = (
        predicted(plan_of(demo.TARGET, None, graphs=graphs), 20, 8).largest.working_bytes // 2**40
        for graphs in (True, False)
    )

    assert (2, 1) == (with_graphs, without)


def test_weights_that_are_shared_count_once(tmp_path: Path):
    """A tied head, and a target that drafts for itself."""
    tied, untied = (llama(tmp_path / str(tie), tie_word_embeddings=tie) for tie in (True, False))
    alone = predicted(plan_of(tied, None), 8, 4).largest
    together = predicted(plan_of(tied, tied), 8, 4).of("draft k=4")

    head_bytes = 2048 * 256 * 4
    assert head_bytes == predicted(plan_of(untied, None), 8, 4).largest.model_bytes - (
        alone.model_bytes
    )
    assert alone.model_bytes == together.model_bytes
    assert 2 * alone.cache_bytes == together.cache_bytes


def test_longer_drafts_need_more():
    """Rows of a block add up; the largest arm is the run's need."""
    plan = plan_of(demo.TARGET, None)
    arms = (*plan.arms, *(drafting_with(demo.DRAFT, number) for number in (2, 512)))
    need = predicted(replace(plan, arms=arms), 8, 600)

    assert "draft k=512" == need.largest.arm


def test_heads_are_weighed_and_their_trees_read():
    """Medusa heads stand beside the target, and a tree's rows are all verified."""
    tree = TokenTree.of([[0], [1], [0, 0], [1, 0]])
    heads = Arm(
        name="medusa",
        method=Method.MEDUSA,
        num_speculative_tokens=tree.num_nodes,
        heads=demo.MEDUSA,
        tree=tree,
    )
    plan = plan_of(demo.TARGET, None)
    alone = predicted(plan, 8, 4).largest
    together = predicted(replace(plan, arms=(BASELINE, heads)), 8, 4).of("medusa")
    own = HeadsCheckpoint.open(demo.MEDUSA, CPU_OPTIONS).num_parameters

    assert 4 * own == together.model_bytes - alone.model_bytes
    assert together.working_bytes > alone.working_bytes


@pytest.mark.parametrize(
    ("options", "changes"),
    [({"device_map": "auto"}, {}), ({"trust_remote_code": True}, {}), ({}, {"dtype": None})],
    ids=["spread", "own code", "no dtype"],
)
def test_what_configs_do_not_tell_is_not_guessed(
    options: dict[str, object], changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
):
    """None, which is no size."""
    plan = plan_of(demo.TARGET, None, **options)
    ahead = ModelsAhead.read(plan)
    for name, value in changes.items():
        setattr(ahead.configs[demo.TARGET], name, value)
        monkeypatch.setattr("specmeasure.engines.ahead.wanted_dtype", lambda *_: None)
    longest = Longest(
        num_prompt_tokens=8, num_new_tokens=4, num_context_tokens=12, samplings=(GREEDY,)
    )

    assert predict_memory(ahead, longest) is None


def test_of_quantised_weights_their_files_count(tmp_path: Path):
    """Not what the dtype would make of them; without their files nothing is known."""
    folder = Path(llama(tmp_path / "target"))
    path = folder / "config.json"
    stated = {"quantization_config": {"quant_method": "fp8"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | stated))
    size = (folder / "model.safetensors").stat().st_size
    found = predicted(plan_of(str(folder), None), 8, 4)
    (folder / "model.safetensors").unlink()

    assert size == found.largest.model_bytes
    assert predicted(plan_of(str(folder), None), 8, 4) is None


@pytest.mark.parametrize("kind", [MistralConfig, Gemma3TextConfig, Qwen2Config, GPT2Config])
def test_other_architectures_are_carried_out_as_well(tmp_path: Path, kind: type):
    """Sliding windows, layers of two kinds, biases, learned positions."""
    source = demo.embedded_folder(demo.TARGET)
    shutil.copytree(source, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors"))
    sizes = {"vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    others = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128}
    extra = {} if kind is GPT2Config else {"sliding_window": 32}
    kind(**sizes, **others, **extra).save_pretrained(tmp_path / "m")

    assert predicted(plan_of(str(tmp_path / "m"), None), 100) is not None
