"""Scores along finished answers are what a naive pass and the real loop say."""

from array import array
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from specmeasure.decode import batch, teacher
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.head_board import Heads, ranks_of
from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.decode.teacher import Drafter, Finished, Scored, score_batch, score_lookup
from specmeasure.errors import BrokenLogits, UnsupportedModel
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.speculate.sampling import sampling_probs
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table

CPU = torch.device("cpu")
NUCLEUS = Sampling(temperature=0.8, top_p=0.9)
SETTINGS = [
    (GREEDY, DraftSampling.PROBABILISTIC),
    (NUCLEUS, DraftSampling.PROBABILISTIC),
    (NUCLEUS, DraftSampling.GREEDY),
]
DRAFT_FIELDS = ("accept_chance", "argmax_hit", "entropy", "total_variation", "token_rank")


def cached(kind: str, seed: int | None = None) -> CachedCausalLM:
    """A tiny model; with a seed, another one of its kind, not far from it."""
    model = tiny_models.ALL[kind]()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.data += 0.02 * weight.std().nan_to_num() * noise
    return CachedCausalLM(model, vocab_size=tiny_models.VOCAB)


def ragged_answers() -> list[Finished]:
    """Tokens that anyone could have said, after contexts and of lengths that all differ."""
    generator = torch.Generator().manual_seed(7)

    def ids(num: int) -> list[int]:
        return torch.randint(tiny_models.VOCAB, (num,), generator=generator).tolist()

    return [
        Finished(context_ids=ids(num_context), token_ids=ids(num_answer))
        for num_context, num_answer in [(9, 20), (3, 1), (31, 2), (4, 33), (17, 12)]
    ]


@torch.inference_mode()
def logits_along(model: CachedCausalLM, answer: Finished) -> Tensor:
    """[T, V] by one pass without a cache."""
    ids = torch.tensor([[*answer.context_ids, *answer.token_ids]])
    rows = model.model(input_ids=ids, use_cache=False).logits[0, :, : model.vocab_size]
    return rows[len(answer.context_ids) - 1 : -1]


def distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    return logits.softmax(-1) if sampling.is_greedy else sampling_probs(logits, sampling)


def naive_draft_scores(
    target: Tensor,  # logits [T, V]
    draft: Tensor,  # logits [T, V]
    tokens: Sequence[int],
    sampling: Sampling,
    draft_sampling: DraftSampling,
) -> dict[str, list[float]]:
    """Token by token, from full distributions, as the definitions have it."""
    scores: dict[str, list[float]] = {name: [] for name in DRAFT_FIELDS}
    for place, token in enumerate(tokens):
        p = distribution(target[place : place + 1], sampling)[0]
        q = distribution(draft[place : place + 1], sampling)[0]
        likeliest = int(draft[place].argmax())
        point = torch.zeros_like(q)
        point[likeliest] = 1
        drafted = q if draft_sampling is DraftSampling.PROBABILISTIC else point
        if sampling.is_greedy:
            chance, drafted = float(likeliest == token), q
        elif draft_sampling is DraftSampling.GREEDY:
            chance = float(likeliest == token)
        elif p[token] > 0:
            chance = min(1.0, float(q[token] / p[token]))
        else:  # the target never says it: whatever drafts it counts as likelier
            chance = float(q[token] > 0)
        scores["accept_chance"].append(chance)
        scores["argmax_hit"].append(float(likeliest == token))
        scores["entropy"].append(float(-(q[q > 0] * q[q > 0].log()).sum()))
        scores["total_variation"].append(float((drafted - p).abs().sum() / 2))
        scores["token_rank"].append(float((draft[place] > draft[place, token]).sum()))
    return scores


