"""Teacher-forced passes: how would a proposer have drafted along an answer of the target?

One pass of each model over prompts and answers; logits exist for one chunk at a time and are
reduced to a few numbers a token before the next chunk is read.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from specmeasure.decode.batch import PADDING, Chunk, Inside, Read, read_chunks
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.head_board import HeadBoard, Heads
from specmeasure.decode.probs import probs_of
from specmeasure.records.plan import DraftSampling, Sampling
from specmeasure.records.replay import DraftScores, HeadScores, LookupScores
from specmeasure.speculate.proposal import Proposer

LOGIT_BYTES = 32 * 2**20  # of one model's float32 logits at once; working copies are a few times it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One answer and what it answers."""

    context_ids: Sequence[int]
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafter:
    """What drafts beside the target: another model, or a reading of the target's own pass."""

    draft_sampling: DraftSampling
    model: CachedCausalLM | None = None
    read_target: Callable[[Read], Tensor] | None = None  # → logits [B, C, V]
    heads: Heads | None = None  # on what goes into the target's output head


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetAlong:
    """The target along one answer, [T] each, float32 on the host."""

    entropy: Tensor  # nats
    log_prob: Tensor  # of the emitted token; -inf where it cannot be drawn
    log_prob_variance: Tensor  # of the log-probability of a token that the target draws there
    token_rank: Tensor  # 0: no token was likelier


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One answer, scored."""

    target: TargetAlong
    drafts: tuple[DraftScores | HeadScores, ...]  # by drafter


@torch.inference_mode()
def score_batch(
    target: CachedCausalLM,
    drafters: Sequence[Drafter],
    answers: Sequence[Finished],
    sampling: Sampling,
) -> list[Scored]:
    """Score answers that were decoded with one sampling setting.

    Memory: ``LOGIT_BYTES`` of logits for each model and for each drafter's heads together, a few
    working copies of them, and the caches of these answers; a vocabulary of 150,000 is never held
    for a whole answer.

    Raises:
        BrokenLogits: logits held NaN.
        UnsupportedModel: heads are to be scored, and the target hides what its output head reads.
    """
    models = [target, *(one.model for one in drafters if one.model is not None)]
    longest = max(len(one.context_ids) + len(one.token_ids) for one in answers)
    ids = torch.full((len(answers), longest), PADDING)
    for row, one in enumerate(answers):
        whole = torch.tensor([*one.context_ids, *one.token_ids])
        ids[row, : len(whole)] = whole
    ids = ids.to(target.device)
    board = _Board(answers, drafters, longest, target.device)
    rows_per_chunk = max(1, LOGIT_BYTES // (4 * target.vocab_size * len(answers)))
    wanted = _inside(drafters)
    chunks = read_chunks(
        models,
        ids[:, :-1],  # nothing follows the last token
        first=min(len(one.context_ids) for one in answers) - 1,
        rows_per_chunk=rows_per_chunk,
        inside=lambda place: Inside.NOTHING if place else wanted,
    )
    for chunk in chunks:
        board.fill(chunk, ids, sampling)
    return board.scores(sampling)


def _inside(drafters: Sequence[Drafter]) -> Inside:
    """What the target's pass is read for."""
    wanted = Inside.NOTHING
    if any(one.read_target is not None for one in drafters):
        wanted |= Inside.LAYERS
    if any(one.heads is not None for one in drafters):
        wanted |= Inside.HEAD_INPUT
    return wanted


def score_lookup(proposer: Proposer, answer: Finished, *, most: int) -> LookupScores:
    """What a proposer without chance would have drafted for a block at every token.

    It is told the answer token by token, so that it knows at each place exactly what it would know
    in the loop.
    """
    num_drafts, num_matching = array("h"), array("h")
    ids = list(answer.token_ids)
    proposer.begin(answer.context_ids)
    for place, token in enumerate(ids):
        drafts = proposer.propose(most).tokens.tolist() if place else []  # the prefill has none
        wanted = ids[place : place + len(drafts)]
        agree = [one == other for one, other in zip(drafts, wanted, strict=False)]
        num_drafts.append(len(drafts))
        num_matching.append(agree.index(False) if False in agree else len(agree))
        proposer.commit(0, token)
    return LookupScores(num_drafts=num_drafts, num_matching=num_matching)


