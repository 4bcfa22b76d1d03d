"""Attention by the fused kernel, or by plain products where that one is slow."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(q: Tensor, k: Tensor, v: Tensor, sees: Tensor | None = None) -> Float[Tensor, "B L h d"]:
    """Attend; all are ``(B, L, h, d)``, and by default every query sees every key.

    Plain products are two to four times as fast as the fused kernel of CPUs in bf16
    (docs/performance.md).
    """
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, h, L, d)
    if sees is None and q.dtype == torch.bfloat16 and q.device.type == "cpu":
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # (B, h, L, L')
        out = weights.softmax(3).to(v.dtype) @ v
    else:
        out = scaled_dot_product_attention(q, k, v, sees)
    return out.transpose(1, 2)
