import dataclasses
import math

import pytest
import torch
import transformers as hf
from torch.nn import functional

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.teacher import Finished
from specmeasure.engines import head_examples, heads_training
from specmeasure.engines.head_checkpoints import load_checkpoint, save_checkpoint
from specmeasure.engines.head_examples import NO_TOKEN, batches_of, epoch_order
from specmeasure.engines.heads_training import HeadTrainer, untrained_heads
from specmeasure.errors import BrokenLogits, UnsupportedModel, UsageError
from specmeasure.records.heads_training import HeadSettings

VOCAB = 32
QUICK = HeadSettings(num_heads=3, num_epochs=20, learning_rate=1e-2, batch_size=4)
SHORT = dataclasses.replace(QUICK, num_heads=2, num_epochs=2)


def tiny_target():
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.05,
    )
    model = hf.LlamaForCausalLM(config).eval()
    return CachedCausalLM(model, vocab_size=VOCAB)


@pytest.fixture(scope="module")
def target():
    return tiny_target()


def counting(first, num_context, num_tokens, step=5):
    """A text in which every token follows from the one before it."""
    ids = [(first + step * place) % VOCAB for place in range(num_context + num_tokens)]
    return Finished(context_ids=ids[:num_context], token_ids=ids[num_context:])


TEXTS = [counting(first, 2 + first % 3, 24 + first % 5) for first in range(VOCAB) if first % 8]
HELD_OUT = [counting(first, 3, 12) for first in range(0, VOCAB, 8)]


def trainer(target, settings=QUICK, seed=0):
    return HeadTrainer(target, TEXTS, HELD_OUT, settings, seed=seed)


def trained(target, settings=QUICK, until=None, seed=0):
    new = trainer(target, settings, seed)
    for _ in range(new.num_steps if until is None else until):
        new.take_step()
    return new


def weights(one):
    return {name: weight.detach().clone() for name, weight in one.heads.named_parameters()}


def assert_same_weights(expected, actual):
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_heads_learn_a_continuation_that_is_certain(target):
    """Where every token follows from the one before, heads soon know it on unseen texts."""
    new = trainer(target)
    before = new.check(None)
    for _ in range(new.num_steps):
        new.take_step()

    after = new.check(None)
    assert all(share < 0.5 for share in before.top_1)
    assert all(share >= 0.9 for share in after.top_1)
    assert all(low <= high for low, high in zip(after.top_1, after.top_5, strict=True))


def test_the_target_stays_as_it_is():
    """Not a bit of the target changes, and it collects no gradients."""
    target = tiny_target()
    before = {name: one.clone() for name, one in target.model.state_dict().items()}
    trained(target, SHORT)

    after = target.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [None] * len(before) == [weight.grad for weight in target.model.parameters()]


def test_untrained_heads_say_what_the_target_says_next(target):
    """Every head starts as a copy of the target's output head."""
    heads = untrained_heads(target, QUICK)
    states = torch.randn(5, 24)

    expected = target.model.get_output_embeddings()(states)
    assert all(torch.allclose(expected, logits, atol=1e-6) for logits in heads(states))


def test_each_head_learns_the_token_its_place_behind(target):
    """The state that gives token i of the answer is where head h learns token i + h + 1."""
    found = head_examples.head_examples(
        target, [Finished(context_ids=[1, 2, 3], token_ids=[10, 11, 12, 13])], num_heads=2
    )

    assert [[11, 12], [12, 13], [13, NO_TOKEN]] == found.tokens.tolist()


def test_prompts_count_only_when_asked_for(target):
    """With prompts, every token from the third on is learnt."""
    found = head_examples.head_examples(
        target,
        [Finished(context_ids=[1, 2, 3], token_ids=[10, 11])],
        num_heads=2,
        with_prompts=True,
    )

    assert [[3, 10], [10, 11], [11, NO_TOKEN]] == found.tokens.tolist()


