import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from specmeasure.demo import embedded_folder
from specmeasure.errors import ModelError, ModelNotFound
from specmeasure.servers.gguf import gguf_file

TARGET = embedded_folder("embedded:target")
DRAFT = embedded_folder("embedded:draft")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the embedded draft, to be changed."""
    return Path(shutil.copytree(DRAFT, tmp_path / "model"))


def change(path, **fields):
    document = json.loads(path.read_text())
    document.update(fields)
    path.write_text(json.dumps(document))


def read(path):
    """Fields and tensors of a GGUF file."""
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    return fields, tensors


def test_every_weight_is_carried_over_in_float32(tmp_path):
    """Float16 weights are exact in float32; tied embeddings are written once."""
    weights = load_file(TARGET / "model.safetensors")

    fields, tensors = read(gguf_file("embedded:target", tmp_path))

    assert {np.float32} == {tensor.dtype.type for tensor in tensors.values()}
    assert sum(weight.numel() for weight in weights.values()) == sum(
        tensor.size for tensor in tensors.values()
    )
    expected = weights["model.layers.3.mlp.down_proj.weight"].float().numpy()
    assert np.array_equal(expected, tensors["blk.3.ffn_down.weight"])
    assert "output.weight" not in tensors
    assert (12, 5) == (fields["llama.block_count"], fields["llama.attention.head_count"])


def test_rotary_pairs_stand_side_by_side(tmp_path):
    """Row 2i of a head is its row i, row 2i + 1 its row i + half: of queries and keys alone."""
    weights = load_file(DRAFT / "model.safetensors")
    config = json.loads((DRAFT / "config.json").read_text())
    size, half = config["head_dim"], config["head_dim"] // 2

    _, tensors = read(gguf_file("embedded:draft", tmp_path))

    for name in ("q", "k"):
        theirs = weights[f"model.layers.0.self_attn.{name}_proj.weight"].float().numpy()
        ours = tensors[f"blk.0.attn_{name}.weight"]
        for head in range(len(theirs) // size):
            rows = slice(head * size, (head + 1) * size)
            assert np.array_equal(theirs[rows][:half], ours[rows][0::2])
            assert np.array_equal(theirs[rows][half:], ours[rows][1::2])
    values = weights["model.layers.0.self_attn.v_proj.weight"].float().numpy()
    assert np.array_equal(values, tensors["blk.0.attn_v.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_kind_of_weight_keeps_its_values(folder, tmp_path, dtype):
    """What is on disk as float16, bfloat16 or float32 is the same number in float32."""
    path = folder / "model.safetensors"
    weights = {name: weight.to(dtype) for name, weight in load_file(path).items()}
    save_file(weights, path)

    _, tensors = read(gguf_file(str(folder), tmp_path / "cache"))

    expected = weights["model.embed_tokens.weight"].float().numpy()
    assert np.array_equal(expected, tensors["token_embd.weight"])


def test_an_untied_head_and_weights_in_parts_are_carried_over(folder, tmp_path):
    """All safetensors files of the folder are read; a head of its own is written."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    head = torch.arange(weights["model.embed_tokens.weight"].numel(), dtype=torch.float32)
    head = head.reshape(weights["model.embed_tokens.weight"].shape)
    save_file(weights, folder / "model-00001-of-00002.safetensors")
    save_file({"lm_head.weight": head}, folder / "model-00002-of-00002.safetensors")
    change(folder / "config.json", tie_word_embeddings=False)

    _, tensors = read(gguf_file(str(folder), tmp_path / "cache"))

    assert np.array_equal(head.numpy(), tensors["output.weight"])


def test_the_older_way_to_write_rotary_settings_is_read(folder, tmp_path):
    """rope_theta beside a null rope_scaling, as before transformers 5."""
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"rope_theta": 500000.0, "rope_scaling": None}
    (folder / "config.json").write_text(json.dumps(config))

    fields, _ = read(gguf_file(str(folder), tmp_path / "cache"))

    assert 500000.0 == fields["llama.rope.freq_base"]


def test_special_tokens_are_the_models_own(tmp_path):
    """BOS is put before texts; a token that only looks like an end to llama.cpp does not."""
    fields, _ = read(gguf_file("embedded:target", tmp_path))

    texts, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert (1, 2) == (fields["tokenizer.ggml.bos_token_id"], fields["tokenizer.ggml.eos_token_id"])
    assert fields["tokenizer.ggml.add_bos_token"]
    assert not fields["tokenizer.ggml.add_eos_token"]
    assert ("<|end|>", "<|user|>") == (texts[2], texts[4])
    assert "<|call|>" not in texts
    assert [gguf.TokenType.CONTROL] * 8 == kinds[:8]
    assert gguf.TokenType.NORMAL == kinds[8]


def test_a_model_is_converted_once_and_anew_when_it_changes(folder, tmp_path):
    """The file is named by the contents it was made from."""
    first = gguf_file(str(folder), tmp_path / "cache")
    written = first.stat().st_mtime_ns
    again = gguf_file(str(folder), tmp_path / "cache")
    change(folder / "config.json", rms_norm_eps=1e-5)
    other = gguf_file(str(folder), tmp_path / "cache")

    assert (first, written) == (again, again.stat().st_mtime_ns)
    assert first != other
    assert [] == list((tmp_path / "cache").glob("*.part"))


def test_a_gguf_file_is_itself(tmp_path):
    """Nothing is converted; a missing one is told."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")

    assert path.resolve() == gguf_file(str(path), tmp_path)
    with pytest.raises(ModelNotFound, match=r"n.gguf: no such file"):
        gguf_file(str(tmp_path / "n.gguf"), tmp_path)


def test_a_hub_id_is_refused():
    """llama.cpp needs files that are here."""
    with pytest.raises(ModelNotFound, match=r"a/model: .* local Llama folder .* or a \.gguf file"):
        gguf_file("a/model", Path("unused"))


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("config.json", {"model_type": "qwen2"}, "its model_type is 'qwen2'"),
        ("config.json", {"attention_bias": True}, "its attention_bias is True"),
        ("config.json", {"rope_parameters": {"rope_type": "llama3"}}, "its rope_type is 'llama3'"),
        ("config.json", {"quantization_config": {"bits": 4}}, "it has quantization_config"),
        ("config.json", {"eos_token_id": [1, 2, 3]}, "more than two end tokens"),
        ("tokenizer.json", {"normalizer": {"type": "NFC"}}, "not byte-level BPE"),
        ("tokenizer.json", {"pre_tokenizer": None}, "not byte-level BPE"),
    ],
)
def test_what_cannot_be_carried_over_exactly_is_refused(folder, tmp_path, name, fields, told):
    """With the obstacle, and llama.cpp's own script as the way out; nothing is left behind."""
    change(folder / name, **fields)

    with pytest.raises(ModelError, match=rf"{told}.*convert_hf_to_gguf\.py"):
        gguf_file(str(folder), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_unknown_tensor_is_refused(folder, tmp_path):
    """A weight that has no place in a Llama is not dropped."""
    path = folder / "model.safetensors"
    save_file({**load_file(path), "model.extra.weight": torch.ones(2)}, path)

    with pytest.raises(ModelError, match=r"it has a tensor model\.extra\.weight"):
        gguf_file(str(folder), tmp_path / "cache")
    assert [] == list((tmp_path / "cache").glob("*.gguf"))
