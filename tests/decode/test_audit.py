"""The greedy audit beside a baseline's answer, on models whose logits are known."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from specmeasure.decode import audit
from specmeasure.decode.audit import audit_greedy
from specmeasure.records.trace import Divergence
from tests.decode.table_model import TableModel

CPU = torch.device("cpu")
LOGITS = torch.tensor(  # by the last token; the argmax goes round: 0 → 1 → 2 → 3 → 0
    [
        [0.0, 5.0, 1.0, 2.0],
        [0.5, 0.0, 4.0, 3.0],
        [0.0, 1.0, 2.0, 6.0],
        [7.0, 1.0, 2.0, 0.0],
    ]
)
OWN = [1, 2, 3, 0, 1, 2]  # what the target says after 0
LEFT = Divergence(index=2, token_id=3, baseline_token_id=1, gap=None, noise=None)


class NoisyInOnePass(TableModel):
    """A table whose logits are off by 0.25, but for one token, where several rows are read."""

    def forward(self, ids: Tensor) -> Tensor:
        logits = super().forward(ids).clone()
        if len(ids) > 1:
            logits[:, 0] += 0.25
        return logits


def audited(target: TableModel, token_ids: Sequence[int], divergence: Divergence | None):
    return audit_greedy(target, [0], token_ids, divergence=divergence, device=CPU)


def test_the_gap_at_the_first_divergence():
    """Logits between the two tokens there, and the noise between one row and many."""
    found = audited(NoisyInOnePass(LOGITS), OWN, LEFT)

    assert replace(LEFT, gap=5.0, noise=0.25) == found.divergence
    assert () == found.suspects


def test_a_divergence_after_the_prompt_has_its_gap():
    """The first token stands in no chunk of the answer; both shapes are one pass there."""
    left = replace(LEFT, index=0, token_id=1, baseline_token_id=3)

    assert replace(left, gap=3.0, noise=0.0) == audited(TableModel(LOGITS), OWN, left).divergence


def test_a_suspect_token_at_the_divergence():
    """The arm's token is not the argmax: it is suspect by what the top logit is above it."""
    answer = [1, 3, 0, 1]
    left = Divergence(index=1, token_id=3, baseline_token_id=2, gap=None, noise=None)

    found = audited(NoisyInOnePass(LOGITS), answer, left)

    assert [(1, 1.0, 0.25)] == [(s.index, s.delta, s.noise) for s in found.suspects]
    assert replace(left, gap=1.0, noise=0.25) == found.divergence


@pytest.mark.parametrize("missing", ["token_id", "baseline_token_id"])
def test_an_answer_that_ended_has_no_gap(missing: str):
    """One of the two tokens is not there: nothing is compared, and nothing is read again."""
    index = len(OWN) if missing == "token_id" else 2
    ended = replace(LEFT, index=index, **{missing: None})
    target = TableModel(LOGITS)

    assert ended == audited(target, OWN, ended).divergence
    assert [0, *OWN[:-1]] == target.read


def test_an_answer_is_read_again_as_far_as_it_is_doubted():
    """Row by row up to the divergence; what stands behind it was the argmax in one pass."""
    target = TableModel(LOGITS)
    audited(target, OWN, LEFT)

    assert [0, *OWN[:2]] == target.read


def test_equal_answers_cost_one_pass():
    """No suspect and no divergence: the rows are not read one by one."""
    target = TableModel(LOGITS)

    assert None is audited(target, OWN, None).divergence
    assert [0, *OWN[:-1]] == target.read


def test_chunks_do_not_move_a_divergence(monkeypatch: pytest.MonkeyPatch):
    """However many rows are read at once, it is the same place."""
    monkeypatch.setattr(audit, "ROWS_AT_ONCE", 2)

    assert (
        replace(LEFT, gap=5.0, noise=0.25) == audited(NoisyInOnePass(LOGITS), OWN, LEFT).divergence
    )
