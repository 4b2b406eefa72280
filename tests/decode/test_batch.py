"""Answers in batches are the answers of one-by-one decoding."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from specmeasure import demo
from specmeasure.corpus import load_corpus
from specmeasure.decode.batch import Generated, Request, generate_batched
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping, StopTexts
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.models import LoadedModels
from specmeasure.engines.transformers import eos_ids
from specmeasure.errors import BrokenLogits
from specmeasure.records.plan import BASELINE, GREEDY, ModelOptions, Plan, Sampling
from specmeasure.records.trace import FinishReason
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock

CPU = torch.device("cpu")
EOS = 5
SAMPLED = Sampling(temperature=1.0, top_p=0.95)


def cached(kind: str) -> CachedCausalLM:
    return CachedCausalLM(tiny_models.ALL[kind](), vocab_size=tiny_models.VOCAB)


def ragged_requests(num: int = 9) -> list[Request]:
    """Contexts of 3 to 39 tokens in no order, budgets of 4 and more."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, 40, (num,), generator=generator).tolist()
    return [
        Request(
            context_ids=torch.randint(tiny_models.VOCAB, (length,), generator=generator).tolist(),
            stopping=Stopping(max_new_tokens=4 + 3 * place, eos_ids=frozenset([EOS])),
            seed=place,
        )
        for place, length in enumerate(lengths)
    ]


def one_by_one(model: CachedCausalLM, requests: Sequence[Request]) -> list[Generated]:
    """The loop that real runs decode with."""
    decoder = Decoder(
        target=model, sampling=GREEDY, generator=torch.Generator(), clock=FakeClock(), device=CPU
    )
    decoded = [decoder.decode(None, one.context_ids, one.stopping) for one in requests]
    return [Generated(token_ids=one.token_ids, finish_reason=one.finish_reason) for one in decoded]


def batched(
    model: CachedCausalLM, requests: Sequence[Request], size: int, sampling: Sampling = GREEDY
) -> list[Generated]:
    answers = dict(generate_batched(model, requests, sampling, batch_size=size))
    return [answers[place] for place in range(len(requests))]


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("kind", tiny_models.ALL)
def test_a_ragged_batch_answers_as_one_by_one(kind: str, size: int):
    """Every cache kind, every batch size: the same tokens and the same reasons to stop."""
    model, requests = cached(kind), ragged_requests()

    assert one_by_one(model, requests) == batched(model, requests, size)


@pytest.mark.slow
def test_the_embedded_target_answers_as_one_by_one():
    """On shipped prompts of all files, token for token in float32, whatever the batch size."""
    model, requests = embedded_requests()
    expected = one_by_one(model, requests)

    assert expected == batched(model, requests, 1)
    assert expected == batched(model, requests, 3)
    assert expected == batched(model, requests, 16)


def embedded_requests() -> tuple[CachedCausalLM, list[Request]]:
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE,),
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )
    models = LoadedModels.load(plan, most_threads=1)
    chat = ChatTokenizer(models.tokenizer)
    prompts = load_corpus(["prompts/"]).prompts
    stopping = Stopping(max_new_tokens=24, eos_ids=eos_ids(models.target.model, models.tokenizer))
    return models.target, [
        Request(context_ids=chat.context_ids(prompt, []), stopping=stopping, seed=place)
        for place, prompt in enumerate(prompts[:: len(prompts) // 24][:24])
    ]


@pytest.mark.parametrize("size", [1, 3, 4, 9, 16])
@pytest.mark.parametrize("kind", ["crop", "sliding", "convolution"])
def test_every_request_is_answered_once(kind: str, size: int):
    """More requests than places: none is lost, none is answered twice."""
    found = [
        place
        for place, _ in generate_batched(cached(kind), ragged_requests(), GREEDY, batch_size=size)
    ]

    assert list(range(9)) == sorted(found)


def test_no_request_no_answer():
    """Nothing asked, nothing said."""
    assert [] == batched(cached("crop"), [], 4)


@pytest.mark.parametrize("kind", ["crop", "crop, learnt positions", "sliding"])
def test_a_seed_decides_a_sample_whoever_sits_beside_it(kind: str):
    """Alone, among others or in another order: the same tokens from the same seed."""
    model, requests = cached(kind), ragged_requests()
    alone = [batched(model, [one], 1, SAMPLED)[0] for one in requests]
    beside = batched(model, requests, 4, SAMPLED)
    backwards = batched(model, requests[::-1], 16, SAMPLED)[::-1]

    assert alone == beside
    assert alone == backwards


def test_other_seeds_other_samples():
    """Requests that differ in their seeds alone are not answered alike."""
    context = ragged_requests()[0].context_ids
    stopping = Stopping(max_new_tokens=20, eos_ids=frozenset())
    requests = [Request(context_ids=context, stopping=stopping, seed=seed) for seed in range(5)]

    assert 5 == len({one.token_ids for one in batched(cached("crop"), requests, 5, SAMPLED)})


def test_an_answer_ends_with_its_first_end_token():
    """An end-of-sequence token is the last one, and says so; else the budget is spent exactly."""
    requests = ragged_requests()
    answers = batched(cached("crop"), requests, 3)

    assert {FinishReason.EOS, FinishReason.BUDGET} == {one.finish_reason for one in answers}
    for request, answer in zip(requests, answers, strict=True):
        if answer.finish_reason is FinishReason.EOS:
            assert len(answer.token_ids) - 1 == answer.token_ids.index(EOS)
        else:
            assert request.stopping.max_new_tokens == len(answer.token_ids)
            assert EOS not in answer.token_ids


def test_a_stop_text_ends_its_own_answer_alone():
    """One request's stop text leaves its neighbours as they were."""
    model, requests = cached("crop"), ragged_requests()
    plain = batched(model, requests, 16)
    said = plain[8].token_ids
    texts = StopTexts(texts=(f" {said[6]} ",), detokenise=spelled)
    stopped = replace(requests[8], stopping=replace(requests[8].stopping, stop_texts=texts))
    answers = batched(model, [*requests[:8], stopped], 16)

    assert plain[:8] == answers[:8]
    assert said[: said.index(said[6]) + 1] == answers[8].token_ids
    assert FinishReason.STOP == answers[8].finish_reason


def spelled(token_ids: Sequence[int]) -> str:
    return "".join(f" {token} " for token in token_ids)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=str)
def test_nan_is_an_error_not_a_token(sampling: Sampling):
    """A broken model says nothing; the message names the dtype that helps."""
    model = cached("crop")
    torch.nn.init.constant_(model.model.get_output_embeddings().weight, torch.nan)

    with pytest.raises(BrokenLogits, match="--dtype float32"):
        batched(model, ragged_requests(), 4, sampling)
