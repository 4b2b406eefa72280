"""Audits of sampled answers and chances of their tokens, against full distributions."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from specmeasure.decode import along
from specmeasure.decode.along import Origin, read_along, wants_same_shapes
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.judged import first_rejected, judged_drafts
from specmeasure.decode.loop import Decoder
from specmeasure.decode.sampled_audit import audit_sampled
from specmeasure.decode.stopping import Stopping
from specmeasure.decode.teacher import Finished
from specmeasure.decode.token_probs import token_probs
from specmeasure.errors import BrokenLogits
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.records.trace import SampledAudit
from specmeasure.speculate.sampling import sampling_probs
from specmeasure.speculate.verify import verify_strictly
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock
from tests.fakes import make_block

WARM, NUCLEUS = Sampling(temperature=1.3), Sampling(temperature=0.8, top_p=0.9)
CPU = torch.device("cpu")
CONTEXT = list(range(9))
# prefill · 2 of 3 kept · all of 2 kept, and a bonus · no draft · 1 of 2 kept, which ended it
BLOCKS = (
    make_block(0, 0, draft_ids=()),
    make_block(3, 2, draft_ids=(11, 12, 13)),
    make_block(2, 2, draft_ids=(21, 22)),
    make_block(0, 0, draft_ids=()),
    make_block(2, 1, truncated=True, draft_ids=(41, 42)),
)
ANSWER = [5, 11, 12, 33, 21, 22, 23, 7, 41]
JUDGED = [None, 11, 12, 13, 21, 22, None, None, 41]


def cached(seed: int | None = None) -> CachedCausalLM:
    """A tiny model; with a seed, another one, not far from it."""
    model = tiny_models.llama()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.data += 0.02 * weight.std().nan_to_num() * noise
    return CachedCausalLM(model, vocab_size=tiny_models.VOCAB)


@torch.inference_mode()
def probs_along(model: CachedCausalLM, sampling: Sampling) -> Tensor:
    """[T, V] by one pass without a cache."""
    ids = torch.tensor([[*CONTEXT, *ANSWER]])
    logits = model.model(input_ids=ids, use_cache=False).logits[0, len(CONTEXT) - 1 : -1]
    return logits.softmax(-1) if sampling.is_greedy else sampling_probs(logits, sampling)


BASELINE = Origin(blocks=[make_block(0, 0, draft_ids=()) for _ in ANSWER])


def drafted_by(
    model: CachedCausalLM | None, draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC
) -> Origin:
    return Origin(blocks=BLOCKS, draft_model=model, draft_sampling=draft_sampling)


def audited(target: CachedCausalLM, origin: Origin, sampling: Sampling = WARM) -> SampledAudit:
    return audit_sampled(
        target,
        Finished(context_ids=CONTEXT, token_ids=ANSWER),
        sampling,
        origin=origin,
        generator=torch.Generator().manual_seed(1),
    )


def naive_pit(probs: list[float], order: list[int], token: int, part: float) -> float:
    """Chances before the token in this order, and a part of its own."""
    before = order[: order.index(token)]
    return sum(probs[other] for other in before) + part * probs[token]


def test_drafts_are_laid_beside_the_tokens():
    """A recovered token stands for the draft that was rejected; bonus tokens for none."""
    judged = judged_drafts(BLOCKS)

    assert [() if one is None else (one,) for one in JUDGED] == [one.drafts for one in judged]
    assert [0, 1, 1, 1, 4, 4, 4, 7, 8] == [one.block_start for one in judged]
    assert [0, 0, 1, 2, 0, 1, 2, 0, 0] == [one.num_before for one in judged]
    assert [None, 3, None, None, None] == first_rejected(BLOCKS, judged)


def test_blocks_without_draft_ids_are_refused():
    """A trace that keeps no ids cannot be audited from its blocks."""
    with pytest.raises(ValueError, match="no draft ids"):
        judged_drafts([make_block(2, 1)])


@pytest.mark.parametrize("sampling", [WARM, NUCLEUS], ids=str)
def test_transforms_are_those_of_full_distributions(sampling: Sampling):
    """Judged places in the order of draft over target, the others likeliest first."""
    target, draft = cached(), cached(seed=1)
    p, q = probs_along(target, sampling).double(), probs_along(draft, sampling).double()
    parts = torch.rand(len(ANSWER), generator=torch.Generator().manual_seed(1)).tolist()
    expected = []
    for place, token in enumerate(ANSWER):
        key = -p[place] if JUDGED[place] is None else (q[place] / p[place]).nan_to_num(0.0)
        order = sorted(range(tiny_models.VOCAB), key=lambda v: (float(key[v]), -float(p[place, v])))
        expected.append(naive_pit(p[place].tolist(), order, token, parts[place]))

    found = audited(target, drafted_by(draft), sampling)

    assert expected == pytest.approx(list(found.pit), abs=1e-4)
    assert sum(float(p[place, token]) == 0 for place, token in enumerate(ANSWER)) == (
        found.num_impossible
    )


def test_scores_are_those_of_full_distributions():
    """Surprise over all tokens, the pull over judged drafts alone."""
    target, draft = cached(), cached(seed=1)
    p, q = probs_along(target, WARM).double(), probs_along(draft, WARM).double()
    nats, ratio = -p.log(), (q / p).clamp_max(10)
    judged = [place for place, one in enumerate(JUDGED) if one is not None]
    found = audited(target, drafted_by(draft))
    pull = found.pull
    assert pull is not None

    for scores, places, score in (
        (nats, range(len(ANSWER)), found.surprise),
        (ratio, judged, pull.score),
    ):
        rows = [(p[place], scores[place], ANSWER[place]) for place in places]
        mean = [float(law @ one) for law, one, _ in rows]
        excess = sum(float(one[token]) - m for (_, one, token), m in zip(rows, mean, strict=True))
        variance = sum(
            float(law @ (one - m) ** 2) for (law, one, _), m in zip(rows, mean, strict=True)
        )

        assert (excess, variance) == pytest.approx((score.excess, score.variance), rel=1e-3)
    assert len(judged) == pull.num_judged
    assert sum(float((q[i] - p[i]).clamp_min(0).sum()) for i in judged) == pytest.approx(
        pull.total_variation, rel=1e-4
    )
    assert sum(float((q[i] - p[i]) @ ratio[i]) for i in judged) == pytest.approx(
        pull.shift, rel=1e-3
    )


@pytest.mark.parametrize("model", [None, cached(seed=1)], ids=["lookup", "greedy drafts"])
def test_drafts_without_chance_are_point_masses(model: CachedCausalLM | None):
    """The law of a lookup's or a greedy draft is the recorded draft itself."""
    target = cached()
    p = probs_along(target, WARM).double()
    drafts = [(place, one) for place, one in enumerate(JUDGED) if one is not None]
    ratios = [min(10.0, 1 / float(p[place, one])) for place, one in drafts]
    means = [float(p[place, one]) * s for (place, one), s in zip(drafts, ratios, strict=True)]
    hits = [
        s if ANSWER[place] == one else 0.0 for (place, one), s in zip(drafts, ratios, strict=True)
    ]

    pull = audited(target, drafted_by(model, DraftSampling.GREEDY)).pull

    assert pull is not None
    assert sum(hits) - sum(means) == pytest.approx(pull.score.excess, rel=1e-4)
    assert sum(ratios) - sum(means) == pytest.approx(pull.shift, rel=1e-4)
    assert sum(1 - float(p[place, one]) for place, one in drafts) == pytest.approx(
        pull.total_variation, rel=1e-5
    )