def test_states_are_those_of_one_answer_alone(target):
    """Padding beside a longer answer changes no state; they are what the output head gets."""
    short, long = counting(3, 2, 4), counting(4, 5, 20)
    beside = head_examples.head_examples(target, [short, long], num_heads=2)
    ids = torch.tensor([[*short.context_ids, *short.token_ids]])
    with torch.no_grad():
        hidden = target.model(ids, output_hidden_states=True).hidden_states[-1][0]

    assert torch.allclose(hidden[1:4], beside.states[:3], atol=1e-5)


def test_accuracy_is_that_of_a_count_by_hand(target):
    """Top-1, top-5 and nats of a check, place by place through the model's own forward."""
    new = trained(target, SHORT, until=4)
    check = new.check(1.5)
    hits, hits_5, nats, places = [0, 0], [0, 0], [0.0, 0.0], [0, 0]
    for text in HELD_OUT:
        ids = [*text.context_ids, *text.token_ids]
        with torch.no_grad():
            states = target.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
            logits = new.heads(states[0])
        for head in range(2):
            for place in range(len(text.context_ids) - 1, len(ids) - 2 - head):
                row, token = logits[head, place], ids[place + 2 + head]
                rank = int((row > row[token]).sum())
                places[head] += 1
                hits[head] += rank < 1
                hits_5[head] += rank < 5
                nats[head] -= float(row.log_softmax(-1)[token])

    assert (4, 1.5) == (check.step, check.training_loss)
    assert [h / n for h, n in zip(hits, places, strict=True)] == pytest.approx(check.top_1)
    assert [h / n for h, n in zip(hits_5, places, strict=True)] == pytest.approx(check.top_5)
    assert [h / n for h, n in zip(nats, places, strict=True)] == pytest.approx(
        check.losses, rel=1e-4
    )


def test_the_loss_is_the_papers(target):
    """The sum over heads of weight^h times the mean cross-entropy of head h."""
    new = trainer(target, SHORT)
    examples = head_examples.head_examples(target, TEXTS[:4], num_heads=2)
    logits = new.heads(examples.states)
    expected = sum(
        0.8**head
        * functional.cross_entropy(logits[head], examples.tokens[:, head], ignore_index=NO_TOKEN)
        for head in range(2)
    )

    assert float(expected.detach()) == pytest.approx(new._learn(examples), rel=1e-5)


def test_going_on_from_a_checkpoint_changes_no_bit(target, tmp_path):
    """Stopped after some steps and gone on in a new trainer: the uninterrupted weights."""
    path = tmp_path / "checkpoint.safetensors"
    whole = trained(target, SHORT)
    stopped = trained(target, SHORT, until=5)
    save_checkpoint(path, stopped, {"progress": "so far"})
    resumed = trainer(target, SHORT)
    notes = load_checkpoint(path, resumed)

    assert ({"progress": "so far"}, 5) == (notes, resumed.step)
    assert_same_weights(weights(stopped), weights(resumed))
    while resumed.step < resumed.num_steps:
        resumed.take_step()
    assert_same_weights(weights(whole), weights(resumed))


def test_states_that_are_not_kept_change_no_bit(target, monkeypatch):
    """Kept in memory or read anew each epoch, the target's states are the same."""
    kept = weights(trained(target, SHORT))
    monkeypatch.setattr(head_examples, "KEPT_BYTES", 3000)

    assert_same_weights(kept, weights(trained(target, SHORT)))


def test_logits_in_parts_give_the_same_gradients(target, monkeypatch):
    """A vocabulary too large for all places at once is read part by part."""
    expected = weights(trained(target, SHORT, until=3))
    monkeypatch.setattr(heads_training, "LOGIT_BYTES", 4 * 2 * VOCAB * 7)
    actual = weights(trained(target, SHORT, until=3))

    assert all(torch.allclose(expected[name], actual[name], atol=1e-4) for name in expected)


