"""One cache for drafting and verifying: the target's own answers, and nothing read twice."""

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
import transformers as hf
from scipy import stats
from torch import Tensor

from specmeasure import demo
from specmeasure.decode import shared_exit
from specmeasure.decode.along import Origin, read_along
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.early_exit import first_layers
from specmeasure.decode.loop import Decoded, Decoder, Verify
from specmeasure.decode.shared_exit import SharedExit, share_exit
from specmeasure.decode.stopping import Stopping
from specmeasure.decode.teacher import Finished
from specmeasure.engines.models import LoadedModels
from specmeasure.errors import UnsupportedModel
from specmeasure.proposers.draft_model import DraftModelProposer, next_draft
from specmeasure.proposers.early_exit import EarlyExitProposer
from specmeasure.records.plan import BASELINE, GREEDY, ModelOptions, Plan, Sampling
from specmeasure.speculate.proposal import CachedModel, Proposal, Proposer
from specmeasure.speculate.sampling import sampling_probs
from specmeasure.speculate.verdict import Verdict
from specmeasure.speculate.verify import verify_rejection, verify_strictly
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock

CPU = torch.device("cpu")
PROMPT = [(5 * place + 2) % tiny_models.VOCAB for place in range(20)]
SHARED = ["crop", "sliding", "sliding and full", "convolution"]
NUM_SAMPLES, ALPHA = 200_000, 1e-3


def cached(kind: str) -> CachedCausalLM:
    return CachedCausalLM(tiny_models.ALL[kind](), vocab_size=tiny_models.VOCAB)


def deep(num_layers: int, **changes: Any) -> CachedCausalLM:
    """Grouped-query heads, more layers."""
    given = {**tiny_models.COMMON, "num_hidden_layers": num_layers, **changes}
    return CachedCausalLM(
        tiny_models.build(hf.LlamaConfig(**given)), vocab_size=given["vocab_size"]
    )


@pytest.fixture(scope="module")
def embedded() -> CachedCausalLM:
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE,),
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )
    return LoadedModels.load(plan, most_threads=1).target


def shared_with(target: CachedCausalLM, num_layers: int) -> SharedExit:
    found = share_exit(target, num_layers)
    assert found is not None
    return found


def decode(
    target: CachedModel,
    proposer: Proposer | None,
    *,
    k: int = 1,
    num_tokens: int = 40,
    verify: Verify = verify_strictly,
) -> Decoded:
    decoder = Decoder(
        target=target,
        sampling=GREEDY,
        generator=torch.Generator(),
        clock=FakeClock(),
        device=CPU,
        verify=verify,
    )
    stopping = Stopping(max_new_tokens=num_tokens, eos_ids=frozenset(), num_speculative_tokens=k)
    return decoder.decode(proposer, PROMPT, stopping)


def drafted(shared: SharedExit, *, k: int, num_tokens: int = 40) -> Decoded:
    proposer = EarlyExitProposer(shared, GREEDY, generator=torch.Generator(), device=CPU)
    return decode(shared, proposer, k=k, num_tokens=num_tokens)


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("k", [1, 4])
def test_greedy_answers_are_the_targets(kind: str, k: int):
    """Whatever the cache holds: full attention, windows that are crossed, convolutions."""
    target = cached(kind)
    expected = decode(target, None).token_ids

    assert expected == drafted(shared_with(target, 1), k=k).token_ids


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layer", [1, 3, 5])
def test_every_layer_and_attention_gives_the_targets_answers(attention: str, layer: int):
    """Grouped-query heads, early and late exits, and some drafts of both fates among them."""
    target = deep(6)
    target.model.set_attn_implementation(attention)
    found = drafted(shared_with(target, layer), k=3)

    assert decode(target, None).token_ids == found.token_ids
    assert any(block.num_accepted_tokens < block.num_draft_tokens for block in found.blocks)


@pytest.mark.parametrize("layer", [4, 10])
def test_the_embedded_targets_answers(embedded: CachedCausalLM, layer: int):
    """Real weights, of which late layers keep some drafts and reject others."""
    found = drafted(shared_with(embedded, layer), k=4)

    assert decode(embedded, None).token_ids == found.token_ids


def test_it_drafts_what_the_cut_model_drafts(embedded: CachedCausalLM):
    """The same blocks as with a model of the first layers that has a cache of its own."""
    cut = DraftModelProposer(
        first_layers(embedded, 8), GREEDY, generator=torch.Generator(), device=CPU
    )
    expected = decode(embedded, cut, k=4).blocks
    found = drafted(shared_with(embedded, 8), k=4).blocks

    assert [one.draft_ids for one in expected] == [one.draft_ids for one in found]
    assert [one.num_accepted_tokens for one in expected] == [
        one.num_accepted_tokens for one in found
    ]


