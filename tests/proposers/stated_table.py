"""A target whose state is the last token it remembers, and heads that are tables over it."""

import torch
from torch import Tensor

from specmeasure.proposers.medusa import MedusaHeads
from tests.decode.table_model import TableModel


class StatedTable(TableModel):
    """Its output head would be the table itself: a state is a one-hot row."""

    @property
    def last_state(self) -> Tensor:
        return torch.eye(len(self.logits))[self.read[-1]]


def table_heads(*tables: Tensor) -> MedusaHeads:
    """Head h drafts by its table's row [V] of the last token that the target remembers."""
    vocab_size = len(tables[0])
    heads = MedusaHeads(
        hidden_size=vocab_size, vocab_size=vocab_size, num_heads=len(tables), num_layers=0
    )
    for matrix, table in zip(heads.lm_heads, tables, strict=True):
        matrix.weight = torch.nn.Parameter(table.T.clone(), requires_grad=False)
    return heads
