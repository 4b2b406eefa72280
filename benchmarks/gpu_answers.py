"""Whole answers: our loop against transformers' generate, with drafts that are accepted alike.

A random draft model is never right. It drafts all the same, and what it costs counts; but what is
verified is the target's own answer, known beforehand, with a stated share of wrong tokens.
"""

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_passes import (
    EAGER,
    Capture,
    Model,
    Pair,
    Timed,
    interleaved,
    passes,
    prepare,
    prompt_of,
    read_prompt,
)
from specmeasure.decode.clock import clock_for
from specmeasure.decode.loop import Decoded, Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.records.plan import GREEDY
from specmeasure.records.trace import BlockRecord
from specmeasure.speculate.proposal import Proposal, Proposer

GENERATE, ASSISTED = "transformers' generate", "transformers' assisted generate"
PLAIN, SPECULATIVE = "plain", "speculative"
TARGET_PASS, VERIFY_PASS, DRAFT_PASS = "target pass", "verifying pass", "draft pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One way to the same answer, over all rounds."""

    way: str
    num_tokens: int  # of each answer
    num_target_passes: int  # of each, the prefill included
    seconds: float  # of an answer with its prefill, median over rounds

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What the loop takes beside the models' passes, prefill excluded."""

    way: str
    decode_s: float  # of an answer, median over rounds
    passes_s: float  # of its passes, each timed alone in the same rounds

    @property
    def share(self) -> float:
        """Of decoding.

        Formula: 1 − seconds of the passes / seconds of decoding
        """
        return 1 - self.passes_s / self.decode_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All ways, interleaved."""

    num_prompt_tokens: int
    num_speculative_tokens: int
    wrong_share: float  # of the drafts, as they were made up
    num_draft_tokens: int  # of our speculative answer
    num_accepted_tokens: int
    answered: Sequence[Answered]
    overheads: Sequence[Overhead]
    captures: Mapping[str, Capture]  # before the answers, by model

    def rate(self, way: str) -> float:
        """Tokens per second."""
        return next(one.tokens_per_s for one in self.answered if one.way == way)


class ReplayedDrafts:
    """Drafts with a proposer, and proposes a script's tokens instead.

    Args:
        proposer: its costs are real.
        script: [T] for each place of the answer what is drafted for it, on the device.
    """

    def __init__(self, proposer: Proposer, script: Tensor) -> None:
        self._proposer = proposer
        self._script = script
        self._place = 0

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Start the script over."""
        self._proposer.begin(prompt_ids)
        self._place = 0

    def propose(self, num_tokens: int) -> Proposal:
        """As many as the proposer has."""
        num_drafts = self._proposer.propose(num_tokens).num_tokens
        return Proposal(tokens=self._script[self._place : self._place + num_drafts])

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Go on behind what was emitted."""
        self._proposer.commit(num_accepted, next_token)
        self._place += num_accepted + 1


def scripted(answer: Sequence[int], wrong_share: float, vocab_size: int, *, seed: int) -> list[int]:
    """The answer with some tokens replaced by their neighbours, each with this chance."""
    rng = random.Random(seed)
    return [(token + 2) % vocab_size if rng.random() < wrong_share else token for token in answer]


@contextmanager
def replaying(model: Any, script: Tensor, num_prompt_tokens: int) -> Iterator[None]:
    """Meanwhile transformers' assistant drafts, and the script's tokens are verified instead."""
    made = type(model)._get_candidate_generator  # noqa: SLF001 - there is no public hook

    def make(**asked: Any) -> Any:
        generator = made(model, **asked)
        drafted = generator.get_candidates

        def replay(input_ids: Tensor, **more: Any) -> tuple[Tensor, None]:
            drafts, _ = drafted(input_ids, **more)
            place = input_ids.shape[1] - num_prompt_tokens
            num_drafts = drafts.shape[1] - input_ids.shape[1]
            told = script[place : place + num_drafts]
            return torch.cat([input_ids, told[None]], dim=1), None

        generator.get_candidates = replay
        return generator

    model._get_candidate_generator = make  # noqa: SLF001 - likewise
    try:
        yield
    finally:
        del model._get_candidate_generator  # noqa: SLF001 - likewise


class Contest:
    """All ways to answer one prompt, and what each took."""

    def __init__(self, pair: Pair, *, wrong_share: float) -> None:
        size = pair.size
        self.pair = pair
        self.clock = clock_for(pair.device)
        self.prompt = prompt_of(size.num_prompt_tokens, size)
        last = size.num_prompt_tokens + size.num_new_tokens
        rows = range(1, size.num_speculative_tokens + 2)
        first = size.num_prompt_tokens + 1
        self.captures = {
            "target": prepare(pair.static_target, rows, first=first, last=last),
            "draft": prepare(pair.static_draft, (1, 2), first=first, last=last),
        }
        self.answer = self.ours(pair.static_target, None).token_ids
        script = scripted(self.answer, wrong_share, size.vocab_size, seed=1)
        self.script = torch.tensor(script, device=pair.device)

    def ours(self, target: Model, draft: Model | None) -> Decoded:
        """The answer out of our loop; with a draft, by the script."""
        device, size = self.pair.device, self.pair.size
        generator = torch.Generator(device)
        proposer = None
        if draft is not None:
            own = DraftModelProposer(draft, GREEDY, generator=generator, device=device)
            proposer = ReplayedDrafts(own, self.script)
        decoder = Decoder(
            target=target, sampling=GREEDY, generator=generator, clock=self.clock, device=device
        )
        stopping = Stopping(
            max_new_tokens=size.num_new_tokens,
            eos_ids=frozenset(),
            num_speculative_tokens=size.num_speculative_tokens,
        )
        return decoder.decode(proposer, self.prompt, stopping)

    def theirs(self, *, assisted: bool) -> tuple[tuple[int, ...], int]:
        """The answer out of transformers, and the number of its target passes."""
        target, draft = self.pair.target.model, self.pair.draft.model
        ids = torch.tensor([self.prompt], device=self.pair.device)
        num_passes = 0

        def count(*_: object) -> None:
            nonlocal num_passes
            num_passes += 1

        more = {}
        if assisted:
            settings = draft.generation_config
            settings.num_assistant_tokens = self.pair.size.num_speculative_tokens
            settings.num_assistant_tokens_schedule = "constant"
            settings.assistant_confidence_threshold = 0.0
            more = {"assistant_model": draft}
        hook = target.register_forward_pre_hook(count)
        with replaying(target, self.script, len(self.prompt)):
            whole = target.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.pair.size.num_new_tokens,
                do_sample=False,
                **more,
            )
        hook.remove()
        return tuple(whole[0, len(self.prompt) :].tolist()), num_passes


@torch.inference_mode()
def time_answers(pair: Pair, *, wrong_share: float, num_rounds: int, num_runs: int) -> Answers:
    """Every way in every round, in an order that goes round; passes alone in the same rounds.

    Raises:
        RuntimeError: two ways gave two answers.
    """
    contest = Contest(pair, wrong_share=wrong_share)
    ways = _ways(contest)
    taken = interleaved({**ways, **_passes_alone(contest, num_runs)}, num_rounds)
    blocks = ways[SPECULATIVE].last.blocks
    return Answers(
        num_prompt_tokens=len(contest.prompt),
        num_speculative_tokens=pair.size.num_speculative_tokens,
        wrong_share=wrong_share,
        num_draft_tokens=sum(one.num_draft_tokens for one in blocks),
        num_accepted_tokens=sum(one.num_accepted_tokens for one in blocks),
        answered=[
            Answered(
                way=name,
                num_tokens=len(way.last.token_ids),
                num_target_passes=way.last.num_target_passes,
                seconds=taken[name],
            )
            for name, way in ways.items()
        ],
        overheads=[
            Overhead(
                way=name,
                decode_s=statistics.median(ways[name].decode_s[1:]),  # the first warms up
                passes_s=_seconds_of_passes(ways[name].last, taken),
            )
            for name in (PLAIN, SPECULATIVE)
        ],
        captures=contest.captures,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One answer."""

    token_ids: tuple[int, ...]
    num_target_passes: int
    blocks: Sequence[BlockRecord] = ()  # of our loop
    decode_s: float = 0.0  # likewise


