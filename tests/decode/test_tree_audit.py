"""Audits of answers that trees of drafts gave: alarms on broken verifiers, none on ours."""

from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from specmeasure.decode.along import HeadsAlong, Origin, read_along
from specmeasure.decode.audit import audit_greedy
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.head_board import Heads
from specmeasure.decode.judged import first_rejected, judged_drafts
from specmeasure.decode.loop import Decoded, Decoder, Verify
from specmeasure.decode.sampled_audit import audit_sampled
from specmeasure.decode.stopping import Stopping
from specmeasure.decode.teacher import Finished
from specmeasure.decode.token_probs import token_probs
from specmeasure.proposers.medusa import MedusaHeads, MedusaProposer
from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.records.trace import SampledAudit
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import greedy_tokens
from specmeasure.speculate.verdict import Verdict
from specmeasure.speculate.verify import verify_strictly
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock
from tests.decode.test_tree_loop import with_fault
from tests.fakes import make_block
from tests.speculate.tree_oracle import Fault

CPU, WARM = torch.device("cpu"), Sampling(temperature=1.3)
TREE = TokenTree.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0)])
CONTEXT, NUM_TOKENS, NUM_ANSWERS = list(range(9)), 60, 12
RANKED, DRAWN = DraftSampling.GREEDY, DraftSampling.PROBABILISTIC
# prefill · nodes 1 and 5 kept · none kept · 0 kept, cut to one level · no draft · 0 kept, the end
BLOCKS = (
    make_block(0, 0, draft_ids=(), emitted_ids=(5,)),
    make_block(6, 2, draft_depth=2, draft_ids=(11, 12, 13, 21, 22, 23), emitted_ids=(12, 23, 30)),
    make_block(6, 0, draft_depth=2, draft_ids=(14, 15, 16, 24, 25, 26), emitted_ids=(17,)),
    make_block(3, 1, draft_depth=1, draft_ids=(31, 32, 33), emitted_ids=(31, 34)),
    make_block(0, 0, draft_ids=(), emitted_ids=(40,)),
    make_block(
        6,
        1,
        draft_depth=2,
        draft_ids=(41, 42, 43, 44, 45, 46),
        emitted_ids=(41,),
        truncated=True,
    ),
)
ANSWER = [5, 12, 23, 30, 17, 31, 34, 40, 41]


def cached(dtype: torch.dtype = torch.float32) -> CachedCausalLM:
    model = CachedCausalLM(tiny_models.llama().to(dtype), vocab_size=tiny_models.VOCAB)
    model.watch_states()
    return model


def heads_like(target: CachedCausalLM) -> MedusaHeads:
    """Two heads that say something near to what the target says, so that drafts are often right."""
    made = MedusaHeads(hidden_size=32, vocab_size=tiny_models.VOCAB, num_heads=2, num_layers=0)
    noise = torch.Generator().manual_seed(1)
    own = target.model.get_output_embeddings().weight
    for head in made.lm_heads:
        head.weight.data = 0.5 * own.detach() + 0.1 * torch.randn(own.shape, generator=noise)
    return made.to(own.dtype).eval()


def decoded(
    target: CachedCausalLM,
    draft_sampling: DraftSampling,
    verify: Verify = verify_strictly,
    *,
    sampling: Sampling = WARM,
    seed: int = 0,
) -> Decoded:
    source = torch.Generator().manual_seed(seed)
    decoder = Decoder(
        target=target,
        sampling=sampling,
        generator=source,
        clock=FakeClock(),
        device=CPU,
        verify=verify,
    )
    proposer = MedusaProposer(
        heads_like(target),
        target,
        sampling if draft_sampling is DRAWN else GREEDY,
        tree=TREE,
        generator=source,
    )
    stopping = Stopping(max_new_tokens=NUM_TOKENS, eos_ids=frozenset(), num_speculative_tokens=2)
    return decoder.decode(proposer, CONTEXT, stopping)


def origin_of(target: CachedCausalLM, answer: Decoded, draft_sampling: DraftSampling) -> Origin:
    heads = Heads(num_heads=2, read=heads_like(target))
    return Origin(blocks=answer.blocks, heads=heads, draft_sampling=draft_sampling, tree=TREE)


def audits(draft_sampling: DraftSampling, verify: Verify) -> list[SampledAudit]:
    target = cached()
    found = []
    for seed in range(NUM_ANSWERS):
        answer = decoded(target, draft_sampling, verify, seed=seed)
        found.append(
            audit_sampled(
                target,
                Finished(context_ids=CONTEXT, token_ids=answer.token_ids),
                WARM,
                origin=origin_of(target, answer, draft_sampling),
                generator=torch.Generator().manual_seed(seed),
            )
        )
    return found


