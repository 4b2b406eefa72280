"""Medusa heads: small networks on the target's last state, each for one place further ahead.

Cai et al. 2024 (arXiv:2401.10774), section 3.1; heads trained on a frozen target (Medusa-1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class MedusaHeads(nn.Module):
    """From states of the target to logits of the tokens after its own next one.

    The state that the target's output head turns into the next token is turned by head h into the
    token h + 1 places behind that. Formula, layer by layer: x + SiLU(W x + b); then a linear map to
    the vocabulary.

    Args:
        hidden_size: of the target's states, D.
        vocab_size: V.
        num_heads: H.
        num_layers: residual blocks of each head, from 0.
    """

    def __init__(
        self, *, hidden_size: int, vocab_size: int, num_heads: int, num_layers: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(num_layers))
            for _ in range(num_heads)
        )
        self.lm_heads = nn.ModuleList(
            nn.Linear(hidden_size, vocab_size, bias=False) for _ in range(num_heads)
        )

    @property
    def num_heads(self) -> int:
        return len(self.lm_heads)

    @property
    def num_layers(self) -> int:
        """Residual blocks of each head."""
        return len(list(self.blocks[0].children()))

    def forward(self, states: Tensor, num_heads: int | None = None) -> Tensor:
        """Logits [H, ..., V] of the first ``num_heads`` heads, by default of all.

        Args:
            states: [..., D].
            num_heads: at least 1.
        """
        found = []
        for block, lm_head in list(zip(self.blocks, self.lm_heads, strict=True))[:num_heads]:
            state = states
            for layer in block.children():
                state = state + functional.silu(layer(state))
            found.append(lm_head(state))
        return torch.stack(found)
