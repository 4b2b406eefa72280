"""Tokenizers of two families, small enough to be built in a test."""

import json
from functools import cache
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"
TEXT = (
    "The cat sat on the mat and the dog ran after the cat. Once upon a time there was a little "
    "dog named Tim; he didn't like the rain, but the sun was hot and the sky was blue.\n"
    "def add(first, second):\n    return first + second\n    # été, naïve, 12 of 345 — 猫 🙂\n"
) * 3


@cache
def byte_level(num_tokens: int = 320) -> Any:
    """As GPT-2's: every byte a character, words split before they are merged."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens,
        special_tokens=["<|bos|>", "<|end|>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    built.train_from_iterator([TEXT], trainer)
    return wrapped(built, "<|bos|>", "<|end|>")


@cache
def space_marked(num_tokens: int = 420) -> Any:
    """As Llama 2's: a mark for every space, one put before the text, bytes for what is unknown."""
    built = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    built.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    built.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens,
        special_tokens=[UNKNOWN, "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
        max_token_length=8,
    )
    words = TEXT.replace("猫", "").replace("🙂", "").split(" ")  # these are left to bytes
    built.train_from_iterator([word for word in words if word], trainer)
    built.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return wrapped(_with_plain_bytes(built), "<s>", "</s>")


def wrapped(built: Tokenizer, bos: str, eos: str) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token=bos, eos_token=eos)


def permuted(tokenizer: Any, places: list[int]) -> Any:
    """The same tokens under other ids: ``places[old]`` is the new one."""
    built = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = built["model"]["vocab"]
    built["model"]["vocab"] = {token: places[id_] for token, id_ in vocabulary.items()}
    if built["post_processor"] is not None:
        for special in built["post_processor"]["special_tokens"].values():
            special["ids"] = [places[id_] for id_ in special["ids"]]
    for added in built["added_tokens"]:
        added["id"] = places[added["id"]]
    return wrapped(Tokenizer.from_str(json.dumps(built)), tokenizer.bos_token, tokenizer.eos_token)


def _with_plain_bytes(built: Tokenizer) -> Tokenizer:
    """Byte tokens are ordinary ones in sentencepiece's vocabularies."""
    whole = json.loads(built.to_str())
    whole["added_tokens"] = [
        added for added in whole["added_tokens"] if not added["content"].startswith("<0x")
    ]
    return Tokenizer.from_str(json.dumps(whole))
