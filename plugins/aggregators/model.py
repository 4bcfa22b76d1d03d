"""The transformer and the mean aggregator, and none."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.modules import Aggregator, initialise_linears


class TransformerAggregator(Aggregator):
    """Reads the positions of a time step into a learnable token (paper section 3.1).

    As published: no positions are added and no final norm is applied.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.layer = nn.TransformerEncoderLayer(
            dim,
            heads,
            dim_feedforward=4 * dim,
            dropout=0.0,
            activation=nn.functional.gelu,
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        initialise_linears(self)

    def forward(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N T D"]:
        """Aggregate over positions."""
        num, steps = features.shape[:2]
        x = features.flatten(0, 1)  # (N*T, P, D)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # (N*T, 1 + P, D)
        return self.layer(x)[:, 0].unflatten(0, (num, steps))  # (N, T, D)


class MeanAggregator(Aggregator):
    """Averages the positions of a time step."""

    def forward(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N T D"]:
        """Aggregate over positions."""
        return features.mean(dim=2)


class NoAggregator(Aggregator):
    """Hands every position on, time-major."""

    def forward(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N TxP D"]:
        """Flatten time steps and positions."""
        return features.flatten(1, 2)
