"""Drafts of another tokenizer: the target's answers, whatever is drafted and how."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
import transformers as hf
from scipy import stats
from torch import Tensor

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.loop import Decoded, Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.engines.vocabularies import compare_vocabularies, sized
from specmeasure.proposers.other_vocabulary import (
    SharedTokensProposer,
    TextMatchProposer,
    TwoVocabularies,
)
from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.speculate.proposal import CachedModel, Proposer
from specmeasure.speculate.sampling import NOT_A_TOKEN, sampling_probs
from specmeasure.speculate.verify import verify_rejection
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table
from tests.engines.toy_tokenizers import byte_level, space_marked

CPU = torch.device("cpu")
PROMPTS = ("The cat sat on the", "def add(first, second):\n", "<|user|>été 猫 Tim didn't like")
PAIRS = {
    "marks draft for bytes": (byte_level(), space_marked()),
    "bytes draft for marks": (space_marked(), byte_level()),
}
Making = Callable[[CachedModel, TwoVocabularies], Proposer]


def by_shared_tokens(model: CachedModel, pair: TwoVocabularies, **given: Any) -> Proposer:
    return SharedTokensProposer(
        model, pair, **{"sampling": GREEDY, "generator": torch.Generator(), "device": CPU, **given}
    )


def by_text(model: CachedModel, pair: TwoVocabularies, **given: Any) -> Proposer:
    return TextMatchProposer(model, pair, device=CPU, **given)


WAYS = pytest.mark.parametrize("make", [by_shared_tokens, by_text])


def vocabularies(target: Any, draft: Any) -> TwoVocabularies:
    found = compare_vocabularies(target, draft, "draft")
    assert found is not None
    return sized(found, len(draft), len(target))


def llama(num_tokens: int, **changes: Any) -> CachedCausalLM:
    given = {**tiny_models.COMMON, "vocab_size": num_tokens, "initializer_range": 0.4, **changes}
    kind = hf.MistralConfig if "sliding_window" in changes else hf.LlamaConfig
    return CachedCausalLM(tiny_models.build(kind(**given)), vocab_size=num_tokens)


def decode(
    target: CachedModel, proposer: Proposer | None, ids: Sequence[int], *, num_tokens: int = 40
) -> Decoded:
    decoder = Decoder(
        target=target,
        sampling=GREEDY,
        generator=torch.Generator(),
        clock=FakeClock(),
        device=CPU,
    )
    stopping = Stopping(max_new_tokens=num_tokens, eos_ids=frozenset(), num_speculative_tokens=4)
    return decoder.decode(proposer, ids, stopping)


@WAYS
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_the_targets(make: Any, pair: str, prompt: str):
    """Random models, whose drafts are mostly wrong and often no text: token for token."""
    target_tokenizer, draft_tokenizer = PAIRS[pair]
    target, draft = llama(len(target_tokenizer)), llama(len(draft_tokenizer))
    proposer = make(draft, vocabularies(target_tokenizer, draft_tokenizer), forgets_any=True)
    ids = target_tokenizer(prompt)["input_ids"]
    found = decode(target, proposer, ids)

    assert decode(target, None, ids).token_ids == found.token_ids
    assert any(block.num_draft_tokens for block in found.blocks)


def cycling(tokenizer: Any, words: Sequence[str]) -> TableModel:
    """Says these words over and over, whatever it is told last."""
    said = [tokenizer.convert_tokens_to_ids(word) for word in words]
    table = torch.zeros(len(tokenizer), len(tokenizer))
    table[:, said[0]] = 1.0
    for token, after in zip(said, [*said[1:], said[0]], strict=True):
        table[token, after] = 2.0
    return TableModel(table)


@WAYS
def test_what_the_target_would_say_itself_is_kept(make: Any):
    """The same words under other ids: every draft of every block."""
    words = ["cat", "and", "the", "dog", "was"]
    target = cycling(byte_level(), [f"Ġ{word}" for word in words])
    draft = cycling(space_marked(), [f"▁{word}" for word in words])
    proposer = make(draft, vocabularies(byte_level(), space_marked()), forgets_any=True)
    blocks = decode(target, proposer, byte_level()("Once upon")["input_ids"]).blocks[1:]

    assert 40 > 3 * len(blocks)
    for block in blocks:
        assert block.num_draft_tokens == block.num_accepted_tokens


@dataclass
class Recorded:
    """A proposer that remembers what it was told and what it said."""

    inner: Proposer
    told: list[int]
    said: list[tuple[list[int], int, list[int]]]  # context, asked for, drafts

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self.told = list(prompt_ids)
        self.inner.begin(prompt_ids)

    def propose(self, num_tokens: int) -> Any:
        self.last = self.inner.propose(num_tokens)
        self.said.append((list(self.told), num_tokens, self.last.tokens.tolist()))
        return self.last

    def commit(self, num_accepted: int, next_token: int) -> None:
        drafts = self.said[-1][2] if self.said else []
        self.told += [*drafts[:num_accepted], next_token]
        self.inner.commit(num_accepted, next_token)


@WAYS
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("changes", [{}, {"sliding_window": 16}], ids=["crop", "record"])
def test_a_block_is_drafted_as_from_scratch(make: Any, pair: str, changes: dict[str, int]):
    """What is kept of text, ids and cache makes no difference, however it is forgotten."""
    target_tokenizer, draft_tokenizer = PAIRS[pair]
    both = vocabularies(target_tokenizer, draft_tokenizer)
    target, draft = llama(len(target_tokenizer)), llama(len(draft_tokenizer), **changes)
    recorded = Recorded(make(draft, both, forgets_any=not changes), [], [])
    ids = target_tokenizer(PROMPTS[0])["input_ids"]
    decode(target, recorded, ids, num_tokens=16)

    for told, asked, drafts in recorded.said:
        fresh = make(draft, both, forgets_any=not changes)
        with torch.inference_mode():
            fresh.begin(told)
            assert drafts == fresh.propose(asked).tokens.tolist()


def test_text_is_drafted_up_to_the_end_of_both():
    """The draft's own end becomes the target's, behind the text before it."""
    both = vocabularies(byte_level(), space_marked())
    table = torch.zeros(len(space_marked()), len(space_marked()))
    dog = space_marked().convert_tokens_to_ids("▁dog")
    table[:, dog] = 1.0
    table[dog, space_marked().eos_token_id] = 2.0
    one = TextMatchProposer(TableModel(table), both, forgets_any=True, device=CPU)
    one.begin(byte_level()("The")["input_ids"])
    one.commit(0, byte_level().convert_tokens_to_ids("Ġcat"))

    said = byte_level().convert_ids_to_tokens(one.propose(4).tokens.tolist())
    assert ["Ġdog", "<|end|>"] == said


@WAYS
def test_nothing_is_drafted_inside_a_character(make: Any):
    """The draft reads text, and half a character is none; behind it, it drafts again."""
    both = vocabularies(byte_level(), space_marked())
    one = make(llama(len(space_marked())), both, forgets_any=True)
    *first, last = byte_level()("猫")["input_ids"]
    with torch.inference_mode():
        one.begin([*byte_level()("The cat")["input_ids"], *first])

        assert 0 == one.propose(3).num_tokens
        one.commit(0, last)
        assert 0 < one.propose(3).num_tokens


@WAYS
def test_no_draft_is_beyond_the_targets_head(make: Any):
    """Ids that the tokenizer knows and the head does not are never proposed."""
    found = compare_vocabularies(byte_level(), space_marked(), "draft")
    assert found is not None
    both = sized(found, len(space_marked()), 290)
    one = make(llama(len(space_marked())), both, forgets_any=True)
    ids = [id_ for id_ in byte_level()("The cat sat on a mat and")["input_ids"] if id_ < 290]
    seen: list[int] = []
    with torch.inference_mode():
        one.begin(ids)
        for id_ in ids:
            seen += one.propose(6).tokens.tolist()
            one.commit(0, id_)

    assert seen
    assert 290 > max(seen)


@WAYS
def test_beyond_the_drafts_own_context_it_drafts_nothing(make: Any):
    """Its text may be longer in its tokens than the target's is in the target's."""
    both = vocabularies(byte_level(), space_marked())
    one = make(llama(len(space_marked())), both, forgets_any=True, longest=8)
    with torch.inference_mode():
        one.begin(byte_level()("The cat sat on the mat and the dog ran")["input_ids"])

        assert 0 == one.propose(2).num_tokens


@WAYS
def test_a_draft_with_nan_marks_its_tokens(make: Any):
    """The verifier reports it; no index crashes."""
    both = vocabularies(byte_level(), space_marked())
    size = len(space_marked())
    one = make(TableModel(torch.full((size, size), torch.nan)), both, forgets_any=True)
    one.begin(byte_level()("The cat")["input_ids"])

    assert NOT_A_TOKEN == one.propose(2).tokens.tolist()[0]


@dataclass(frozen=True)
class Letters:
    """A tokenizer whose every token is one letter; ``None``: a special token."""

    names: str

    @property
    def token_bytes(self) -> list[bytes | None]:
        return [name.encode() for name in self.names]

    beginning: tuple[int, ...] = ()
    drops_first_space: bool = False

    def at_start(self, text: str) -> list[int]:
        return [self.names.index(letter) for letter in text if letter in self.names]

    def after(self, text: str) -> list[int]:
        return self.at_start(text)


TARGET_LETTERS, DRAFT_LETTERS = Letters("abcdef"), Letters("xcbyda")
SIX_AND_SIX = TwoVocabularies(
    target=TARGET_LETTERS,
    draft=DRAFT_LETTERS,
    pieces=[name.encode() for name in TARGET_LETTERS.names],
    shared_draft_ids=(1, 2, 4, 5),  # c, b, d, a
    shared_target_ids=(2, 1, 3, 0),
    target_size=6,
    draft_ids=(0, 1, 2, 3, 4, 5),
    draft_end=None,
    target_end=None,
)
TARGET, DRAFT = random_table(6, 1), random_table(6, 2, spread=1.0)
ALPHA, LAST, CHAIN = 1e-3, 2, 50
PLAIN, NUCLEUS = Sampling(temperature=1.0), Sampling(temperature=0.8, top_p=0.85)


def four_shared(sampling: Sampling, draft_sampling: DraftSampling, seed: int) -> Proposer:
    return SharedTokensProposer(
        TableModel(DRAFT),
        SIX_AND_SIX,
        sampling,
        draft_sampling=draft_sampling,
        forgets_any=True,
        generator=torch.Generator().manual_seed(seed),
        device=CPU,
    )


def test_laws_are_those_over_the_shared_tokens():
    """Temperature and top-p act on what is left; other tokens of the target have no chance."""
    one = four_shared(NUCLEUS, DraftSampling.PROBABILISTIC, 3)
    one.begin([0, LAST])
    proposal = one.propose(1)
    expected = torch.zeros(6)
    expected[[2, 1, 3, 0]] = sampling_probs(DRAFT[1, [1, 2, 4, 5]][None], NUCLEUS)[0]

    assert proposal.probs is not None
    assert torch.equal(expected, proposal.probs[0])


def pairs_of_tokens(
    sampling: Sampling,
    draft_sampling: DraftSampling,
    num_samples: int,
    spoil: Callable[[Tensor], Tensor] = lambda law: law,
) -> Counter[tuple[int, int]]:
    """What blocks of one draft emit after ``LAST``: a token, and the one after it.

    Each draft of a long chain is verified by itself: by whatever law it was drawn, the target's is
    kept. Where a block emits one token, the next is the target's own.
    """
    one = four_shared(sampling, draft_sampling, 3)
    generator = torch.Generator().manual_seed(4)
    own = sampling_probs(TARGET, sampling)
    rows = [own[[LAST, token]] for token in range(6)]
    spare = torch.multinomial(own, num_samples, replacement=True, generator=generator).tolist()
    counts = Counter[tuple[int, int]]()
    with torch.inference_mode():
        one.begin([0, LAST])
        for start in range(0, num_samples, CHAIN):
            proposal = one.propose(CHAIN)
            for place, token in enumerate(proposal.tokens.tolist()):
                chosen = slice(place, place + 1)
                law = None if proposal.probs is None else spoil(proposal.probs[chosen])
                verdict = verify_rejection(
                    proposal.tokens[chosen], law, rows[token], generator=generator
                )
                first, *more = verdict.tokens
                counts[first, more[0] if more else spare[first][start + place]] += 1
            one.commit(0, LAST)
            one.begin([0, LAST])
    return counts


def p_value(counts: Counter[tuple[int, int]], sampling: Sampling) -> float:
    own = sampling_probs(TARGET, sampling).double()
    law = {(a, b): float(own[LAST, a] * own[a, b]) for a, b in product(range(6), repeat=2)}
    possible = {cell: chance for cell, chance in law.items() if chance > 0}
    if set(counts) - set(possible):
        return 0.0
    expected = torch.tensor(list(possible.values()), dtype=torch.float64)
    expected *= counts.total() / expected.sum()
    return float(stats.chisquare([counts[cell] for cell in possible], expected.numpy()).pvalue)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draft_sampling", "sampling", "num_samples"),
    [
        (DraftSampling.PROBABILISTIC, PLAIN, 200_000),
        (DraftSampling.PROBABILISTIC, NUCLEUS, 40_000),
        (DraftSampling.GREEDY, PLAIN, 40_000),
    ],
    ids=["drawn", "nucleus", "greedy drafts"],
)
def test_sampled_tokens_follow_the_target(
    draft_sampling: DraftSampling, sampling: Sampling, num_samples: int
):
    """Joint law of two tokens over six, four of them shared, by the real proposer and verifier."""
    assert ALPHA < p_value(pairs_of_tokens(sampling, draft_sampling, num_samples), sampling)


@pytest.mark.slow
def test_a_law_of_too_many_tokens_is_caught():
    """Told that the draft could have said anything, the verifier draws other answers."""

    def of_all_tokens(law: Tensor) -> Tensor:
        return 0.9 * law + 0.1 / 6

    counts = pairs_of_tokens(PLAIN, DraftSampling.PROBABILISTIC, 40_000, of_all_tokens)

    assert ALPHA > p_value(counts, PLAIN)
