"""Train the embedded target and its two drafts. Run by hand; nothing else imports this module.

    python -m specmeasure.demo.train --data DIR --out DIR [--start-from DIR]

``--data`` holds ``text/`` (dialogues, dialogues with JSON calls, maths) and ``prompts/mbpp/``; the
standard library of the running Python is added as code. The target learns next tokens; each draft
is then distilled from it: forward KL on the target's own greedy answers to contexts of the same
text (Hinton et al. 2015, arXiv:1503.02531; Zhou et al. 2023, arXiv:2310.08461), because a draft is
only ever asked about text that the target wrote.

``--start-from`` continues from a folder with ``target/``, ``draft/`` and ``draft-large/`` and keeps
its tokenizer; shallower or narrower models are grown without changing what they compute. Steps, not
minutes, bound the work, and everything is seeded; thread counts and kernels still change the last
bits. The module does not know how good the pair is at anything but next-token loss.
"""

import argparse
import json
import math
import random
import re
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = ("system", "user", "assistant", "call", "result")
SPEAKERS = {
    "User": "<|user|>\n",
    "Assistant": "<|assistant|>\n",
    "Call": "<|assistant|>\n<|call|>",
    "Result": "<|result|>\n",
    "Question": "<|user|>\n",
    "Answer": "<|assistant|>\n",
}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<|{{ 'result' if m['role'] == 'tool' else m['role'] }}|>\n{{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TOOLS_SYSTEM = "<|system|>\nCall a service when you need one.<|end|>\n"
SKIPPED_STDLIB = re.compile(
    r"(^|/)(test|tests|idlelib|lib2to3|encodings|site-packages|turtledemo|pydoc_data)(/|$)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Depth and widths of a Llama-layout model."""

    hidden: int
    layers: int
    heads: int
    ffn: int

    def build(self, vocab_size: int) -> LlamaForCausalLM:
        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            intermediate_size=self.ffn,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        return LlamaForCausalLM(config)


SHAPES = {
    "target": Shape(hidden=160, layers=12, heads=5, ffn=432),
    "draft": Shape(hidden=96, layers=1, heads=3, ffn=256),
    "draft-large": Shape(hidden=192, layers=2, heads=6, ffn=512),
}


def dialogues(path: Path) -> Iterator[str]:
    """Blank-line separated blocks of ``Speaker: text`` lines, as chat-template text."""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        turns: list[list[str]] = []
        for line in block.split("\n"):
            match = re.match(rf"({'|'.join(SPEAKERS)}): ?(.*)$", line)
            if match:
                turns.append([SPEAKERS[match[1]] + match[2]])
            elif turns:
                turns[-1].append(line)
        if turns:
            yield "".join("\n".join(lines).rstrip() + "<|end|>\n" for lines in turns)


def short_programs(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        code = row["code"].replace("\r", "").strip()
        yield f"<|user|>\n{row['text'].strip()}<|end|>\n<|assistant|>\n{code}<|end|>\n"


def standard_library() -> Iterator[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if SKIPPED_STDLIB.search(str(path.relative_to(root))):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        if 400 < len(text) < 120_000:
            yield text


def documents(data: Path) -> dict[str, list[str]]:
    """Training text by kind; the small kinds are repeated so that they are not drowned."""
    tools = dialogues(data / "text" / "sgd_dev_toolcalls.txt")
    return {
        "chat": list(dialogues(data / "text" / "sgd_train_dialogues.txt")),
        "tools": [TOOLS_SYSTEM + doc for doc in tools],
        "maths": list(dialogues(data / "text" / "gsm8k_train_qa.txt")) * 2,
        "programs": list(short_programs(data / "prompts" / "mbpp" / "mbpp.jsonl")) * 4,
        "library": list(standard_library()),
    }


def train_tokenizer(docs: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    specials = [PAD, BOS, END, *(f"<|{role}|>" for role in ROLES)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    sample = random.Random(0).sample(docs, min(len(docs), 9000))
    bpe.train_from_iterator(
        (re.sub(r"<\|\w+\|>", "", doc) for doc in sample),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": specials[3:]})
    return tokenizer


def with_formats(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """BOS before raw text, and the chat template that the documents are written in."""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 1)]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 2048
    return tokenizer


def token_stream(tokenizer: PreTrainedTokenizerFast, docs: list[str]) -> Tensor:
    """All documents as one int32 vector, each opened by BOS."""
    flat: list[int] = []
    for start in range(0, len(docs), 512):
        batch = tokenizer.backend_tokenizer.encode_batch(
            docs[start : start + 512], add_special_tokens=False
        )
        for encoding in batch:
            flat += [1, *encoding.ids]
    return torch.tensor(flat, dtype=torch.int32)


def windows(stream: Tensor, count: int, length: int, *, generator: torch.Generator) -> Tensor:
    """``count`` random stretches of the stream, as int64 [count, length]."""
    starts = torch.randint(0, len(stream) - length, (count,), generator=generator)
    return torch.stack([stream[start : start + length] for start in starts.tolist()]).long()


def deepen(shallow: LlamaForCausalLM, shape: Shape, vocab_size: int) -> LlamaForCausalLM:
    """The same function with more layers: each new one copies its neighbour and adds nothing yet.

    Zeroed output projections make a layer the identity at the start (Chen et al. 2016, Net2Net,
    arXiv:1511.05641).
    """
    deep = shape.build(vocab_size)
    old, new = shallow.model.layers, deep.model.layers
    deep.model.embed_tokens.load_state_dict(shallow.model.embed_tokens.state_dict())
    deep.model.norm.load_state_dict(shallow.model.norm.state_dict())
    num_extra = len(new) - len(old)
    sources = [position * len(old) // len(new) for position in range(len(new))]
    for position, source in enumerate(sources):
        new[position].load_state_dict(old[source].state_dict())
        if position and source == sources[position - 1]:
            torch.nn.init.zeros_(new[position].self_attn.o_proj.weight)
            torch.nn.init.zeros_(new[position].mlp.down_proj.weight)
            num_extra -= 1
    if num_extra:
        raise ValueError(f"cannot stretch {len(old)} layers to {len(new)}")
    return deep


def optimise(
    model: LlamaForCausalLM,
    loss_of_step: Callable[[], Tensor],
    *,
    num_steps: int,
    learning_rate: float,
    after_steps: Callable[[int], None],
) -> None:
    """AdamW under a short warm-up and a cosine that ends at 4 % of the peak rate."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    started, smooth = time.perf_counter(), math.nan
    model.train()
    for step in range(num_steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / num_steps))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / 50) * (0.04 + 0.96 * cosine)
        loss = loss_of_step()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            minutes = (time.perf_counter() - started) / 60
            print(f"step {step + 1}/{num_steps} loss {smooth:.3f} {minutes:.1f} min", flush=True)
        if (step + 1) % 250 == 0:
            after_steps(step + 1)
    model.eval()


def train_target(
    target: LlamaForCausalLM, stream: Tensor, options: argparse.Namespace, save: Callable[[], None]
) -> None:
    generator = torch.Generator().manual_seed(options.seed)
    forward = torch.compile(target) if options.compile else target

    def next_token_loss() -> Tensor:
        ids = windows(stream, options.batch, options.length, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss: Tensor = forward(input_ids=ids, labels=ids, use_cache=False).loss
        return loss

    optimise(
        target,
        next_token_loss,
        num_steps=options.target_steps,
        learning_rate=options.target_rate,
        after_steps=lambda _: save(),
    )


@dataclass(frozen=True, slots=True)
class Lesson:
    """A context with the target's greedy answer, and what the target thought at every place."""

    ids: Tensor  # [T] int32
    num_context: int
    top_ids: Tensor  # [T, 16] int16, the target's likeliest next tokens
    top_logits: Tensor  # [T, 16] float16


@dataclass(frozen=True, slots=True)
class Context:
    """Where the target would be asked: before an assistant's turn, or inside a source file."""

    kind: str
    text: str  # without the BOS
    ids: list[int]


def contexts(
    tokenizer: PreTrainedTokenizerFast, kinds: dict[str, list[str]], num_rows: int, seed: int
) -> list[Context]:
    """About ``num_rows`` contexts, as many of each kind."""
    rng = random.Random(seed)
    found: list[Context] = []
    for kind, docs in sorted(kinds.items()):
        texts = []
        for doc in rng.choices(docs, k=num_rows // len(kinds)):
            if kind == "library":
                starts = [
                    m.start() for m in re.finditer(r"^(class|def|import|from) ", doc, re.MULTILINE)
                ]
                start = rng.choice(starts or [0])
                texts.append("".join(doc[start:].splitlines(keepends=True)[: rng.randint(2, 8)]))
            else:
                turns = [m.end() for m in re.finditer(r"<\|assistant\|>\n", doc)]
                texts.append(doc[: rng.choice(turns)] if turns else doc)
        encoded = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        found += [
            Context(kind, text, [1, *one.ids])
            for text, one in zip(texts, encoded, strict=True)
            if 4 < len(one.ids) < 320
        ]
    return found


def write_prompts(asked: list[Context], path: Path) -> None:
    """Contexts as completion prompts, each text once: what ``specmeasure heads train`` reads."""
    kinds = {one.text: one.kind for one in asked}
    rows = [{"prompt": text, "category": kind} for text, kind in kinds.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@torch.inference_mode()
def lessons(target: LlamaForCausalLM, asked: list[Context]) -> list[Lesson]:
    """Answer every context greedily, then read context and answer once more for the logits."""
    shortest_first = sorted((one.ids for one in asked), key=len)
    written: list[Lesson] = []
    for start in range(0, len(asked), 128):
        part = shortest_first[start : start + 128]
        width = max(map(len, part))
        padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in part])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in part])
        out = target.generate(padded, attention_mask=mask, max_new_tokens=96, do_sample=False)
        answers = [row[width:][(row[width:] != 0)] for row in out]
        rows = [torch.cat([torch.tensor(ids), one]) for ids, one in zip(part, answers, strict=True)]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        with torch.autocast("cpu", torch.bfloat16):
            top = target(input_ids=batch, use_cache=False).logits.float().topk(16, dim=-1)
        for index, (ids, row) in enumerate(zip(part, rows, strict=True)):
            written.append(
                Lesson(
                    row.int(),
                    len(ids),
                    top.indices[index, : len(row)].short(),
                    top.values[index, : len(row)].half(),
                )
            )
        print(f"lessons {len(written)}/{len(asked)}", flush=True)
    return written


def widen(narrow: LlamaForCausalLM, shape: Shape, vocab_size: int) -> LlamaForCausalLM:
    """The same function in more dimensions: old weights in a corner, new outputs zero.

    RMSNorm averages over more dimensions, so its gains shrink by the root of the ratio.
    """
    wide = shape.build(vocab_size)
    scale = math.sqrt(narrow.config.hidden_size / shape.hidden)
    old = narrow.state_dict()
    with torch.no_grad():
        for name, weight in wide.state_dict().items():
            corner = tuple(slice(0, size) for size in old[name].shape)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
            elif weight.dim() > 1:
                weight[..., old[name].shape[-1] :] *= 0.1
                weight[corner[:1]][:, old[name].shape[-1] :] *= 0.5
            weight[corner] = old[name] * (scale if weight.dim() == 1 else 1)
    return wide


def distil(draft: LlamaForCausalLM, lessons: list[Lesson], options: argparse.Namespace) -> None:
    """Minimise KL(target || draft) over the target's 16 likeliest tokens at every place.

    Places inside the answer count fully, places inside the context a quarter.
    """
    rng = random.Random(options.seed)
    order = sorted(range(len(lessons)), key=lambda place: len(lessons[place].ids))
    groups = [order[start : start + 24] for start in range(0, len(order), 24)]

    def divergence() -> Tensor:
        picked = [lessons[place] for place in rng.choice(groups)]
        ids = _stacked([one.ids for one in picked]).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            logits = draft(input_ids=ids, use_cache=False).logits
        wanted = _stacked([one.top_logits for one in picked]).float().log_softmax(-1)
        places = _stacked([one.top_ids for one in picked]).long()
        got = logits.float().log_softmax(-1).gather(-1, places)
        gap = (wanted.exp() * (wanted - got)).sum(-1)  # [B, T]
        weight = torch.zeros_like(gap)
        for row, one in enumerate(picked):
            weight[row, : one.num_context - 1] = 0.25
            weight[row, one.num_context - 1 : len(one.ids) - 1] = 1.0
        loss: Tensor = (gap * weight).sum() / weight.sum()
        return loss

    optimise(
        draft,
        divergence,
        num_steps=options.draft_steps,
        learning_rate=options.draft_rate,
        after_steps=lambda _: None,
    )


def _stacked(rows: list[Tensor]) -> Tensor:
    padded: Tensor = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded


@torch.inference_mode()
def agreement(draft: LlamaForCausalLM, lessons: list[Lesson]) -> float:
    """Share of answer tokens that the draft would have drafted."""
    hits = total = 0
    for one in lessons:
        guessed = draft(input_ids=one.ids[None].long()).logits[0].argmax(-1)
        answer = slice(one.num_context, None)
        hits += int((guessed[one.num_context - 1 : -1] == one.ids[answer]).sum())
        total += len(one.ids) - one.num_context
    return hits / total


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, stream: Tensor) -> float:
    """Mean next-token loss in nats over up to 64 windows of 256 tokens."""
    generator = torch.Generator().manual_seed(7)
    batches = [windows(stream, 8, 256, generator=generator) for _ in range(8)]
    return sum(float(model(input_ids=ids, labels=ids).loss) for ids in batches) / len(batches)


def save_folder(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an fp16 copy of the weights, the config and the tokenizer."""
    copy = LlamaForCausalLM(model.config).half()
    copy.load_state_dict(model.state_dict())
    copy.generation_config.do_sample = False
    copy.generation_config.max_length = None
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start-from", type=Path)
    parser.add_argument("--only", choices=list(SHAPES), help="train one model alone")
    parser.add_argument(
        "--prompts-only",
        action="store_true",
        help="train nothing: write prompts.jsonl and held-out.jsonl, of documents that the models "
        "were and were not trained on",
    )
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=384)
    parser.add_argument("--target-steps", type=int, default=4000)
    parser.add_argument("--target-rate", type=float, default=2e-3)
    parser.add_argument("--draft-steps", type=int, default=6000)
    parser.add_argument("--draft-rate", type=float, default=3e-3)
    parser.add_argument("--own-rows", type=int, default=10_000)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    kinds = documents(options.data)
    for docs in kinds.values():
        random.Random(options.seed).shuffle(docs)
    held_out = {kind: docs[: max(8, len(docs) // 50)] for kind, docs in kinds.items()}
    training = {
        kind: [doc for doc in docs if doc not in set(held_out[kind])]
        for kind, docs in kinds.items()
    }
    every = [doc for docs in training.values() for doc in docs]
    random.Random(options.seed + 1).shuffle(every)

    start: Path | None = options.start_from
    tokenizer = with_formats(
        PreTrainedTokenizerFast.from_pretrained(start / "target")
        if start
        else train_tokenizer(every, options.vocab)
    )
    if options.prompts_only:
        for name, asked_of, num_rows, seed in (
            ("prompts", training, options.own_rows, options.seed),
            ("held-out", held_out, 400, options.seed + 1),
        ):
            asked = contexts(tokenizer, asked_of, num_rows, seed)
            write_prompts(asked, options.out / f"{name}.jsonl")
        return
    stream = token_stream(tokenizer, every)
    print(f"{len(every)} documents, {len(stream)} tokens", flush=True)
    checks = {kind: token_stream(tokenizer, docs) for kind, docs in held_out.items()}

    trained = {}
    for name, shape in SHAPES.items():
        model = shape.build(len(tokenizer))
        if start:
            found = LlamaForCausalLM.from_pretrained(start / name, dtype=torch.float32)
            model = found
            if found.config.num_hidden_layers != shape.layers:
                model = deepen(found, shape, len(tokenizer))
            elif found.config.hidden_size != shape.hidden:
                model = widen(found, shape, len(tokenizer))
        trained[name] = model

    target = trained["target"]
    wanted = [options.only] if options.only else list(SHAPES)
    if "target" in wanted:
        train_target(
            target, stream, options, lambda: save_folder(target, tokenizer, options.out / "target")
        )
        save_folder(target, tokenizer, options.out / "target")
    target.eval().requires_grad_(requires_grad=False)
    drafts = [name for name in wanted if name != "target"]
    if drafts:
        learnt = _kept_lessons(options, tokenizer, target, training)
        held = lessons(target, contexts(tokenizer, held_out, 400, options.seed + 1))
        for name in drafts:
            distil(trained[name], learnt, options)
            save_folder(trained[name], tokenizer, options.out / name)
            print(
                f"{name}: agrees on {agreement(trained[name], held):.3f} of held-out answer tokens"
            )
    for name in wanted:
        model = trained[name].eval()
        losses = {kind: round(held_out_loss(model, ids), 3) for kind, ids in checks.items()}
        print(f"{name}: held-out nats per token {losses}", flush=True)


def _kept_lessons(
    options: argparse.Namespace,
    tokenizer: PreTrainedTokenizerFast,
    target: LlamaForCausalLM,
    training: dict[str, list[str]],
) -> list[Lesson]:
    """Written once per output folder, so that drafts can be trained side by side."""
    path = options.out / "lessons.safetensors"
    if not path.exists():
        written = lessons(target, contexts(tokenizer, training, options.own_rows, options.seed))
        save_file(
            {
                f"{index}.{name}": value
                for index, one in enumerate(written)
                for name, value in (
                    ("ids", one.ids),
                    ("num_context", torch.tensor(one.num_context)),
                    ("top_ids", one.top_ids),
                    ("top_logits", one.top_logits),
                )
            },
            path,
        )
    stored = load_file(path)
    return [
        Lesson(
            stored[f"{index}.ids"],
            int(stored[f"{index}.num_context"]),
            stored[f"{index}.top_ids"],
            stored[f"{index}.top_logits"],
        )
        for index in range(len(stored) // 4)
    ]


if __name__ == "__main__":
    main()
