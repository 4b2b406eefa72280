"""Medusa heads for the embedded target, fitted in a second: they know a little of what comes."""

from pathlib import Path

import torch

from specmeasure import demo
from specmeasure.corpus.load import load_corpus
from specmeasure.decode.teacher import Finished
from specmeasure.engines.heads import save_heads
from specmeasure.engines.models import LoadedModels
from specmeasure.engines.replay import Asked, ReplayEngine
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.records.heads import HeadsLayout
from specmeasure.records.plan import BASELINE, DecodeSettings, ModelOptions, Plan

NUM_QUESTIONS = 24  # of the shipped prompts


def fit_heads(folder: Path, *, num_heads: int) -> Path:
    """Linear heads, by least squares on the target's own answers to some shipped prompts."""
    plan = Plan(target=demo.TARGET, arms=(BASELINE,), options=ModelOptions(device="cpu"))
    loaded = LoadedModels.load(plan, most_threads=1)
    along = [states_of(loaded, one) for one in answers_of(ReplayEngine(plan, loaded))]
    vocab_size = loaded.target.vocab_size
    made = MedusaHeads(
        hidden_size=along[0][0].shape[1], vocab_size=vocab_size, num_heads=num_heads, num_layers=0
    )
    for head, matrix in enumerate(made.lm_heads, start=1):
        states = torch.cat([own[: len(own) - head] for own, _ in along])
        wanted = torch.cat([tokens[head:] for _, tokens in along])
        ridge = states.T @ states
        ridge += 0.1 * torch.eye(len(ridge)) * states.square().mean()
        ahead = torch.nn.functional.one_hot(wanted, vocab_size).float()
        matrix.weight.data = 20 * torch.linalg.solve(ridge, states.T @ ahead).T.contiguous()
    save_heads(made, folder, base_model=demo.TARGET, layout=HeadsLayout.MEDUSA)
    return folder


def answers_of(engine: ReplayEngine) -> list[Finished]:
    prompts = load_corpus(["prompts/"]).prompts
    asked_texts = [
        next(message.content for message in one.messages if message.role == "user")
        for one in prompts[:: len(prompts) // NUM_QUESTIONS]
        if one.messages
    ]
    contexts = [
        engine.loaded.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in asked_texts
    ]
    asked = [
        Asked(context_ids=ids, settings=DecodeSettings(max_new_tokens=96), seed=0)
        for ids in contexts
    ]
    return [
        Finished(context_ids=contexts[place], token_ids=generated.token_ids)
        for place, generated in engine.answer(asked, batch_size=8)
    ]


@torch.inference_mode()
def states_of(loaded: LoadedModels, one: Finished) -> tuple[torch.Tensor, torch.Tensor]:
    """States [T, D] that an answer's tokens [T] were predicted from, and the tokens."""
    ids = torch.tensor([[*one.context_ids, *one.token_ids]])
    hidden = loaded.target.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    first = len(one.context_ids)
    return hidden[0, first - 1 : -1].clone(), ids[0, first:]