class _Board:
    """Numbers of all answers while chunks come in: [B, T] each, on the host."""

    def __init__(
        self,
        answers: Sequence[Finished],
        drafters: Sequence[Drafter],
        longest: int,
        device: torch.device,
    ) -> None:
        self._lengths = [len(one.token_ids) for one in answers]
        first = torch.tensor([len(one.context_ids) for one in answers], device=device)
        self._place = torch.arange(longest, device=device) - first[:, None]  # in the answer
        self._lengths_on_device = torch.tensor(self._lengths, device=device)
        shape = (len(answers), max(self._lengths))
        self._target = {name: torch.zeros(shape) for name in TargetAlong.__dataclass_fields__}
        token_ids = [one.token_ids for one in answers]
        self._drafts: list[_DraftBoard | HeadBoard] = [
            _DraftBoard(one, shape)
            if one.heads is None
            else HeadBoard(one.heads, token_ids, one.draft_sampling, device)
            for one in drafters
        ]

    def fill(self, chunk: Chunk, ids: Tensor, sampling: Sampling) -> None:
        num_rows = chunk.reads[0].logits.shape[1]
        predicted = slice(chunk.start + 1, chunk.start + 1 + num_rows)
        place = self._place[:, predicted]
        inside = (place >= 0) & (place < self._lengths_on_device[:, None])  # [B, C]
        at = (inside.nonzero()[:, 0].cpu(), place[inside].cpu())
        tokens = ids[:, predicted][inside]  # [N]
        logits = chunk.reads[0].logits[inside].float()  # [N, V]
        target_probs = probs_of(logits, sampling, "target")
        _put(self._target, at, _target_along(logits, target_probs, tokens))
        reads = iter(chunk.reads[1:])
        for board in self._drafts:
            if isinstance(board, HeadBoard):
                board.fill(chunk.reads[0], place, sampling, most_logits=LOGIT_BYTES // 4)
                continue
            reader = board.drafter.read_target
            drafted = reader(chunk.reads[0]) if reader else next(reads).logits
            scored = _draft_along(
                drafted[inside].to(logits.device).float(),
                target_probs,
                tokens,
                sampling,
                board.drafter.draft_sampling,
            )
            _put(board.values, at, scored)

    def scores(self, sampling: Sampling) -> list[Scored]:
        along = [
            TargetAlong(**{name: whole[row, :length] for name, whole in self._target.items()})
            for row, length in enumerate(self._lengths)
        ]
        return [
            Scored(
                target=target,
                drafts=tuple(
                    board.scores(row, target.log_prob.exp(), sampling)
                    if isinstance(board, HeadBoard)
                    else _as_scores(board.values, row, self._lengths[row])
                    for board in self._drafts
                ),
            )
            for row, target in enumerate(along)
        ]


class _DraftBoard:
    """One drafter's numbers, [B, T] each."""

    def __init__(self, drafter: Drafter, shape: tuple[int, int]) -> None:
        self.drafter = drafter
        self.values = {name: torch.zeros(shape) for name in DraftScores.__dataclass_fields__}


def _target_along(logits: Tensor, probs: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    log_probs = probs.log()
    drawable = log_probs.masked_fill(probs == 0, 0.0)  # 0 · log 0 counts nothing
    entropy = -(probs * drawable).sum(-1)
    variance = (probs * drawable.square()).sum(-1) - entropy.square()
    return {
        "entropy": entropy,
        "log_prob": log_probs.gather(1, tokens[:, None])[:, 0],
        "log_prob_variance": variance.clamp_min(0),
        "token_rank": _rank(logits, tokens),
    }


def _draft_along(
    logits: Tensor,
    target_probs: Tensor,
    tokens: Tensor,
    sampling: Sampling,
    draft_sampling: DraftSampling,
) -> dict[str, Tensor]:
    """Formula: the chance that the emitted token x was an accepted draft is min(1, q(x) / p(x)).

    Of an emitted token, the chance to have been drafted and kept is q min(1, p/q) / p, with the
    target's p and the draft's q (Leviathan et al. 2023, arXiv:2211.17192, Algorithm 1). A greedy
    draft is a point mass; a greedy target keeps what its own argmax is.
    """
    probs = probs_of(logits, sampling, "draft")
    hit = logits.argmax(-1) == tokens
    is_point = sampling.is_greedy or draft_sampling is DraftSampling.GREEDY
    own, target = (each.gather(1, tokens[:, None])[:, 0] for each in (probs, target_probs))
    drafted = probs
    if draft_sampling is DraftSampling.GREEDY and not sampling.is_greedy:
        drafted = functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(probs.dtype)
    return {
        "accept_chance": hit.float() if is_point else (own / target).nan_to_num(0.0).clamp_max(1),
        "argmax_hit": hit,
        "entropy": torch.special.entr(probs).sum(-1),
        "total_variation": 1 - torch.minimum(drafted, target_probs).sum(-1),
        "token_rank": _rank(logits, tokens),
    }


def _rank(logits: Tensor, tokens: Tensor) -> Tensor:
    return (logits > logits.gather(1, tokens[:, None])).sum(-1)


def _put(boards: dict[str, Tensor], at: tuple[Tensor, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        boards[name][at] = value.float().cpu()


def _as_scores(boards: dict[str, Tensor], row: int, length: int) -> DraftScores:
    def floats(name: str) -> "array[float]":
        return array("f", boards[name][row, :length].numpy().tobytes())

    def integers(name: str, code: str) -> "array[int]":
        return array(code, boards[name][row, :length].int().tolist())

    return DraftScores(
        accept_chance=floats("accept_chance"),
        argmax_hit=integers("argmax_hit", "b"),
        entropy=floats("entropy"),
        total_variation=floats("total_variation"),
        token_rank=integers("token_rank", "i"),
    )
