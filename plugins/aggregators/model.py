"""The transformer and the mean aggregator, and none."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from zoo.models.modules import Aggregator, initialise_linears


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
        layer, x_norm = self.layer, self.layer.norm1(x)
        # Only the token is read, so only the token asks: keys and values are all that the
        # positions are needed for.
        token = x[:, :1] + self._attend(x_norm[:, :1], x_norm)  # (N*T, 1, D)
        hidden = layer.activation(layer.linear1(layer.norm2(token)))  # (N*T, 1, 4D)
        return (token + layer.linear2(hidden))[:, 0].unflatten(0, (num, steps))  # (N, T, D)

    def _attend(self, token: Float[Tensor, "M 1 D"], x: Float[Tensor, "M L D"]) -> Tensor:
        attention = self.layer.self_attn
        weight, bias, dim = attention.in_proj_weight, attention.in_proj_bias, x.shape[2]
        heads = (attention.num_heads, -1)
        q = linear(token, weight[:dim], bias[:dim]).unflatten(2, heads)  # (M, 1, h, d)
        k, v = linear(x, weight[dim:], bias[dim:]).unflatten(2, (2, *heads)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (M, h, L, d)
        return attention.out_proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


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