def p_values(found: list[SampledAudit]) -> tuple[float, float]:
    """Of uniform transforms, and of no pull towards the drafts."""
    pit = [one for audit in found for one in audit.pit]
    pulls = [audit.pull for audit in found if audit.pull]
    excess = sum(pull.score.excess for pull in pulls)
    spread = sum(pull.score.variance for pull in pulls) ** 0.5
    return float(stats.kstest(pit, "uniform").pvalue), float(stats.norm.sf(excess / spread))


@pytest.mark.slow
@pytest.mark.parametrize("draft_sampling", DraftSampling)
def test_our_verifier_raises_no_alarm(draft_sampling: DraftSampling):
    """Transforms are uniform and nothing pulls, with point masses and with drawn siblings."""
    found = audits(draft_sampling, verify_strictly)

    assert 0.01 < min(p_values(found))
    assert {0} == {audit.num_impossible for audit in found}
    assert NUM_ANSWERS * NUM_TOKENS / 3 < sum(audit.pull.num_judged for audit in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "draft_sampling"),
    [
        (Fault.KEEPS_REJECTED, RANKED),
        (Fault.KEEPS_REJECTED, DRAWN),
        (Fault.REDRAWS, RANKED),
        (Fault.REDRAWS, DRAWN),
        (Fault.FORGETS_SIBLINGS, DRAWN),
    ],
)
def test_a_broken_verifier_raises_the_alarm(fault: Fault, draft_sampling: DraftSampling):
    """The transforms or the pull say so, at half the level for each.

    Not asked: that siblings which are point masses were judged as if none had been tried before.
    It takes p₁ · p₂ from the second one, here a hundredth of the tokens, which needs more of them.
    """
    found = audits(draft_sampling, with_fault(fault))

    assert min(p_values(found)) < 0.5e-3


@torch.inference_mode()
def test_a_wrong_greedy_path_raises_the_alarm():
    """A verifier that takes the last child where none fits is caught by the greedy audit."""

    def careless(
        proposal: Proposal, logits: Tensor, sampling: Sampling, *, generator: torch.Generator
    ) -> Verdict:
        verdict = verify_strictly(proposal, logits, sampling, generator=generator)
        if proposal.parents is None or verdict.num_accepted:
            return verdict
        node = len([one for one in proposal.parents if one < 0]) - 1
        own = int(greedy_tokens(logits)[1 + node])
        return replace(verdict, num_accepted=1, path=(node,), next_token=own)

    target = cached()
    suspects = {}
    for name, verify in (("ours", verify_strictly), ("careless", careless)):
        answer = decoded(target, RANKED, verify, sampling=GREEDY)
        found = audit_greedy(target, CONTEXT, answer.token_ids, device=CPU)
        suspects[name] = [one for one in found.suspects if one.delta > 2 * one.noise]

    assert [] == suspects["ours"]
    assert [] != suspects["careless"]


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_passes_made_again_are_those_of_the_loop(dtype: torch.dtype):
    """Logits that each token was picked by, bit for bit, through trees and compacted caches."""
    target = cached(dtype)
    seen: list[Tensor] = []

    def watched(proposal, logits, sampling, *, generator):
        verdict = verify_strictly(proposal, logits, sampling, generator=generator)
        rows = [0, *(1 + node for node in verdict.path or ())]
        seen.extend(logits[rows].float())
        return verdict

    answer = decoded(target, RANKED, watched)
    finished = Finished(context_ids=CONTEXT, token_ids=answer.token_ids)
    again = read_along(target, None, finished, as_decoded=origin_of(target, answer, RANKED))
    found = torch.cat([stretch.target_logits for stretch in again])

    assert torch.equal(torch.stack(seen)[: len(found)], found)


