"""Teacher-forced passes: what would the target have said at each place of a finished answer?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from specmeasure.errors import BrokenLogits
from specmeasure.records.trace import Audit, Divergence, SuspectToken
from specmeasure.speculate.proposal import CachedModel

ROWS_AT_ONCE = 64  # bounds the logits in memory; as good as one pass, it is not one row


@torch.inference_mode()
def audit_greedy(
    target: CachedModel,
    context_ids: Sequence[int],
    token_ids: Sequence[int],
    *,
    divergence: Divergence | None = None,
    device: torch.device,
) -> Audit:
    """Check every emitted token against the target's own argmax, in two shapes.

    First all rows in one pass; a token that is the argmax there is identical whatever the other
    shape says, because delta is the smaller of the two. Only an answer with another token in it,
    or one that left the baseline's, is read again row by row up to the last such place; that gives
    the noise between the shapes.

    Formula: delta_t = min over shapes of (max logit − logit of the emitted token);
    noise_t = max over the vocabulary of |difference between the shapes|.

    Args:
        target: reads the answer.
        context_ids: what it answers.
        token_ids: what was emitted.
        divergence: from the baseline's answer, so far without gap and noise.
        device: of the target.
    """
    answer = torch.tensor(token_ids, device=device)
    left = divergence.index if divergence and _has_rivals(divergence) else None
    doubtful = {  # place → its logits [V] in one pass
        place: logits.clone()  # its row alone, not all that were read with it
        for place, logits in _answer_logits(target, context_ids, answer, rows_per_pass=ROWS_AT_ONCE)
        if place == left or _delta(logits, answer[place]) > 0
    }
    suspects, noise = [], {}
    for place, logits in _row_by_row(target, context_ids, answer, doubtful):
        in_one_pass, token = doubtful[place], answer[place]
        noise[place] = float((logits - in_one_pass).nan_to_num().abs().max())
        delta = min(_delta(logits, token), _delta(in_one_pass, token))
        if delta > 0:
            suspects.append(SuspectToken(index=place, delta=delta, noise=noise[place]))
    if divergence and left is not None:
        divergence = replace(divergence, gap=_gap(doubtful[left], divergence), noise=noise[left])
    return Audit(num_checked_tokens=len(token_ids), suspects=tuple(suspects), divergence=divergence)


def _has_rivals(divergence: Divergence) -> bool:
    """Whether two tokens stand against each other; otherwise one answer had ended."""
    return None not in (divergence.token_id, divergence.baseline_token_id)


def _row_by_row(
    target: CachedModel, context_ids: Sequence[int], answer: Tensor, places: Mapping[int, Tensor]
) -> Iterator[tuple[int, Tensor]]:
    """The logits of these places as the loop without drafts makes them; nothing after the last."""
    if not places:
        return
    read = answer[: max(places) + 1]
    for place, logits in _answer_logits(target, context_ids, read, rows_per_pass=1):
        if place in places:
            yield place, logits


def _answer_logits(
    target: CachedModel, context_ids: Sequence[int], answer: Tensor, *, rows_per_pass: int
) -> Iterator[tuple[int, Tensor]]:
    """Each place of the answer with the logits [V], float32, that predict its token.

    Row by row also the context's last token is a row of its own: it predicts the first place, and
    an engine elsewhere may have read the context in another shape.
    """
    target.reset(rolls_back=False)
    if rows_per_pass == 1 and len(context_ids) > 1:
        target.prefill(context_ids[:-1])
        last = torch.tensor(context_ids[-1:], device=answer.device)
        yield 0, target.forward(last)[0].float()
    else:
        yield 0, target.prefill(context_ids)[0].float()
    for start in range(0, len(answer) - 1, rows_per_pass):
        rows = target.forward(answer[:-1][start : start + rows_per_pass]).float()
        for offset, row in enumerate(rows):
            yield start + offset + 1, row


def _gap(logits: Tensor, divergence: Divergence) -> float:
    """Logits between the two tokens; finite also for one that is masked out."""
    rivals = torch.tensor([divergence.token_id, divergence.baseline_token_id], device=logits.device)
    one, other = logits[rivals]
    return float((one - other).abs().nan_to_num())


def _delta(logits: Tensor, token: Tensor) -> float:
    """Top logit minus the emitted token's; finite also for a token that is masked out.

    Raises:
        BrokenLogits: the logits hold NaN.
    """
    delta = float((logits.max() - logits[token]).nan_to_num(nan=-1.0))
    if delta < 0:
        raise BrokenLogits("the target's logits hold NaN in the audit. Try --dtype float32.")
    return delta