def test_every_layer_reads_every_row_once():
    """K drafts: K + 1 reads of a row by the first layers, one of K + 1 rows by the others."""
    target = deep(4)
    shared, reads = shared_with(target, 3), Counter[tuple[int, int]]()
    for layer, module in enumerate(target.model.model.layers):
        module.register_forward_pre_hook(
            lambda _, args, layer=layer: reads.update([(layer, args[0].shape[1])])
        )
    blocks = drafted(shared, k=3).blocks[1:]
    sizes = Counter(block.num_draft_tokens for block in blocks)
    for layer in range(3):
        expected = {1: sum((size + 1) * n for size, n in sizes.items()), len(PROMPT): 1}

        assert expected == {rows: n for (of, rows), n in reads.items() if of == layer}
    expected = {size + 1: n for size, n in sizes.items()} | {len(PROMPT): 1}

    assert expected == {rows: n for (of, rows), n in reads.items() if of == 3}


def test_an_audit_makes_the_same_passes_again():
    """Bit for bit what the loop picked its tokens by, in half precision too."""
    target, seen = deep(3), list[Tensor]()
    target.model.to(torch.bfloat16)
    shared = shared_with(target, 1)

    def watched(proposal: Proposal, logits: Tensor, *given: Any, **named: Any) -> Verdict:
        verdict = verify_strictly(proposal, logits, *given, **named)
        seen.append(logits[: verdict.num_accepted + 1].float())
        return verdict

    proposer = EarlyExitProposer(shared, GREEDY, generator=torch.Generator(), device=CPU)
    decoded = decode(shared, proposer, k=3, verify=watched)
    origin = Origin(blocks=decoded.blocks, shared_exit=shared)
    answer = Finished(context_ids=PROMPT, token_ids=decoded.token_ids)
    with torch.inference_mode():
        again = list(read_along(target, None, answer, as_decoded=origin))

    assert torch.equal(
        torch.cat(seen)[: len(decoded.token_ids)],
        torch.cat([one.target_logits for one in again]),
    )


def test_the_cache_is_the_targets_alone():
    """After an answer it holds what a baseline's holds, and no layer more or less."""
    target = deep(4)
    decode(target, None)
    expected = target.cache_bytes
    drafted(shared_with(target, 2), k=1)
    lengths = {layer.get_seq_length() for layer in target.cache.layers}

    assert {len(PROMPT) + 39} == lengths
    assert expected == target.cache_bytes


def test_an_answer_that_was_given_up_leaves_nothing_behind():
    """Drafts that were never verified are gone with the next sequence."""
    target = deep(3)
    shared = shared_with(target, 1)
    expected = drafted(shared, k=2).token_ids
    shared.reset(rolls_back=True)
    with torch.inference_mode():
        shared.prefill(PROMPT[:5])
        shared.draft(torch.tensor([1]))

    assert expected == drafted(shared, k=2).token_ids


def test_drafts_that_were_given_up_are_not_read_again_with_an_answer():
    """The loop's own passes are made again after a trial that ended between drafts."""
    target = deep(3)
    shared = shared_with(target, 1)
    decoded = drafted(shared, k=2)
    answer = Finished(context_ids=PROMPT, token_ids=decoded.token_ids)
    origin = Origin(blocks=decoded.blocks, shared_exit=shared)
    with torch.inference_mode():
        expected = [
            one.target_logits for one in read_along(target, None, answer, as_decoded=origin)
        ]
        shared.draft(torch.tensor([1]))
        found = [one.target_logits for one in read_along(target, None, answer, as_decoded=origin)]

    assert torch.equal(torch.cat(expected), torch.cat(found))


def test_a_passing_trial_leaves_the_target_as_it_was():
    """No hook stays on its layers, and its answers do not change."""
    target = cached("crop")
    expected = decode(target, None)
    shared_with(target, 1)

    assert not any(module._forward_hooks for module in target.model.modules())
    assert expected.token_ids == decode(target, None).token_ids


@pytest.mark.parametrize("kind", ["crop, learnt positions", "recurrent"])
def test_what_cannot_be_shared_is_found_out(kind: str):
    """Positions that would be added twice; states that a rollback has to read again."""
    assert share_exit(cached(kind), 1) is None


def test_a_cache_that_later_layers_misread_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """Given the cache as it is, later layers take the first ones' length for their own."""
    monkeypatch.setattr(shared_exit, "_later", lambda cache, _: cache)

    assert share_exit(deep(3), 1) is None


def test_a_state_after_the_norm_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """What the head reads is not what the next layer reads."""
    target = deep(3)
    remember = SharedExit._remember

    def normed(self: SharedExit, module: object, given: object, output: Tensor) -> None:
        remember(self, module, given, target.model.model.norm(output))

    monkeypatch.setattr(SharedExit, "_remember", normed)

    assert share_exit(target, 1) is None


@pytest.mark.parametrize("layer", [-1, 3, 7])
def test_an_unknown_layer_is_refused(layer: int):
    """The message names those that there are."""
    with pytest.raises(UnsupportedModel, match=f"after layer {layer}.*3 layers; name 1 to 2"):
        share_exit(deep(3), layer)