@torch.inference_mode()
@pytest.mark.parametrize("same_shapes", [False, True])
def test_heads_say_again_what_they_said(same_shapes: bool):  # noqa: FBT001 - a parameter
    """The law of a place is its head's, from the state that the block was drafted from."""
    target = cached()
    said: list[Tensor] = []
    answer = decoded(target, RANKED)
    origin = origin_of(target, answer, RANKED)
    judged = judged_drafts(answer.blocks, TREE)
    ids = torch.tensor([[*CONTEXT, *answer.token_ids]])
    states = target.model.model(input_ids=ids, use_cache=False).last_hidden_state[0]
    for place, one in enumerate(judged):
        before = states[len(CONTEXT) - 1 + max(0, one.block_start - 1)]
        said.append(heads_like(target)(before)[min(1, one.num_before)])
        if one.drafts:
            likeliest = said[-1].topk(len(one.drafts)).indices.tolist()
            assert likeliest == list(one.drafts), place

    stretches = read_along(
        target,
        HeadsAlong(origin.heads, judged, CPU),
        Finished(context_ids=CONTEXT, token_ids=answer.token_ids),
        as_decoded=origin if same_shapes else None,
    )

    found = torch.cat([stretch.draft_logits for stretch in stretches])
    assert torch.allclose(torch.stack(said), found, atol=1e-4)


def test_siblings_are_laid_beside_the_tokens():
    """All children of the last kept node were judged for the place after it."""
    judged = judged_drafts(BLOCKS, TREE)

    assert [
        (),
        (11, 12, 13),
        (23,),
        (),
        (14, 15, 16),
        (31, 32, 33),
        (),
        (),
        (41, 42, 43),
    ] == [one.drafts for one in judged]
    assert [None, None, 4, None, None, None] == first_rejected(BLOCKS, judged)


@pytest.mark.parametrize("tree", [None, TokenTree.chain(6)])
def test_another_arms_tree_is_refused(tree: TokenTree | None):
    """Blocks whose nodes do not fit the tree cannot be read again."""
    with pytest.raises(ValueError, match="not this arm's tree"):
        judged_drafts(BLOCKS, tree)


def test_a_path_that_is_none_is_refused():
    """Kept tokens that are no path of the drafts say so, and name no token."""
    torn = replace(BLOCKS[1], emitted_ids=(11, 23, 30))

    with pytest.raises(ValueError, match="draft 2 that was kept is no child"):
        judged_drafts([torn], TREE)


def test_point_masses_share_their_chance_evenly():
    """The pull of siblings by hand: each counts 1 / siblings over the target's chance."""
    target = cached()
    origin = Origin(blocks=BLOCKS, tree=TREE)
    with torch.inference_mode():
        logits = target.model(input_ids=torch.tensor([[*CONTEXT, *ANSWER]]), use_cache=False)
        p = (logits.logits[0, len(CONTEXT) - 1 : -1] / WARM.temperature).softmax(-1).double()
    excess, shift, distance = 0.0, 0.0, 0.0
    for place, one in enumerate(judged_drafts(BLOCKS, TREE)):
        if one.drafts:
            share = 1 / len(one.drafts)
            scores = {draft: min(10.0, share / float(p[place, draft])) for draft in one.drafts}
            mean = sum(float(p[place, draft]) * score for draft, score in scores.items())
            excess += scores.get(ANSWER[place], 0.0) - mean
            shift += sum(share * score for score in scores.values()) - mean
            distance += sum(max(0.0, share - float(p[place, draft])) for draft in one.drafts)

    pull = audit_sampled(
        target,
        Finished(context_ids=CONTEXT, token_ids=ANSWER),
        WARM,
        origin=origin,
        generator=torch.Generator(),
    ).pull

    assert 5 == pull.num_judged
    assert excess == pytest.approx(pull.score.excess, rel=1e-4)
    assert (shift, distance) == pytest.approx((pull.shift, pull.total_variation), rel=1e-4)


def test_drafts_of_an_unknown_law_are_not_judged():
    """Where nobody knows what siblings were drawn from, nothing is said of a pull."""
    answer = Finished(context_ids=CONTEXT, token_ids=ANSWER)
    origin = Origin(blocks=BLOCKS, tree=TREE, law_is_known=False)
    found = audit_sampled(cached(), answer, WARM, origin=origin, generator=torch.Generator())

    assert None is found.pull
    assert len(ANSWER) == len(found.pit)


def test_the_first_tried_of_rejected_siblings_is_shown():
    """14 was tried first where nothing was kept; other blocks ended in a bonus or were cut."""
    target, answer = cached(), Finished(context_ids=CONTEXT, token_ids=ANSWER)
    found = token_probs(target, answer, WARM, origin=Origin(blocks=BLOCKS, tree=TREE))
    with torch.inference_mode():
        ids = torch.tensor([[*CONTEXT, *ANSWER[:4]]])
        row = target.model(input_ids=ids, use_cache=False).logits[0, -1] / WARM.temperature

    expected = pytest.approx(float(row.softmax(-1)[14]), abs=1e-5)
    assert [None, None, expected, None, None, None] == list(found.rejected_target)
    assert {None} == set(found.rejected_draft)
