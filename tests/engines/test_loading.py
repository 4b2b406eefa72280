import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from specmeasure import demo
from specmeasure.engines.loading import (
    fingerprint,
    load_model,
    pick_device,
    refuse_cut_head,
)
from specmeasure.errors import (
    ModelError,
    ModelNotFound,
    OutOfMemory,
    UnsafeWeights,
    UnsupportedModel,
)
from specmeasure.records.plan import ModelOptions

CPU, OPTIONS = torch.device("cpu"), ModelOptions(dtype="float32")


@pytest.fixture
def draft_copy(tmp_path: Path) -> Path:
    source = demo.embedded_folder(demo.DRAFT)
    assert source is not None
    return Path(shutil.copytree(source, tmp_path / "draft"))


def load(folder: Path | str, options: ModelOptions = OPTIONS):
    return load_model(str(folder), options, device=CPU, role="draft")


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_no_such_model():
    """A path that does not exist is neither a folder nor a hub id."""
    with pytest.raises(ModelNotFound, match="draft /no/such/model: there is no such folder"):
        load("/no/such/model")


def test_unknown_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch):
    """Offline, a hub id that is not cached says so at once."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE"):
        load("nobody/nothing")


def test_unknown_embedded_name_lists_the_others():
    """The message names what there is."""
    with pytest.raises(ModelNotFound, match="embedded:draft-large"):
        load("embedded:nothing")


def test_folder_without_a_config(tmp_path: Path):
    """A folder that is no model is told apart from one that is missing."""
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        load(tmp_path)


def test_pickled_weights_are_refused_unless_asked_for(draft_copy: Path):
    """pytorch_model.bin alone: refused with the flag's name, loaded with it."""
    weights = load_file(draft_copy / "model.safetensors")
    torch.save(weights, draft_copy / "pytorch_model.bin")
    (draft_copy / "model.safetensors").unlink()

    with pytest.raises(UnsafeWeights, match="--allow-pickle"):
        load(draft_copy)
    assert load(draft_copy, ModelOptions(dtype="float32", allow_pickle=True)) is not None


def test_missing_weights_are_not_random(draft_copy: Path):
    """transformers would initialise them; here the first missing one is named."""
    path = draft_copy / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})

    with pytest.raises(ModelError, match=r"1 weights are missing.*up_proj"):
        load(draft_copy)


def test_weights_of_another_shape(draft_copy: Path):
    """Config and weights that do not belong together."""
    change_config(draft_copy, intermediate_size=300)
    with pytest.raises(ModelError, match="draft"):
        load(draft_copy)


def test_damaged_weights(draft_copy: Path):
    """A truncated file is said to be damaged."""
    path = draft_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged weights"):
        load(draft_copy)


def test_remote_code_is_refused(draft_copy: Path):
    """A model that brings code needs the user's flag; nothing is run or asked on stdin."""
    change_config(
        draft_copy,
        model_type="mine",
        auto_map={"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"},
    )
    (draft_copy / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsafeWeights, match="--trust-remote-code"):
        load(draft_copy)


def test_encoder_decoder_is_refused(draft_copy: Path):
    """T5 is no causal LM."""
    (draft_copy / "config.json").write_text(
        json.dumps({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]})
    )
    with pytest.raises(UnsupportedModel, match="encoder-decoder"):
        load(draft_copy)


def test_what_cannot_fit_is_refused_before_loading(draft_copy: Path):
    """The sizes stand in the message; nothing was allocated."""
    change_config(draft_copy, hidden_size=3 * 65536, num_hidden_layers=200)
    with pytest.raises(OutOfMemory, match=r"its weights take \d+ GiB; [\d.]+ GiB are free"):
        load(draft_copy)


def test_unknown_dtype_and_device():
    """Flags are answered with what they take."""
    with pytest.raises(ModelError, match="--dtype float31: use auto"):
        load(demo.DRAFT, ModelOptions(dtype="float31"))
    with pytest.raises(ModelError, match="--device toaster: use auto"):
        pick_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="sees 0 CUDA devices"):
            pick_device("cuda:7")


def test_a_cut_draft_head_is_refused():
    """A head with fewer rows than the target has tokens would silently cut the target."""
    with pytest.raises(UnsupportedModel, match="its head has 1000 rows, the target knows 2048"):
        refuse_cut_head("d", 1000, 2048)


def test_fingerprint_changes_with_one_weight(draft_copy: Path):
    """Another value anywhere in a small file is another model."""
    before = fingerprint(str(draft_copy), load(draft_copy))
    model = AutoModelForCausalLM.from_pretrained(draft_copy, dtype=torch.float16)
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    model.save_pretrained(draft_copy)

    assert before != fingerprint(str(draft_copy), load(draft_copy))
