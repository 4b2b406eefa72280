"""Checkpoints of heads: both layouts, what they must fit, and what is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.engines.foreign_drafts import refuse_foreign
from specmeasure.engines.heads import (
    facts_of_heads,
    heads_bytes,
    heads_facts,
    load_heads,
    read_head_count,
    save_heads,
)
from specmeasure.engines.loading import load_model
from specmeasure.errors import (
    BrokenLogits,
    ModelError,
    ModelNotFound,
    UnsafeWeights,
    UnsupportedModel,
)
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.records.heads import HeadsLayout
from specmeasure.records.plan import ModelOptions
from tests.decode import tiny_models

CPU, OPTIONS = torch.device("cpu"), ModelOptions()
PICKLES = ModelOptions(allow_pickle=True)
HIDDEN, VOCAB = 32, tiny_models.VOCAB
BOTH_LAYOUTS = pytest.mark.parametrize("layout", HeadsLayout)
THEIRS, OURS = "medusa_lm_head.safetensors", "model.safetensors"


@pytest.fixture(scope="module")
def target() -> CachedCausalLM:
    return CachedCausalLM(tiny_models.llama(), vocab_size=VOCAB)


def random_heads(num_heads: int = 3, num_layers: int = 2, lm_head=None) -> MedusaHeads:
    torch.manual_seed(1)
    return MedusaHeads(
        hidden_size=HIDDEN,
        vocab_size=VOCAB,
        num_heads=num_heads,
        num_layers=num_layers,
        lm_head=lm_head,
    )


def saved(folder: Path, layout: HeadsLayout = HeadsLayout.MEDUSA, **shape: int) -> str:
    save_heads(random_heads(**shape), folder, base_model="some/target", layout=layout)
    return str(folder)


def change_weights(folder: str, file_name: str = THEIRS, **changes: Tensor | None) -> None:
    """Weights by their names, dots written as __; None takes one out."""
    path = Path(folder) / file_name
    weights = load_file(path)
    for name, weight in changes.items():
        key = name.strip("_").replace("__", ".")
        weights.pop(key, None)
        if weight is not None:
            weights[key] = weight
    save_file(weights, path)


def change_config(folder: str, **changes: object) -> None:
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def logits_of(heads: MedusaHeads) -> Tensor:
    with torch.inference_mode():
        return heads(torch.linspace(-1, 1, HIDDEN))


@BOTH_LAYOUTS
@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_what_is_saved_is_loaded(tmp_path: Path, target, layout: HeadsLayout, num_layers: int):
    """Bit for bit, whatever the number of layers; the count needs no tensor."""
    heads = random_heads(num_layers=num_layers)
    save_heads(heads, tmp_path, base_model="some/target", layout=layout)
    loaded = load_heads(str(tmp_path), OPTIONS, target)
    facts = heads_facts(str(tmp_path), OPTIONS, loaded)

    assert torch.equal(logits_of(heads), logits_of(loaded))
    assert 3 == read_head_count(str(tmp_path), OPTIONS)
    assert (layout, 3, num_layers) == (facts.layout, facts.num_heads, facts.num_layers)
    num_parameters = 3 * (num_layers * (HIDDEN * HIDDEN + HIDDEN) + HIDDEN * VOCAB)
    assert (num_parameters, 4 * num_parameters) == (facts.num_parameters, facts.num_bytes)
    assert ((), False) == (facts.notes, facts.borrows_target_head)


def test_names_are_those_of_each_layout(tmp_path: Path):
    """As FasterDecoding's and vLLM's loaders look for them."""
    theirs, vllm = saved(tmp_path / "a", num_heads=1), saved(tmp_path / "b", HeadsLayout.VLLM)
    config = json.loads((Path(vllm) / "config.json").read_text())

    assert {
        *("0.0.linear.weight", "0.0.linear.bias", "0.1.linear.weight", "0.1.linear.bias"),
        "0.2.weight",
    } == set(load_file(Path(theirs) / THEIRS))
    assert {"blocks.2.layers.1.bias", "lm_heads.2.weight"} <= set(load_file(Path(vllm) / OURS))
    assert ("medusa", 3, 2) == tuple(
        config[field] for field in ("model_type", "num_heads", "num_hidden_layers")
    )
    assert config["medusa_fc_bias"]  # vLLM drops biases without it


@BOTH_LAYOUTS
def test_heads_that_share_a_vocabulary_matrix(tmp_path: Path, target, layout: HeadsLayout):
    """The target's own where the file has none, which then costs nothing; else the file's."""
    head = target.model.get_output_embeddings()
    matrix = nn.Linear(HIDDEN, VOCAB, bias=False)
    matrix.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    heads = random_heads(lm_head=matrix)
    save_heads(heads, tmp_path, base_model="some/target", layout=layout)
    loaded = load_heads(str(tmp_path), OPTIONS, target)
    borrows = layout is HeadsLayout.MEDUSA

    assert torch.equal(logits_of(heads), logits_of(loaded))
    assert borrows == heads_facts(str(tmp_path), OPTIONS, loaded).borrows_target_head
    assert borrows == (loaded.lm_heads[2].weight.data_ptr() == head.weight.data_ptr())
    blocks = 4 * 3 * 2 * (HIDDEN * HIDDEN + HIDDEN)
    assert blocks + (0 if borrows else 4 * HIDDEN * VOCAB) == heads_bytes(loaded)


def test_heads_inside_a_full_model_are_found(tmp_path: Path, target):
    """Medusa-2: keys with a prefix, in shards; the model's own weights are left alone."""
    folder = saved(tmp_path)
    weights = {f"medusa_head.{key}": one for key, one in load_file(tmp_path / THEIRS).items()}
    plain = logits_of(load_heads(folder, OPTIONS, target))
    (tmp_path / THEIRS).unlink()
    save_file({"lm_head.weight": torch.ones(2, 2), **weights}, tmp_path / "two.safetensors")
    files = dict.fromkeys(["lm_head.weight", *weights], "two.safetensors")
    index = {"weight_map": {**files, "model.norm.weight": "one.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    change_config(folder, model_type="llama", architectures=["LlamaForCausalLM"])

    assert torch.equal(plain, logits_of(load_heads(folder, OPTIONS, target)))


def test_the_weights_count_where_the_config_disagrees(tmp_path: Path, target):
    """Published configs say two heads and hold five; the user is told."""
    folder = saved(tmp_path, num_heads=5)
    change_config(folder, medusa_num_heads=2)
    facts = heads_facts(folder, OPTIONS, load_heads(folder, OPTIONS, target))

    assert 5 == read_head_count(folder, OPTIONS) == facts.num_heads
    assert 1 == len(facts.notes)
    assert "medusa_num_heads 2, the weights hold 5" in facts.notes[0]


@pytest.mark.parametrize("file_name", ["medusa_lm_head.pt", "medusa_head.pt"])
def test_pickles_are_read_when_allowed(tmp_path: Path, target, file_name: str):
    """Otherwise the flag is named; nothing but tensors is unpickled."""
    folder = saved(tmp_path)
    expected = logits_of(load_heads(folder, OPTIONS, target))
    torch.save(load_file(tmp_path / THEIRS), tmp_path / file_name)
    (tmp_path / THEIRS).unlink()

    with pytest.raises(UnsafeWeights, match=rf"{file_name}.*--allow-pickle"):
        load_heads(folder, OPTIONS, target)
    assert torch.equal(expected, logits_of(load_heads(folder, PICKLES, target)))
    torch.save({"0.0.linear.weight": nn.Linear(2, 2)}, tmp_path / file_name)
    with pytest.raises(ModelError, match="heads"):
        load_heads(folder, PICKLES, target)


def test_vllms_layers_may_have_no_bias(tmp_path: Path, target):
    """None at all; a single missing one is a gap."""
    folder = saved(tmp_path, HeadsLayout.VLLM, num_heads=1, num_layers=1)
    change_weights(folder, OURS, blocks__0__layers__0__bias=None)

    assert 0 == float(load_heads(folder, OPTIONS, target).blocks[0][0].bias.abs().sum())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"_1__1__linear__weight": None},
            r"medusa_lm_head.safetensors has no weight '1.1.linear.w",
        ),
        ({"_2__0__linear__bias": None}, "has no weight '2.0.linear.bias'"),
        ({"_1__2__weight": None}, "has no weight '1.2.weight'"),
        ({"_1__2__weight": None, "_1__3__weight": torch.ones(VOCAB, HIDDEN)}, "no weight '1.2.we"),
        ({"_0__2__bias": torch.ones(VOCAB)}, "holds '0.2.bias', which is no weight of a Medusa"),
        ({"_0__0__linear__bias": torch.ones(7)}, "of hidden size 7 .*; this target's is 32"),
        ({"_0__0__linear__weight": torch.ones(7, HIDDEN)}, "damaged: 0.0.linear.weight has shape"),
        ({"_0__2__weight": torch.ones(63, HIDDEN)}, "vocabulary of 63 tokens .*target's has 64"),
        ({"_0__2__weight": torch.ones(65, HIDDEN)}, "vocabulary of 65 tokens"),
    ],
)
def test_names_and_shapes_are_checked(tmp_path: Path, target, changes: dict, message: str):
    """One error that names the file and the weight."""
    folder = saved(tmp_path)
    change_weights(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_heads(folder, OPTIONS, target)


def test_heads_of_another_target_say_so(tmp_path: Path, target):
    """Every weight is of its hidden size; the first tells."""
    heads = MedusaHeads(hidden_size=16, vocab_size=VOCAB, num_heads=1, num_layers=1)
    save_heads(heads, tmp_path, base_model="other", layout=HeadsLayout.MEDUSA)
    with pytest.raises(ModelError, match="trained for a target of hidden size 16"):
        load_heads(str(tmp_path), OPTIONS, target)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_numbers_are_named(tmp_path: Path, target, value: float):
    """The file and the weight, before anything is drafted."""
    folder = saved(tmp_path)
    change_weights(folder, _1__0__linear__bias=torch.full((HIDDEN,), value))
    with pytest.raises(BrokenLogits, match=r"medusa_lm_head.safetensors .* 1\.0\.linear\.bias"):
        load_heads(folder, OPTIONS, target)


def test_a_damaged_file(tmp_path: Path, target):
    """Cut in the middle of its header."""
    folder = saved(tmp_path)
    (tmp_path / THEIRS).write_bytes((tmp_path / THEIRS).read_bytes()[:100])
    with pytest.raises(ModelError, match="damaged weights"):
        load_heads(folder, OPTIONS, target)


def test_a_folder_without_weights(tmp_path: Path, target):
    """Says what was looked for."""
    with pytest.raises(ModelNotFound, match=r"no weights were found.*medusa_lm_head\.pt"):
        load_heads(str(tmp_path), OPTIONS, target)
    with pytest.raises(ModelNotFound, match="heads /no/such: there is no such folder"):
        load_heads("/no/such", OPTIONS, target)


@pytest.mark.parametrize("change", [{"truncated_vocab_size": 20}, {"token_map": torch.arange(20)}])
def test_cut_vocabularies_are_refused(tmp_path: Path, target, change: dict):
    """vLLM's heads over its most frequent tokens."""
    folder = saved(tmp_path, HeadsLayout.VLLM)
    if "token_map" in change:
        change_weights(folder, OURS, token_map=change["token_map"].float())
    else:
        change_config(folder, **change)
    with pytest.raises(UnsupportedModel, match="a part of the vocabulary only"):
        load_heads(folder, OPTIONS, target)


@BOTH_LAYOUTS
def test_heads_are_no_draft_model(tmp_path: Path, layout: HeadsLayout):
    """Named with --draft, they are sent to --medusa."""
    with pytest.raises(UnsupportedModel, match=r"Medusa heads, not a language model.*--medusa"):
        load_model(saved(tmp_path, layout), OPTIONS, device=CPU, role="draft")


def test_a_draft_model_is_no_heads(tmp_path: Path, target):
    """Named with --medusa, it is sent to --draft."""
    tiny_models.llama().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"no Medusa heads.*LlamaForCausalLM.*--draft"):
        load_heads(str(tmp_path), OPTIONS, target)


