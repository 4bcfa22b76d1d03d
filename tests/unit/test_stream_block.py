"""Blocks that several sequences share."""

import pytest
import torch

from zoo.models.stream_block import Stack, StreamBlock

LENGTHS = [(2, 9), (1, 4), (3, 1), (2, 5)]


@pytest.mark.parametrize("saves_memory", [False, True])
def test_parts_encoded_together_equal_each_by_itself(saves_memory: bool) -> None:
    torch.manual_seed(0)
    stack = Stack(StreamBlock(16, 2, ("a", "v")) for _ in range(2)).train()
    for norm in (m for m in stack.modules() if isinstance(m, torch.nn.LayerNorm)):
        torch.nn.init.normal_(norm.weight)  # else the norms of the streams are alike
    parts = [torch.randn(num, length, 16) for num, length in LENGTHS]
    if saves_memory:
        stack.enable_gradient_checkpointing()
    outs, gradients = [], []
    for encode in (stack.together, lambda parts, stream: [stack(x, stream) for x in parts]):
        stack.zero_grad()
        outs.append(encode(parts, "v"))
        sum(out.square().sum() for out in outs[-1]).backward()
        gradients.append([p.grad.clone() for p in stack.parameters() if p.grad is not None])
    assert [out.shape for out in outs[0]] == [part.shape for part in parts]
    for ours, theirs in zip(*outs, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()) + 1e-6)
