"""Lookup pays where answers repeat what was asked, and the slices of a run show it."""

import random
from dataclasses import dataclass

import torch

from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import BASELINE, NgramPick
from specmeasure.records.trace import BlockRecord
from tests.fakes import EOS, NGRAM_4, FakeEngine, make_block, make_plan, recorded_trace

NUM_WORDS = 30


@dataclass(slots=True, kw_only=True)
class LookingUp(FakeEngine):
    """Its target repeats an edit's prompt, one word changed, and says something new in a chat."""

    def _answer(self, context, settings):  # noqa: ARG002 - the same for all
        rng = random.Random(repr(context))
        if self._prompt_ids[context].startswith("edit"):
            changed = rng.randrange(len(context))
            return (*context[:changed], 999, *context[changed + 1 :], EOS)
        return (*rng.sample(range(1, 999), NUM_WORDS), EOS)

    def _blocks(self, answer, task):
        """The real lookup along the answer."""
        proposer = NgramProposer(
            max_ngram=4, min_ngram=2, pick=NgramPick.EARLIEST, device=torch.device("cpu")
        )
        proposer.begin(task.context)
        proposer.commit(0, answer[0])
        yield make_block(0, 0, draft_s=0.0)
        place = 1
        while place < len(answer):
            most = min(task.arm.num_speculative_tokens, len(answer) - place - 1)
            drafts = proposer.propose(most).tokens.tolist() if most > 0 else []
            kept = next(
                (i for i, one in enumerate(drafts) if one != answer[place + i]), len(drafts)
            )
            yield self._block(task, place, len(drafts), kept)
            proposer.commit(kept if drafts else 0, answer[place + kept])
            place += kept + 1

    def _block(self, task, place, num_drafts, num_kept) -> BlockRecord:
        return BlockRecord(
            num_draft_tokens=num_drafts,
            num_accepted_tokens=num_kept,
            num_emitted_tokens=num_kept + 1,
            context_length=len(task.context) + place - 1,
            draft_s=0.0,
            verify_s=task.step_s,
        )


def prompts() -> list[Prompt]:
    """Edits and chats, words of their own in each."""
    return [
        Prompt(
            prompt_id=f"{category}-{place}",
            category=category,
            source=f"prompts.jsonl:{2 * place + is_chat + 1}",
            text=" ".join(f"{category}{place}word{n}" for n in range(NUM_WORDS)),
        )
        for place in range(8)
        for is_chat, category in enumerate(("edit", "chat"))
    ]


def test_slices_show_where_lookup_pays():
    """Edits copy their prompts and keep nearly all drafts; chats repeat nothing and get none."""
    plan = make_plan(BASELINE, NGRAM_4)
    trace = recorded_trace(LookingUp(plan=plan), prompts())
    arm = estimate(trace, Intervals()).arms[0]
    slices = {one.name: one for one in arm.slices if one.axis == "category"}
    drafted = {
        category: sum(
            block.num_draft_tokens
            for one in trace.trials
            if one.category == category
            for block in one.blocks
        )
        for category in slices
    }

    assert {"edit", "chat"} == set(slices)
    assert slices["edit"].draft_acceptance_rate.low > 0.8
    assert slices["edit"].mean_acceptance_length.low > 3
    assert drafted["edit"] > 8 * NUM_WORDS / 2
    assert 0 == drafted["chat"]
