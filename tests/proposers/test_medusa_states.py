"""Heads on real models: every draft comes from the state of the last token that is remembered."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.loop import Decoded, Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.errors import BrokenLogits, UnsupportedModel
from specmeasure.proposers.medusa import MedusaHeads, MedusaProposer
from specmeasure.records.plan import GREEDY
from specmeasure.records.tree import TokenTree
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock
from tests.decode.tree_proposer import BUSHY

PROMPT, MOST, NUM_HEADS = [3, 1, 4, 1, 5, 9, 2, 6], 20, 3
DEEP = TokenTree.of([*TokenTree.chain(3).paths, (1,), (0, 1), (1, 0), (1, 0, 0), (1, 0, 1)])
TREES = [None, BUSHY, DEEP]


def decoded(
    target: CachedCausalLM, heads: MedusaHeads | None, tree: TokenTree | None = None
) -> Decoded:
    generator = torch.Generator()
    decoder = Decoder(
        target=target,
        sampling=GREEDY,
        generator=generator,
        clock=FakeClock(),
        device=torch.device("cpu"),
    )
    stopping = Stopping(max_new_tokens=MOST, eos_ids=frozenset(), num_speculative_tokens=NUM_HEADS)
    proposer = heads and MedusaProposer(heads, target, GREEDY, tree=tree, generator=generator)
    return decoder.decode(proposer, PROMPT, stopping)


@torch.inference_mode()
def states_of(target: CachedCausalLM, token_ids: list[int]) -> Tensor:
    """What goes into the output head in one pass over all tokens: [T, D]."""
    found: list[Tensor] = []
    head = target.model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0][0]))
    target.model(input_ids=torch.tensor([token_ids]), use_cache=False)
    hook.remove()
    return found[0]


def half_knowing(target: CachedCausalLM, answer: tuple[int, ...]) -> MedusaHeads:
    """Fewer states than dimensions, so an exact fit: to the answer with a fifth of it changed."""
    states = states_of(target, [*PROMPT, *answer])[len(PROMPT) - 1 :]
    heads = MedusaHeads(
        hidden_size=states.shape[1],
        vocab_size=tiny_models.VOCAB,
        num_heads=NUM_HEADS,
        num_layers=0,
    )
    generator = torch.Generator().manual_seed(4)
    for head, matrix in enumerate(heads.lm_heads):
        tokens = torch.tensor(answer[1 + head :])
        is_wrong = (torch.arange(len(tokens)) + 2 * head) % 5 == 4
        tokens = torch.where(is_wrong, (tokens + 1) % tiny_models.VOCAB, tokens)
        wanted = 8 * torch.eye(tiny_models.VOCAB)[tokens]
        wanted += torch.randn(wanted.shape, generator=generator)  # an order of the others
        fitted = torch.linalg.pinv(states[: len(tokens)]) @ wanted
        matrix.weight = torch.nn.Parameter(fitted.T.contiguous(), requires_grad=False)
    return heads


def check(kind: str, tree: TokenTree | None) -> None:
    target = CachedCausalLM(tiny_models.ALL[kind](), vocab_size=tiny_models.VOCAB)
    plain = decoded(target, None)
    heads = half_knowing(target, plain.token_ids)
    target.watch_states()
    found = decoded(target, heads, tree)
    states = states_of(target, [*PROMPT, *found.token_ids])

    assert plain.token_ids == found.token_ids
    assert {0, 2} <= {block.num_accepted_tokens for block in found.blocks[1:]}
    for block in found.blocks[1:]:
        order = heads(states[block.context_length - 1]).argsort(-1, descending=True)
        depth = block.num_draft_tokens if tree is None else block.draft_depth
        cut = (TokenTree.chain(NUM_HEADS) if tree is None else tree).down_to(depth or 0)
        paths = cut.paths if cut else ()
        assert block.draft_ids == tuple(int(order[len(path) - 1, path[-1]]) for path in paths)


@pytest.mark.parametrize("kind", tiny_models.ALL)
def test_chains_are_drafted_from_the_last_state(kind: str):
    """After rejections and after kept drafts, however the cache forgets."""
    check(kind, None)


@pytest.mark.parametrize("tree", [BUSHY, DEEP], ids=["bushy", "deep"])
@pytest.mark.parametrize("kind", ["crop", "crop, learnt positions"])
def test_trees_are_drafted_from_the_last_state(kind: str, tree: TokenTree):
    """After a path was kept out of a tree."""
    check(kind, tree)


def test_a_target_that_hides_its_states_is_refused_at_the_first_read():
    """One that does not call the head that it names."""
    target = CachedCausalLM(tiny_models.llama(), vocab_size=tiny_models.VOCAB)
    other = deepcopy(target.model.get_output_embeddings())
    target.model.get_output_embeddings = lambda: other
    target.watch_states()
    with pytest.raises(UnsupportedModel, match="does not call its output head"):
        target.prefill(PROMPT)


@pytest.mark.parametrize("tree", TREES, ids=["chain", "bushy", "deep"])
def test_heads_without_numbers_end_with_a_clear_error(tree: TokenTree | None):
    """NaN is told of; no model is asked for a token that is none."""
    target = CachedCausalLM(tiny_models.llama(), vocab_size=tiny_models.VOCAB)
    target.watch_states()
    heads = MedusaHeads(hidden_size=32, vocab_size=64, num_heads=NUM_HEADS, num_layers=1)
    heads.lm_heads[0].weight.data[5] = torch.nan
    with pytest.raises(BrokenLogits, match="the draft's logits hold NaN"):
        decoded(target, heads, tree)
