"""Train the embedded target and its two drafts. Run by hand; nothing else imports this module.

    python -m specmeasure.demo.train --data DIR --out DIR [--start-from DIR]

``--data`` holds ``text/`` (dialogues, dialogues with JSON calls, maths) and ``prompts/mbpp/``; the
standard library of the running Python is added as code. The target learns next tokens; each draft
is then distilled from it: forward KL on the same text and on the target's own greedy answers
(Hinton et al. 2015, arXiv:1503.02531; Zhou et al. 2023, arXiv:2310.08461), because a draft is only
ever asked about text that the target wrote.

``--start-from`` continues from a folder with ``target/``, ``draft/`` and ``draft-large/`` and keeps
its tokenizer; a shallower target is deepened by layers that start as the identity. Steps, not
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
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
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
    "draft-large": Shape(hidden=128, layers=2, heads=4, ffn=344),
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


@torch.inference_mode()
def own_answers(
    target: LlamaForCausalLM, streams: dict[str, Tensor], *, num_rows: int, seed: int
) -> Tensor:
    """The target's greedy continuations of training text, [num_rows, 256], contexts included."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for kind in sorted(streams):
        for _ in range(0, num_rows // len(streams), 64):
            context = windows(streams[kind], 64, 64, generator=generator)
            rows.append(
                target.generate(
                    context,
                    max_new_tokens=192,
                    min_new_tokens=192,
                    do_sample=False,
                    eos_token_id=-1,
                )
            )
        print(f"own answers: {kind}", flush=True)
    return torch.cat(rows)


def distil(
    draft: LlamaForCausalLM,
    target: LlamaForCausalLM,
    stream: Tensor,
    own: Tensor,
    options: argparse.Namespace,
) -> None:
    """Minimise KL(target || draft) on half text, half the target's own answers."""
    generator = torch.Generator().manual_seed(options.seed)

    def divergence() -> Tensor:
        text = windows(stream, options.batch, own.shape[1], generator=generator)
        picks = torch.randint(0, len(own), (options.batch,), generator=generator)
        ids = torch.cat([text, own[picks]])
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            with torch.no_grad():
                wanted = target(input_ids=ids, use_cache=False).logits
            got = draft(input_ids=ids, use_cache=False).logits
        return functional.kl_div(
            got.float().log_softmax(-1).flatten(0, 1),
            wanted.float().log_softmax(-1).flatten(0, 1),
            log_target=True,
            reduction="batchmean",
        )

    optimise(
        draft,
        divergence,
        num_steps=options.draft_steps,
        learning_rate=options.draft_rate,
        after_steps=lambda _: None,
    )


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
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=384)
    parser.add_argument("--target-steps", type=int, default=4000)
    parser.add_argument("--target-rate", type=float, default=2e-3)
    parser.add_argument("--draft-steps", type=int, default=1200)
    parser.add_argument("--draft-rate", type=float, default=3e-3)
    parser.add_argument("--own-rows", type=int, default=3200)
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
    stream = token_stream(tokenizer, every)
    print(f"{len(every)} documents, {len(stream)} tokens", flush=True)
    checks = {kind: token_stream(tokenizer, docs) for kind, docs in held_out.items()}

    trained = {}
    for name, shape in SHAPES.items():
        model = shape.build(len(tokenizer))
        if start:
            found = LlamaForCausalLM.from_pretrained(start / name, dtype=torch.float32)
            same_depth = found.config.num_hidden_layers == shape.layers
            model = found if same_depth else deepen(found, shape, len(tokenizer))
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
        by_kind = {kind: token_stream(tokenizer, docs) for kind, docs in training.items()}
        own = own_answers(target, by_kind, num_rows=options.own_rows, seed=options.seed)
        for name in drafts:
            distil(trained[name], target, stream, own, options)
            save_folder(trained[name], tokenizer, options.out / name)
    for name in wanted:
        model = trained[name].eval()
        losses = {kind: round(held_out_loss(model, ids), 3) for kind, ids in checks.items()}
        print(f"{name}: held-out nats per token {losses}", flush=True)


if __name__ == "__main__":
    main()