def test_another_seed_reads_in_another_order(target):
    """The seed decides the order of the batches, and nothing else is drawn."""
    first, again, other = (weights(trained(target, SHORT, until=4, seed=s)) for s in (0, 0, 1))

    assert_same_weights(first, again)
    assert not torch.equal(first["lm_heads.0.weight"], other["lm_heads.0.weight"])


def test_every_answer_is_read_once_an_epoch():
    """Batches hold each answer once, and an epoch holds each batch once."""
    batches = batches_of([3, 9, 4, 8, 5], 2, seed=1)

    assert [0, 1, 2, 3, 4] == sorted(place for batch in batches for place in batch)
    assert [1, 2, 2] == sorted(map(len, batches))
    assert [0, 1, 2, 3] == sorted(epoch_order(4, seed=1, epoch=3))
    orders = {tuple(epoch_order(20, seed=1, epoch=epoch)) for epoch in range(5)}
    assert 5 == len(orders)


def test_heads_without_held_out_tokens_have_no_accuracy(target):
    """Unknown is None: an answer of two tokens leaves nothing for the second head."""
    new = HeadTrainer(target, TEXTS, [counting(1, 3, 2)], SHORT, seed=0)
    check = new.check(None)

    assert check.top_1[0] is not None
    assert (None, None, None) == (check.top_1[1], check.top_5[1], check.losses[1])


def test_finished_heads_are_half_as_wide_and_the_trained_ones_stay(target):
    """What is saved is a float16 copy."""
    new = trained(target, SHORT, until=1)

    assert {torch.float16} == {weight.dtype for weight in new.halved_heads().parameters()}
    assert {torch.float32} == {weight.dtype for weight in new.heads.parameters()}


def test_a_loss_that_is_no_number_stops_the_training(target):
    """NaN is an error that says which step, not a result."""
    new = trained(target, SHORT, until=1)
    with torch.no_grad():
        new.heads.lm_heads[0].weight[0, 0] = math.nan

    with pytest.raises(BrokenLogits, match="step 2: the loss is nan"):
        new.take_step()
    assert 1 == new.step


def test_answers_too_short_for_the_last_head_are_refused(target):
    """A head that would learn nothing is an error with a remedy."""
    with pytest.raises(UsageError, match="3 heads learn from answers of 4 tokens"):
        HeadTrainer(target, [counting(1, 4, 3)], HELD_OUT, QUICK, seed=0)


def test_a_target_without_an_output_head_is_refused(target):
    """There is nothing to start from, and no state to see."""

    class Headless:
        config = target.model.config

        def get_output_embeddings(self):
            return None

    headless = CachedCausalLM.__new__(CachedCausalLM)
    headless.model = Headless()

    with pytest.raises(UnsupportedModel, match="'llama' has no output head"):
        untrained_heads(headless, QUICK)


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\0" * 64])
def test_a_damaged_checkpoint_is_refused(target, tmp_path, content):
    """The message names the file and what to do."""
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)

    with pytest.raises(UsageError, match="safetensors: not a checkpoint of these heads"):
        load_checkpoint(path, trainer(target, SHORT))


def test_a_checkpoint_of_other_heads_is_refused(target, tmp_path):
    """Three heads cannot go on where two stopped."""
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, trained(target, SHORT, until=1), {})

    with pytest.raises(UsageError, match="not a checkpoint of these heads"):
        load_checkpoint(path, trainer(target, QUICK))


def test_checks_are_spread_and_the_last_step_is_among_them(target):
    """As many checks as asked for, fewer where there are fewer steps."""
    new = trainer(target, dataclasses.replace(SHORT, num_checks=4))
    few = trainer(target, dataclasses.replace(SHORT, num_checks=1000))

    assert (4, True) == (len(new.check_steps), new.num_steps in new.check_steps)
    assert few.num_steps == len(few.check_steps)
