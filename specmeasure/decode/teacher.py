"""Teacher-forced passes: what would the target have said at each place of a finished answer?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from specmeasure.records.trace import Audit, SuspectToken
from specmeasure.speculate.proposal import CachedModel


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
    in_one_pass = _answer_logits(target, context_ids, answer, rows_per_pass=len(answer))
    deltas = _deltas(in_one_pass, answer)
    suspects: tuple[SuspectToken, ...] = ()
    if bool(deltas.any()):
        row_by_row = _answer_logits(target, context_ids, answer, rows_per_pass=1)
        deltas = torch.minimum(deltas, _deltas(row_by_row, answer))
        both_masked = torch.isneginf(in_one_pass) & torch.isneginf(row_by_row)
        noise = (in_one_pass - row_by_row).abs().masked_fill(both_masked, 0).amax(-1).nan_to_num()
        suspects = tuple(
            SuspectToken(index=index, delta=float(deltas[index]), noise=float(noise[index]))
            for index in deltas.nonzero().flatten().tolist()
        )
    return Audit(num_checked_tokens=len(token_ids), suspects=suspects, baseline_divergence=None)


def _answer_logits(
    target: CachedModel, context_ids: Sequence[int], answer: Tensor, *, rows_per_pass: int
) -> Tensor:
    """Logits [T, V] float32 that predict each of the answer's T tokens."""
    target.reset(rolls_back=False)
    rows = [target.prefill(context_ids).float()]
    rows += [target.forward(part).float() for part in torch.split(answer[:-1], rows_per_pass)]
    return torch.cat(rows)


def _deltas(logits: Tensor, answer: Tensor) -> Tensor:
    """Top logit minus the emitted token's, [T]; finite also for a token that is masked out."""
    return (logits.amax(-1) - logits.gather(1, answer[:, None])[:, 0]).nan_to_num()
