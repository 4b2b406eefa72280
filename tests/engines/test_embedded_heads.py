"""The heads inside the package: their size, and that they know what the README says they know."""

import json
import re
from pathlib import Path

import pytest
import torch

from specmeasure.decode.batch import Request, generate_batched
from specmeasure.decode.stopping import Stopping
from specmeasure.demo import MEDUSA, TARGET, embedded_folder
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.heads import load_heads
from specmeasure.engines.models import LoadedModels
from specmeasure.records.corpus import Message, Prompt
from specmeasure.records.plan import BASELINE, GREEDY, ModelOptions, Plan

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ModelOptions(device="cpu", num_threads=1)
NUM_HEADS, NUM_TOKENS, EOS = 4, 64, 2
TOLERANCE = 0.02  # another kernel may end an answer otherwise


@pytest.fixture(scope="module")
def loaded():
    return LoadedModels.load(Plan(target=TARGET, arms=(BASELINE,), options=OPTIONS), most_threads=1)


@pytest.fixture(scope="module")
def heads(loaded):
    return load_heads(MEDUSA, OPTIONS, loaded.target)


def test_the_heads_fit_in_the_package(heads):
    """Four heads of one layer, under 8 MB, float32 once loaded on a CPU."""
    files = list(embedded_folder(MEDUSA).iterdir())

    assert {"config.json", "medusa_lm_head.safetensors"} == {file.name for file in files}
    assert sum(file.stat().st_size for file in files) < 8_000_000
    assert (NUM_HEADS, 1) == (heads.num_heads, heads.num_layers)
    assert {torch.float32} == {weight.dtype for weight in heads.parameters()}


def stated_accuracy():
    """Top-1 by head on maths and code, from the README's table."""
    text = (embedded_folder(TARGET).parent / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| `prompts/maths.jsonl`, `code.jsonl` .*$", text, re.MULTILINE)
    return [float(share) for share in re.findall(r"0\.\d\d", row)[:NUM_HEADS]]


def test_the_heads_know_what_the_readme_says(loaded, heads):
    """Top-1 by head on prompts that were never trained on, counted place by place here."""
    chat, target = ChatTokenizer(loaded.tokenizer), loaded.target
    rows = [
        json.loads(line)
        for name in ("maths", "code")
        for line in (ROOT / "prompts" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    contexts = [
        chat.context_ids(
            Prompt(
                prompt_id=row["id"],
                category="",
                source="",
                messages=(Message(role="user", content=row["turns"][0]),),
            ),
            [],
        )
        for row in rows
    ]
    stopping = Stopping(max_new_tokens=NUM_TOKENS, eos_ids=frozenset([EOS]))
    requests = [Request(context_ids=ids, stopping=stopping, seed=0) for ids in contexts]
    hits, places = [0] * NUM_HEADS, [0] * NUM_HEADS
    for place, answer in generate_batched(target, requests, GREEDY, batch_size=36):
        ids = [*contexts[place], *answer.token_ids]
        with torch.inference_mode():
            read = target.model(torch.tensor([ids]), output_hidden_states=True)
            said = heads(read.hidden_states[-1][0]).argmax(-1).tolist()  # [H, S]
        for head in range(NUM_HEADS):
            for seen in range(len(contexts[place]) - 1, len(ids) - 2 - head):
                places[head] += 1
                hits[head] += said[head][seen] == ids[seen + 2 + head]

    measured = [hit / num for hit, num in zip(hits, places, strict=True)]
    assert stated_accuracy() == pytest.approx(measured, abs=TOLERANCE)