@pytest.mark.parametrize(("sampling", "draft_sampling"), SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["crop", "sliding and full"])
def test_scores_are_those_of_full_distributions(
    kind: str, sampling: Sampling, draft_sampling: DraftSampling
):
    """In a ragged batch, each number equals its definition on an answer read alone."""
    target, draft = cached(kind), cached(kind, seed=1)
    drafter = Drafter(draft_sampling=draft_sampling, model=draft)
    answers = ragged_answers()
    for answer, scored in zip(
        answers, score_batch(target, [drafter], answers, sampling), strict=True
    ):
        expected = naive_draft_scores(
            logits_along(target, answer),
            logits_along(draft, answer),
            answer.token_ids,
            sampling,
            draft_sampling,
        )
        for name, values in expected.items():
            found = list(getattr(scored.drafts[0], name))

            assert values == pytest.approx(found, abs=2e-5), name


@pytest.mark.parametrize("sampling", [GREEDY, NUCLEUS], ids=str)
def test_the_target_along_an_answer_is_its_own_distribution(sampling: Sampling):
    """Entropy, log-probability and its variance, and the rank, from full distributions."""
    target, answers = cached("crop"), ragged_answers()
    for answer, scored in zip(answers, score_batch(target, [], answers, sampling), strict=True):
        logits = logits_along(target, answer)
        probs, tokens = distribution(logits, sampling), torch.tensor(answer.token_ids)[:, None]
        surprise = -probs.log().masked_fill(probs == 0, 0.0)
        entropy = (probs * surprise).sum(-1)
        variance = (probs * (surprise - entropy[:, None]) ** 2).sum(-1)
        along = scored.target

        torch.testing.assert_close(entropy, along.entropy, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(variance, along.log_prob_variance, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(
            probs.gather(1, tokens)[:, 0], along.log_prob.exp(), atol=1e-5, rtol=1e-3
        )
        assert (logits > logits.gather(1, tokens)).sum(-1).tolist() == along.token_rank.tolist()


@pytest.mark.parametrize("kind", tiny_models.ALL)
def test_many_chunks_say_what_one_chunk_says(kind: str, monkeypatch: pytest.MonkeyPatch):
    """Every cache kind goes on where the chunk before it ended, and prompts are read in parts."""
    answers = ragged_answers()
    whole = scored_beside(kind, answers)
    monkeypatch.setattr(teacher, "LOGIT_BYTES", 4 * tiny_models.VOCAB * len(answers) * 3)
    monkeypatch.setattr(batch, "PREFILL_ROWS", 2 * len(answers))
    for one, other in zip(whole, scored_beside(kind, answers), strict=True):
        torch.testing.assert_close(one.target.log_prob, other.target.log_prob, atol=1e-3, rtol=1e-3)
        for name in DRAFT_FIELDS:
            first, second = (list(getattr(each.drafts[0], name)) for each in (one, other))

            assert first == pytest.approx(second, abs=1e-3), name


def scored_beside(kind: str, answers: Sequence[Finished]) -> list[Scored]:
    drafter = Drafter(draft_sampling=DraftSampling.PROBABILISTIC, model=cached(kind, seed=1))
    return score_batch(cached(kind), [drafter], answers, Sampling(temperature=1.0))


@pytest.mark.parametrize("sampling", [Sampling(temperature=1.0), NUCLEUS], ids=str)
def test_a_target_that_drafts_for_itself_is_always_accepted(sampling: Sampling):
    """Where the emitted token can be drawn, the chance is 1; the distance is 0 everywhere."""
    target, answers = cached("crop"), ragged_answers()
    drafter = Drafter(draft_sampling=DraftSampling.PROBABILISTIC, model=target)
    for scored in score_batch(target, [drafter], answers, sampling):
        drawable = scored.target.log_prob.isfinite().float().tolist()
        own = scored.drafts[0]

        assert drawable == list(own.accept_chance)
        assert [0.0] * len(drawable) == pytest.approx(list(own.total_variation), abs=1e-5)


def test_a_greedy_targets_own_answer_is_all_hits():
    """Scored on what it says itself, the target has rank 0 and every draft is kept."""
    target = cached("crop")
    answer = greedy_answer(target, list(range(9)))
    drafter = Drafter(draft_sampling=DraftSampling.PROBABILISTIC, model=target)
    scored = score_batch(target, [drafter], [answer], GREEDY)[0]

    assert [0] * 20 == scored.target.token_rank.tolist()
    assert array("f", [1.0] * 20) == scored.drafts[0].accept_chance


def greedy_answer(target: CachedCausalLM, context: list[int]) -> Finished:
    decoder = Decoder(
        target=target, sampling=GREEDY, generator=torch.Generator(), clock=FakeClock(), device=CPU
    )
    decoded = decoder.decode(None, context, Stopping(max_new_tokens=20, eos_ids=frozenset()))
    return Finished(context_ids=context, token_ids=decoded.token_ids)


def test_no_chunk_of_logits_passes_the_limit(monkeypatch: pytest.MonkeyPatch):
    """Outside the prompt, each pass makes at most LOGIT_BYTES; inside it, one row a sequence."""
    answers, sizes = ragged_answers(), []
    read_whole = batch.forward_batch

    def weighed(*given: object, num_kept: int | None = None, **named: object) -> batch.Read:
        read = read_whole(*given, num_kept=num_kept, **named)  # type: ignore[arg-type]
        sizes.append((num_kept, read.logits.numel() * 4))
        return read

    limit = 4 * tiny_models.VOCAB * len(answers) * 5
    monkeypatch.setattr(teacher, "LOGIT_BYTES", limit)
    monkeypatch.setattr(batch, "forward_batch", weighed)
    scored_beside("crop", answers)
    unwanted = [size for num_kept, size in sizes if num_kept is not None]
    wanted = [size for num_kept, size in sizes if num_kept is None]

    assert [4 * tiny_models.VOCAB * len(answers)] * 2 == unwanted
    assert limit == max(wanted)
    assert len(wanted) > 10


@pytest.mark.parametrize("broken", ["target", "draft"])
def test_nan_names_the_model_that_made_it(broken: str):
    """No score is made of NaN."""
    models = {"target": cached("crop"), "draft": cached("crop", seed=1)}
    torch.nn.init.constant_(models[broken].model.get_output_embeddings().weight, torch.nan)
    drafter = Drafter(draft_sampling=DraftSampling.PROBABILISTIC, model=models["draft"])

    with pytest.raises(BrokenLogits, match=f"the {broken}'s logits hold NaN"):
        score_batch(models["target"], [drafter], ragged_answers(), GREEDY)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_a_lookup_finds_what_it_finds_in_the_loop(k: int):
    """At the start of every real block: as many drafts, as many of them kept."""
    target = TableModel(random_table(5, seed=2))
    num_drafts, num_kept = [], []
    for first in range(5):
        decoder = Decoder(
            target=target,
            sampling=Sampling(temperature=0.7),
            generator=torch.Generator().manual_seed(first),
            clock=FakeClock(),
            device=CPU,
        )
        stopping = Stopping(max_new_tokens=60, eos_ids=frozenset(), num_speculative_tokens=k)
        decoded = decoder.decode(lookup(), [first, 0, 1, 2, 0, 1], stopping)
        answer = Finished(context_ids=[first, 0, 1, 2, 0, 1], token_ids=decoded.token_ids)
        scores, place = score_lookup(lookup(), answer, most=k), 1
        for block in decoded.blocks[1:]:
            room = min(k, 60 - place - 1)
            drafts = min(room, scores.num_drafts[place])
            num_drafts.append((drafts, block.num_draft_tokens))
            num_kept.append((min(drafts, scores.num_matching[place]), block.num_accepted_tokens))
            place += block.num_emitted_tokens

    assert [real for _, real in num_drafts] == [found for found, _ in num_drafts]
    assert [real for _, real in num_kept] == [found for found, _ in num_kept]
    assert sum(real for _, real in num_kept) > 50


def lookup() -> NgramProposer:
    return NgramProposer(max_ngram=3, min_ngram=1, device=CPU)


def test_the_prefill_drafts_nothing_in_a_lookup():
    """The first token is the target's, even where the prompt repeats itself."""
    scores = score_lookup(lookup(), Finished(context_ids=[1, 2, 1], token_ids=[2, 1, 2]), most=2)

    assert [0, 2, 2] == list(scores.num_drafts)
    assert [0, 2, 1] == list(scores.num_matching)


NUM_HEADS = 3


def some_heads(seed: int = 0) -> MedusaHeads:
    """Heads that are not far from the tiny targets' own, so that some drafts are right."""
    torch.manual_seed(seed)
    heads = MedusaHeads(hidden_size=32, vocab_size=tiny_models.VOCAB, num_heads=3, num_layers=1)
    for weight in heads.parameters():
        torch.nn.init.normal_(weight, std=0.25)
    return heads.eval()


def drafting_heads(
    draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC, num_heads: int = NUM_HEADS
) -> Drafter:
    heads = some_heads()
    own = Heads(num_heads=num_heads, read=lambda states: heads(states, num_heads))
    return Drafter(draft_sampling=draft_sampling, heads=own)


@torch.inference_mode()
def states_along(model: CachedCausalLM, answer: Finished) -> Tensor:
    """What goes into the output head for each token [T, D], by one pass without a cache."""
    ids = torch.tensor([[*answer.context_ids, *answer.token_ids]])
    output = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
    return output.hidden_states[-1][0, len(answer.context_ids) - 1 : -1]


@torch.inference_mode()
def naive_head_scores(
    target: CachedCausalLM,
    answer: Finished,
    sampling: Sampling,
    draft_sampling: DraftSampling,
) -> tuple[list[int], list[float]]:
    """Block by block, head by head, from full distributions, as the definitions have it."""
    ids, states = answer.token_ids, states_along(target, answer)
    probs, heads = distribution(logits_along(target, answer), sampling), some_heads()
    is_point = sampling.is_greedy or draft_sampling is DraftSampling.GREEDY
    ranks, chances = [], []
    for start in range(len(ids)):
        for head in range(NUM_HEADS):
            place = start + head
            if start == 0 or place >= len(ids):
                ranks.append(-1)
                chances.append(0.0)
                continue
            logits = heads(states[start - 1])[head]
            order = sorted(range(len(logits)), key=lambda one: (-float(logits[one]), one))
            ranks.append(order.index(ids[place]))
            q = distribution(logits[None], sampling)[0, ids[place]]
            p = probs[place, ids[place]]
            likely = min(1.0, float(q / p)) if p > 0 else float(q > 0)
            chances.append(float(ranks[-1] == 0) if is_point else likely)
    return ranks, chances


@pytest.mark.parametrize(("sampling", "draft_sampling"), SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["crop", "crop, learnt positions", "sliding and full"])
def test_heads_are_scored_from_the_state_before_the_block(
    kind: str, sampling: Sampling, draft_sampling: DraftSampling
):
    """In a ragged batch, ranks and chances equal their definitions on an answer read alone."""
    target, answers = cached(kind), ragged_answers()
    found = score_batch(target, [drafting_heads(draft_sampling)], answers, sampling)
    for answer, scored in zip(answers, found, strict=True):
        ranks, chances = naive_head_scores(target, answer, sampling, draft_sampling)

        assert NUM_HEADS == scored.drafts[0].num_heads
        assert ranks == list(scored.drafts[0].rank)
        assert chances == pytest.approx(list(scored.drafts[0].accept_chance), abs=2e-5)


@pytest.mark.parametrize("kind", tiny_models.ALL)
def test_heads_see_no_chunks(kind: str, monkeypatch: pytest.MonkeyPatch):
    """One row a pass and one state at a time give the numbers of one chunk, beside other drafts."""
    answers, sampling = ragged_answers(), Sampling(temperature=1.0)
    drafters = [
        Drafter(draft_sampling=DraftSampling.PROBABILISTIC, model=cached(kind, seed=1)),
        drafting_heads(),
    ]
    whole = score_batch(cached(kind), drafters, answers, sampling)
    monkeypatch.setattr(teacher, "LOGIT_BYTES", 4 * tiny_models.VOCAB * len(answers))
    for one, other in zip(
        whole, score_batch(cached(kind), drafters, answers, sampling), strict=True
    ):
        assert one.drafts[1].rank == other.drafts[1].rank
        assert list(one.drafts[1].accept_chance) == pytest.approx(
            list(other.drafts[1].accept_chance), abs=1e-3
        )
        assert one.drafts[0].token_rank == other.drafts[0].token_rank


def test_fewer_heads_are_the_first_ones():
    """A candidate's K cuts what is scored, not what the heads say."""
    whole, first = (
        score_batch(cached("crop"), [drafting_heads(num_heads=number)], ragged_answers(), GREEDY)
        for number in (NUM_HEADS, 2)
    )
    for one, other in zip(whole, first, strict=True):
        by_start = torch.tensor(one.drafts[0].rank).reshape(-1, NUM_HEADS)

        assert by_start[:, :2].flatten().tolist() == list(other.drafts[0].rank)


def test_no_heads_logits_pass_the_limit(monkeypatch: pytest.MonkeyPatch):
    """All heads together make at most LOGIT_BYTES at once."""
    sizes, heads = [], some_heads()

    def weighed(states: Tensor) -> Tensor:
        logits = heads(states)
        sizes.append(logits.numel() * 4)
        return logits

    limit = 4 * tiny_models.VOCAB * NUM_HEADS * 7
    monkeypatch.setattr(teacher, "LOGIT_BYTES", limit)
    drafter = Drafter(
        draft_sampling=DraftSampling.PROBABILISTIC, heads=Heads(num_heads=3, read=weighed)
    )
    score_batch(cached("crop"), [drafter], ragged_answers(), GREEDY)

    assert limit >= max(sizes)
    assert sum(len(one.token_ids) - 1 for one in ragged_answers()) == sum(sizes) * 7 // limit


def test_equal_logits_rank_by_id():
    """Rank 0 is what argmax finds, and every token has a rank of its own."""
    logits = torch.tensor([1.0, 3.0, 3.0, 0.0, 3.0]).expand(5, 5)

    assert [3, 0, 1, 4, 2] == ranks_of(logits, torch.arange(5)).tolist()
    assert 1 == int(logits[0].argmax())


def test_nan_of_heads_is_named():
    """No rank is made of NaN."""
    heads = some_heads()
    torch.nn.init.constant_(heads.lm_heads[2].weight, torch.nan)
    drafter = Drafter(
        draft_sampling=DraftSampling.PROBABILISTIC, heads=Heads(num_heads=3, read=heads)
    )

    with pytest.raises(BrokenLogits, match="the drafting head's logits hold NaN"):
        score_batch(cached("crop"), [drafter], ragged_answers(), GREEDY)


def test_a_model_whose_head_is_not_called_is_refused():
    """Heads need what goes into the output head; a model that hides it is named by its type."""
    target = cached("crop")
    output = target.model.get_output_embeddings()
    target.model.get_output_embeddings = lambda: torch.nn.Linear(32, tiny_models.VOCAB)

    assert output is not target.model.get_output_embeddings()
    with pytest.raises(UnsupportedModel, match="'llama' does not call its output head"):
        score_batch(target, [drafting_heads()], ragged_answers(), GREEDY)


def test_nothing_stays_on_the_output_head():
    """A replay leaves the target without hooks of its own."""
    target = cached("crop")
    score_batch(target, [drafting_heads()], ragged_answers(), GREEDY)

    assert not target.model.get_output_embeddings()._forward_pre_hooks