EAGLE, EAGLE_3, MTP, MLP, DFLASH = (
    ("an EAGLE drafter", "eagle"),
    ("an EAGLE-3 drafter", "eagle3"),
    (r"multi-token prediction \(MTP\) layers", "mtp"),
    ("an MLP speculator", "mlp_speculator"),
    ("a DFlash drafter", "dflash"),
)


@pytest.mark.parametrize("role", ["draft", "heads"])
@pytest.mark.parametrize(
    ("config", "keys", "kind"),
    [
        ({"architectures": ["EagleLlamaForCausalLM"]}, [], EAGLE),
        ({"architectures": ["LlamaForCausalLM"], "eagle_config": {}}, [], EAGLE),
        ({"architectures": ["LlamaForCausalLM"]}, ["fc.weight"], EAGLE),
        ({"architectures": ["LlamaForCausalLMEagle3"]}, [], EAGLE_3),
        ({"architectures": ["LlamaForCausalLM"], "draft_vocab_size": 32000}, [], EAGLE_3),
        ({"architectures": ["LlamaForCausalLM"]}, ["fc.weight", "d2t"], EAGLE_3),
        ({"architectures": ["LlamaForCausalLM"]}, ["midlayer.mlp.up_proj.weight"], EAGLE_3),
        ({"speculators_model_type": "eagle3"}, [], EAGLE_3),
        ({"architectures": ["DeepSeekMTPModel"]}, [], MTP),
        ({"architectures": ["MLPSpeculatorPreTrainedModel"]}, [], MLP),
        ({"model_type": "mlp_speculator"}, [], MLP),
        ({}, ["emb.0.weight"], MLP),
        ({"architectures": ["DFlashDraftModel"]}, [], DFLASH),
    ],
    ids=str,
)
def test_other_drafters_are_refused_by_name(
    tmp_path: Path, config: dict, keys: list[str], kind: tuple[str, str], role: str
):
    """What it is, what it would need, and how a server measures it."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    if keys:
        save_file({key: torch.ones(1) for key in keys}, tmp_path / OURS)
    what, method = kind
    with pytest.raises(UnsupportedModel, match=rf"^{role} .*this is an? .*{what[3:]}") as caught:
        refuse_foreign(str(tmp_path), role)
    assert "the target's hidden states" in str(caught.value)
    assert f'--engine vllm --speculative-config \'{{"method": "{method}"' in str(caught.value)


def test_an_unknown_speculator_is_named(tmp_path: Path):
    """By what its config calls it."""
    (tmp_path / "config.json").write_text('{"speculators_model_type": "hydra"}')
    with pytest.raises(UnsupportedModel, match="a speculator of the kind 'hydra'"):
        refuse_foreign(str(tmp_path), "draft")


def test_mtp_is_no_models_name():
    """The target's own layers cannot be asked for as a draft."""
    with pytest.raises(UnsupportedModel, match=r'draft mtp: .*"method": "mtp", "num_spec'):
        load_model("mtp", OPTIONS, device=CPU, role="draft")


def test_language_models_pass(tmp_path: Path):
    """Of any kind, one whose name only begins alike among them."""
    tiny_models.llama().save_pretrained(tmp_path)
    refuse_foreign(str(tmp_path), "draft")
    change_config(str(tmp_path), architectures=["Eagle2_5_VLForConditionalGeneration"])
    refuse_foreign(str(tmp_path), "draft")


def test_heads_of_the_hub_are_read_from_its_cache(tmp_path: Path, target, monkeypatch):
    """Offline; their fingerprint is the hub's commit, and files that are not there are no error."""
    commit = "0123456789" * 4
    saved(tmp_path / "models--some--heads" / "snapshots" / commit)
    refs = tmp_path / "models--some--heads" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    loaded = load_heads("some/heads", OPTIONS, target)

    assert torch.equal(logits_of(random_heads()), logits_of(loaded))
    assert commit == facts_of_heads("some/heads", loaded).fingerprint
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE"):
        load_heads("some/others", OPTIONS, target)