class Blocks:
    """All blocks of two drafts after the prompt, from real layers: logits by what was drafted."""

    def __init__(self) -> None:
        self.vocab = 8
        target = deep(2, vocab_size=self.vocab)
        shared = shared_with(target, 1)
        last, prompt = PROMPT[-1] % self.vocab, [one % self.vocab for one in PROMPT[:-1]]
        with torch.inference_mode():
            self.exit, self.target = self._read(shared, prompt, last)
            plain = target.model(
                input_ids=torch.tensor(
                    [[*prompt, last, *pair] for pair in product(range(self.vocab), repeat=2)]
                ),
                use_cache=False,
            ).logits[:, -3:]
        self.plain = plain.view(self.vocab, self.vocab, 3, self.vocab)

    def _read(self, shared: SharedExit, prompt: list[int], last: int) -> tuple[Tensor, Tensor]:
        """Logits of the exit [V, 2, V] by the first draft, of the target [V, V, 3, V] by both."""
        shared.reset(rolls_back=True)
        shared.prefill(prompt)
        exits, targets = [], []
        for first, second in product(range(self.vocab), repeat=2):
            rows = torch.tensor([last, first, second])
            exits.append(torch.cat([shared.draft(rows[:1]), shared.draft(rows[1:2])]))
            targets.append(shared.forward(rows))
            shared.rollback(3)
        size = self.vocab
        return (
            torch.stack(exits).view(size, size, 2, size)[:, 0],
            torch.stack(targets).view(size, size, 3, size),
        )

    def law(self, sampling: Sampling) -> dict[tuple[int, ...], float]:
        """Chance of everything that a block can emit, from plain passes (Leviathan, Theorem 3.5).

        Formula: a draft x is drafted and kept with min(p(x), q(x)), else z comes with (p − q)₊(z).
        """
        first, last = (
            sampling_probs(rows.reshape(-1, self.vocab), sampling).double().view(rows.shape)
            for rows in (self.exit, self.plain)
        )
        law: dict[tuple[int, ...], float] = {}
        p, q = last[0, 0, 0], first[0, 0]
        law |= {(z,): float((p - q).clamp_min(0)[z]) for z in range(self.vocab)}
        for x in range(self.vocab):
            kept = float(torch.minimum(p, q)[x])
            after_p, after_q = last[x, 0, 1], first[x, 1]
            law |= {
                (x, z): kept * float((after_p - after_q).clamp_min(0)[z]) for z in range(self.vocab)
            }
            law |= {
                (x, y, z): kept * float(torch.minimum(after_p, after_q)[y] * last[x, y, 2, z])
                for y, z in product(range(self.vocab), repeat=2)
            }
        return law

    @torch.inference_mode()
    def emitted(
        self, sampling: Sampling, *, drawn_at: Sampling, num_samples: int
    ) -> Counter[tuple[int, ...]]:
        """What real draws and the real verifier emit, block by block."""
        generator = torch.Generator().manual_seed(5)
        rows = self.exit[0, :1].expand(num_samples, -1)
        first = next_draft(rows, drawn_at, generator=generator).token
        second = next_draft(self.exit[first, 1], drawn_at, generator=generator).token
        draft_probs, target_probs = (
            sampling_probs(rows.reshape(-1, self.vocab), sampling).view(rows.shape)
            for rows in (self.exit, self.target)
        )
        counts = Counter[tuple[int, ...]]()
        for pair in torch.stack([first, second], dim=1):
            x, y = pair.tolist()
            verdict = verify_rejection(
                pair, draft_probs[x], target_probs[x, y], generator=generator
            )
            counts[verdict.tokens] += 1
        return counts


def p_value(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> float:
    """Chi-square; cells that are expected fewer than ten times are one cell."""
    assert sum(law.values()) == pytest.approx(1)
    assert set(counts) <= {cell for cell, chance in law.items() if chance > 0}
    total = counts.total()
    small = [cell for cell, chance in law.items() if chance * total < 10]
    large = [cell for cell in law if cell not in set(small)]
    observed = [counts[cell] for cell in large] + [sum(counts[cell] for cell in small)]
    expected = [law[cell] * total for cell in large] + [sum(law[cell] for cell in small) * total]
    scale = total / sum(expected)
    return float(stats.chisquare(observed, [one * scale for one in expected]).pvalue)


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    return Blocks()


NUCLEUS = Sampling(temperature=2.0, top_p=0.9)


def test_the_targets_law_is_read_whatever_was_drafted(blocks: Blocks):
    """All 64 blocks of two drafts: the shared cache's logits are those of one plain pass."""
    torch.testing.assert_close(blocks.target, blocks.plain, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_emitted_blocks_follow_the_target(blocks: Blocks):
    """Joint law of a whole block of two drafts, 584 cells, by chi-square at 200,000 samples."""
    counts = blocks.emitted(NUCLEUS, drawn_at=NUCLEUS, num_samples=NUM_SAMPLES)

    assert ALPHA < p_value(counts, blocks.law(NUCLEUS))


@pytest.mark.slow
def test_drafts_of_another_law_than_they_say_are_caught(blocks: Blocks):
    """Drawn at another temperature than the verifier is told; a tenth of the samples show it."""
    other = Sampling(temperature=1.2, top_p=0.9)
    counts = blocks.emitted(NUCLEUS, drawn_at=other, num_samples=NUM_SAMPLES // 10)

    assert ALPHA > p_value(counts, blocks.law(NUCLEUS))
