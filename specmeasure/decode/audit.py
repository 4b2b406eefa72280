"""Teacher-forced passes: what would the target have said at each place of a finished answer?"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from specmeasure.errors import BrokenLogits
from specmeasure.records.trace import Audit, SuspectToken
from specmeasure.speculate.proposal import CachedModel

ROWS_AT_ONCE = 64  # bounds the logits in memory; as good as one pass, it is not one row


@torch.inference_mode()
def audit_greedy(
    target: CachedModel,
    context_ids: Sequence[int],
    token_ids: Sequence[int],
    *,
    device: torch.device,
) -> Audit:
    """Check every emitted token against the target's own argmax, in two shapes.

    First all rows in one pass; a token that is the argmax there is identical whatever the other
    shape says, because delta is the smaller of the two. Only an answer with another token in it
    is read again row by row, which gives the noise between the shapes.

    Formula: delta_t = min over shapes of (max logit − logit of the emitted token);
    noise_t = max over the vocabulary of |difference between the shapes|.
    """
    answer = torch.tensor(token_ids, device=device)
    doubtful = {  # place → its logits [V] in one pass
        place: logits
        for place, logits in _answer_logits(target, context_ids, answer, rows_per_pass=ROWS_AT_ONCE)
        if _delta(logits, answer[place]) > 0
    }
    suspects = []
    if doubtful:
        for place, logits in _answer_logits(target, context_ids, answer, rows_per_pass=1):
            if place not in doubtful:
                continue
            in_one_pass, token = doubtful[place], answer[place]
            delta = min(_delta(logits, token), _delta(in_one_pass, token))
            if delta > 0:
                noise = float((logits - in_one_pass).nan_to_num().abs().max())
                suspects.append(SuspectToken(index=place, delta=delta, noise=noise))
    return Audit(num_checked_tokens=len(token_ids), suspects=tuple(suspects))


def _answer_logits(
    target: CachedModel, context_ids: Sequence[int], answer: Tensor, *, rows_per_pass: int
) -> Iterator[tuple[int, Tensor]]:
    """Each place of the answer with the logits [V], float32, that predict its token."""
    target.reset(rolls_back=False)
    yield 0, target.prefill(context_ids)[0].float()
    for start in range(0, len(answer) - 1, rows_per_pass):
        rows = target.forward(answer[:-1][start : start + rows_per_pass]).float()
        for offset, row in enumerate(rows):
            yield start + offset + 1, row


def _delta(logits: Tensor, token: Tensor) -> float:
    """Top logit minus the emitted token's; finite also for a token that is masked out.

    Raises:
        BrokenLogits: the logits hold NaN.
    """
    delta = float((logits.max() - logits[token]).nan_to_num(nan=-1.0))
    if delta < 0:
        raise BrokenLogits("the target's logits hold NaN in the audit. Try --dtype float32.")
    return delta