def test_without_a_judged_draft_there_is_no_pull():
    """A baseline, or a lookup that found nothing: tokens are ranked by their chance alone."""
    assert None is audited(cached(), BASELINE).pull


def test_many_chunks_say_what_one_chunk_says(monkeypatch: pytest.MonkeyPatch):
    """Two rows of logits at a time, and the same audit and chances."""
    target, drafted = cached(), drafted_by(cached(seed=1))
    whole, shown = audited(target, drafted), shown_probs(target, drafted, WARM)
    monkeypatch.setattr(along, "LOGIT_BYTES", 2 * 4 * tiny_models.VOCAB)
    parts = audited(target, drafted)

    assert list(whole.pit) == pytest.approx(list(parts.pit), abs=1e-4)
    assert whole.surprise.excess == pytest.approx(parts.surprise.excess, abs=1e-3)
    assert whole.surprise.variance == pytest.approx(parts.surprise.variance, rel=1e-4)
    assert whole.pull is not None
    assert parts.pull is not None
    assert whole.pull.score.excess == pytest.approx(parts.pull.score.excess, abs=1e-3)
    assert list(shown.target) == pytest.approx(
        list(shown_probs(target, drafted, WARM).target), abs=1e-5
    )


def test_another_seed_is_another_randomisation():
    """The same tokens, other parts of their own chance; scores do not depend on it."""
    answer = Finished(context_ids=CONTEXT, token_ids=ANSWER)
    one, other = (
        audit_sampled(
            cached(), answer, WARM, origin=BASELINE, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (1, 2)
    )

    assert one.pit != other.pit
    assert one.surprise == other.surprise


@torch.inference_mode()
@pytest.mark.parametrize("method", ["baseline", "lookup", "draft model"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_passes_made_again_are_those_of_the_loop(method: str, dtype: torch.dtype):
    """Logits that each token was picked by, bit for bit: the same shapes on the same cache."""
    target, draft = (
        CachedCausalLM(one.model.to(dtype), vocab_size=tiny_models.VOCAB)
        for one in (cached(), cached(seed=1))
    )
    seen: list[Tensor] = []

    def watched(proposal, logits, sampling, *, generator):
        verdict = verify_strictly(proposal, logits, sampling, generator=generator)
        seen.extend(logits[: verdict.num_accepted + 1].float())
        return verdict

    generator = torch.Generator().manual_seed(4)
    decoder = Decoder(
        target=target,
        sampling=WARM,
        generator=generator,
        clock=FakeClock(),
        device=CPU,
        verify=watched,
    )
    proposer = {
        "baseline": None,
        "lookup": NgramProposer(max_ngram=2, min_ngram=1, device=CPU),
        "draft model": DraftModelProposer(draft, WARM, generator=generator, device=CPU),
    }[method]
    stopping = Stopping(max_new_tokens=40, eos_ids=frozenset({3}), num_speculative_tokens=3)
    decoded = decoder.decode(proposer, CONTEXT, stopping)
    answer = Finished(context_ids=CONTEXT, token_ids=decoded.token_ids)

    again = read_along(target, draft, answer, as_decoded=Origin(blocks=decoded.blocks))

    found = torch.cat([stretch.target_logits for stretch in again])
    assert len(decoded.token_ids) > 10
    assert torch.equal(torch.stack(seen)[: len(found)], found)


def test_same_shapes_are_asked_for_where_rounding_is_coarse():
    """Half precision at a low temperature; not where one pass will do, nor for others' answers."""
    exact, cold = cached(), Sampling(temperature=0.3)
    half = CachedCausalLM(cached().model.bfloat16(), vocab_size=tiny_models.VOCAB)
    elsewhere = [make_block(1, 1, truncated=True, draft_ids=(5,))] * 2

    assert [True, False, False, False] == [
        wants_same_shapes(half, BLOCKS, cold),
        wants_same_shapes(half, BLOCKS, WARM),
        wants_same_shapes(exact, BLOCKS, cold),
        wants_same_shapes(half, elsewhere, cold),
    ]


def test_same_shapes_say_what_one_pass_says():
    """In float32 the two readings are one, draft and chunks included."""
    target, origin = cached(), drafted_by(cached(seed=1))
    one, other = audited(target, origin), audited(target, replace(origin, same_shapes=True))

    assert list(one.pit) == pytest.approx(list(other.pit), abs=1e-4)
    assert one.surprise.excess == pytest.approx(other.surprise.excess, abs=1e-3)


def shown_probs(target, drafted, sampling):
    answer = Finished(context_ids=CONTEXT, token_ids=ANSWER)
    return token_probs(target, answer, sampling, origin=drafted)


@pytest.mark.parametrize("sampling", [GREEDY, NUCLEUS], ids=str)
def test_chances_of_emitted_and_rejected_tokens(sampling: Sampling):
    """Under both laws, at the answer's sampling; 13 was rejected in the second block."""
    target, draft = cached(), cached(seed=1)
    p, q = probs_along(target, sampling), probs_along(draft, sampling)
    places = range(len(ANSWER))
    found = shown_probs(target, drafted_by(draft), sampling)

    assert [float(p[i, ANSWER[i]]) for i in places] == pytest.approx(list(found.target), abs=1e-5)
    assert found.draft is not None
    assert [float(q[i, ANSWER[i]]) for i in places] == pytest.approx(list(found.draft), abs=1e-5)
    for chances, law in ((found.rejected_target, p), (found.rejected_draft, q)):
        assert [None, pytest.approx(float(law[3, 13]), abs=1e-5), None, None, None] == list(chances)


def test_a_lookup_has_no_chances_of_its_own():
    """What it did not find has no probability, which is not 0."""
    found = shown_probs(cached(), drafted_by(None), WARM)

    assert None is found.draft
    assert {None} == set(found.rejected_draft)
    assert [False, True, False, False, False] == [one is not None for one in found.rejected_target]


def test_a_baseline_has_the_targets_chances_alone():
    """No blocks with drafts, no rejected ones."""
    found = shown_probs(cached(), BASELINE, WARM)

    assert (None, (), ()) == (found.draft, found.rejected_target, found.rejected_draft)


@pytest.mark.parametrize("broken", ["target", "draft"])
def test_nan_names_the_model_that_made_it(broken: str):
    """No audit is made of NaN."""
    models = {"target": cached(), "draft": cached(seed=1)}
    torch.nn.init.constant_(models[broken].model.get_output_embeddings().weight, torch.nan)

    with pytest.raises(BrokenLogits, match=f"the {broken}'s logits hold NaN"):
        audited(models["target"], drafted_by(models["draft"]))