class _Way:
    """A way to answer, timed as a whole. Its last answer, and decoding seconds of all of them."""

    def __init__(self, name: str, contest: Contest, answer: Callable[[], _Seen]) -> None:
        self.last = _Seen(token_ids=(), num_target_passes=0)
        self.decode_s: list[float] = []
        self._name = name
        self._contest = contest
        self._answer = answer

    def __call__(self) -> float:
        clock = self._contest.clock
        begun = clock.mark()
        self.last = self._answer()
        seconds = clock.seconds(begun, clock.mark())
        self.decode_s.append(self.last.decode_s)
        if self.last.token_ids != self._contest.answer:
            raise RuntimeError(f"{self._name}: another answer than that of {PLAIN!r}")
        return seconds


def _ways(contest: Contest) -> dict[str, _Way]:
    pair = contest.pair

    def ours(target: Model, draft: Model | None) -> _Seen:
        decoded = contest.ours(target, draft)
        return _Seen(
            token_ids=decoded.token_ids,
            num_target_passes=len(decoded.blocks),
            blocks=decoded.blocks,
            decode_s=decoded.decode_s,
        )

    def theirs(*, assisted: bool) -> _Seen:
        token_ids, num_passes = contest.theirs(assisted=assisted)
        return _Seen(token_ids=token_ids, num_target_passes=num_passes)

    answers = {
        PLAIN: partial(ours, pair.static_target, None),
        SPECULATIVE: partial(ours, pair.static_target, pair.static_draft),
        f"{PLAIN}, {EAGER}": partial(ours, pair.target, None),
        f"{SPECULATIVE}, {EAGER}": partial(ours, pair.target, pair.draft),
        GENERATE: partial(theirs, assisted=False),
        ASSISTED: partial(theirs, assisted=True),
    }
    return {name: _Way(name, contest, answer) for name, answer in answers.items()}


def _passes_alone(contest: Contest, num_runs: int) -> dict[str, Timed]:
    """Passes in the middle of the answer."""
    pair, size = contest.pair, contest.pair.size
    middle = size.num_prompt_tokens + size.num_new_tokens // 2

    def after_prompt(model: Model, num_rows: int) -> Timed:
        once = passes(model, num_rows, num_runs)

        def run() -> float:
            read_prompt(model, middle, size)
            return once()

        return run

    return {
        TARGET_PASS: after_prompt(pair.static_target, 1),
        VERIFY_PASS: after_prompt(pair.static_target, 1 + size.num_speculative_tokens),
        DRAFT_PASS: after_prompt(pair.static_draft, 1),
    }


def _seconds_of_passes(seen: _Seen, pass_s: Mapping[str, float]) -> float:
    """A block with drafts counts as one with all of them, and each draft as a pass of its own."""
    return sum(
        pass_s[VERIFY_PASS] + block.num_draft_tokens * pass_s[DRAFT_PASS]
        if block.num_draft_tokens
        else pass_s[TARGET_PASS]
        for block in seen.blocks[1:]
    )
