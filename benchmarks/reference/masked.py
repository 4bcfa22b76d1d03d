"""CAV-MAE and AVSiam as published, on the weights of ours: all patches, separate passes.

Every patch is embedded by a convolution and some are gathered afterwards; attention is written out;
the decoder predicts every patch and a mask picks what counts; each chunk of several ratios runs by
itself.  (Source: facts of CAV-MAE, arXiv 2210.07839, and AVSiam, arXiv 2403.19638.)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from plugins.avsiam.model import Avsiam
from plugins.cavmae.model import CavMae
from plugins.contrast_mae.decoder import SUFFIX, JointDecoder
from plugins.contrast_mae.model import ContrastMae
from zoo.contracts import Modality
from zoo.models.masks import masking_noise
from zoo.models.patches import MODALITIES
from zoo.models.segments import Segments
from zoo.models.stream_block import Stack, StreamBlock, norm_name

Both = dict[Modality, Tensor]


@dataclass
class Masked:
    """Kept patches of a modality, and what the decoder and the loss need to know of the mask."""

    kept: Tensor  # (N, M, D)
    restore: Tensor  # (N, L): where a patch stands in the order of rising noise
    mask: Tensor  # (N, L): 1 where a patch is removed


def attention(layer: nn.Module, x: Tensor) -> Tensor:
    """Attend with the weights written out (as timm's Attention was before fused kernels)."""
    num, length, width = x.shape
    qkv = layer.qkv(x).reshape(num, length, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)  # (N, h, L, d)
    weights = (torch.einsum("nhid,nhjd->nhij", q, k) * q.shape[-1] ** -0.5).softmax(dim=-1)
    x = torch.einsum("nhij,nhjd->nhid", weights, v)
    return layer.proj(x.transpose(1, 2).reshape(num, length, width))


def block(layer: StreamBlock, x: Tensor, stream: str) -> Tensor:
    norm1, norm2 = (getattr(layer, norm_name(name, stream)) for name in ("norm1", "norm2"))
    x = x + attention(layer.attn, norm1(x))
    return x + layer.mlp(norm2(x))


def stack(blocks: Stack, x: Tensor, stream: str = "") -> Tensor:
    for layer in blocks:
        x = block(layer, x, stream)
    return x


def embed(encoder: CavMae | Avsiam, modality: Modality, given: Tensor) -> Tensor:
    """Embed all patches ``(N, L, D)`` and add what is added to them."""
    layer, added = encoder.embedding(modality)
    images = given.unsqueeze(1) if modality == "audio" else given[:, :, 0]
    return layer.proj(images).flatten(2).transpose(1, 2) + added


def leave_out(tokens: Tensor, noise: Tensor, ratio: float) -> Masked:
    """Gather the patches of the smallest noise."""
    num, length, width = tokens.shape
    kept, noise = int(length * (1 - ratio)), noise.to(tokens.device)
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    chosen = tokens.gather(1, order[:, :kept].unsqueeze(2).repeat(1, 1, width))
    mask = torch.ones(num, length, device=tokens.device)
    mask[:, :kept] = 0
    return Masked(chosen, restore, mask.gather(1, restore))


def decode(decoder: JointDecoder, fused: Both, masked: Mapping[Modality, Masked]) -> Both:
    """Predict the values of all patches ``(N, L, E)``."""
    parts = []
    for modality, suffix in SUFFIX.items():
        x, restore = decoder.decoder_embed(fused[modality]), masked[modality].restore
        removed = restore.shape[1] - x.shape[1]
        x = torch.cat([x, decoder.mask_token.repeat(len(x), removed, 1)], dim=1)
        x = x.gather(1, restore.unsqueeze(2).repeat(1, 1, x.shape[2]))
        x = x + getattr(decoder, f"decoder_pos_embed_{suffix}")
        parts.append(x + getattr(decoder, f"decoder_modality_{suffix}"))
    x = decoder.decoder_norm(stack(decoder.decoder_blocks, torch.cat(parts, dim=1)))
    audio, vision = x.split([part.shape[1] for part in parts], dim=1)
    return {"audio": decoder.decoder_pred_a(audio), "vision": decoder.decoder_pred_v(vision)}


def targets(modality: Modality, given: Tensor, patch: int, *, is_normalised: bool) -> Tensor:
    """Cut all patches, channels fastest."""
    images = given.unsqueeze(1) if modality == "audio" else given[:, :, 0]
    num, channels, height, width = images.shape
    x = images.reshape(num, channels, height // patch, patch, width // patch, patch)
    x = torch.einsum("nchpwq->nhwpqc", x).reshape(num, -1, patch * patch * channels)
    if is_normalised:
        x = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + 1e-6) ** 0.5
    return x


def mae_loss(objective: ContrastMae, given: Both, fused: Both, masked: dict) -> Tensor:
    """Compare the removed patches of both modalities."""
    assert objective.decoder is not None
    predicted = decode(objective.decoder, fused, masked)
    loss = torch.zeros((), device=given["audio"].device)
    for m in MODALITIES:
        patch = objective.decoder.grids[m].height
        wanted = targets(m, given[m], patch, is_normalised=objective.config.norm_targets)
        error = (predicted[m].float() - wanted).square().mean(dim=2)
        loss = loss + (error * masked[m].mask).sum() / masked[m].mask.sum()
    return loss


def contrast_loss(audio: Tensor, vision: Tensor, temperature: float, *, both_ways: bool) -> Tensor:
    similarity = normalize(audio) @ normalize(vision).T / temperature
    ways = [similarity.log_softmax(dim=0)] + [similarity.log_softmax(dim=1)] * both_ways
    return -torch.stack([way.diagonal().mean() for way in ways]).mean()


def clips(segments: Segments) -> Both:
    return {m: getattr(segments, m).flatten(0, 1) for m in MODALITIES}


def cavmae_loss(encoder: CavMae, objective: ContrastMae, segments: Segments) -> Tensor:
    """Return the loss of the one step that CAV-MAE takes: reconstruction and contrast."""
    config, given = objective.config, clips(segments)
    masked, alone = {}, {}
    for m, ratio in zip(MODALITIES, (config.audio_ratio, config.vision_ratio), strict=True):
        noise = masking_noise(len(given[m]), encoder.grids[m], ratio)
        masked[m] = leave_out(embed(encoder, m, given[m]), noise, ratio)
        alone[m] = stack(getattr(encoder, f"blocks_{SUFFIX[m]}"), masked[m].kept)
    both = encoder.norm(stack(encoder.blocks_u, torch.cat([alone[m] for m in MODALITIES], dim=1)))
    num = alone["audio"].shape[1]
    fused: Both = {"audio": both[:, :num], "vision": both[:, num:]}
    loss = config.mae_weight * mae_loss(objective, given, fused, masked)
    pooled = []
    for m in MODALITIES:
        norm: nn.LayerNorm = getattr(encoder, f"norm_{SUFFIX[m]}")
        pooled.append(norm(stack(encoder.blocks_u, alone[m], SUFFIX[m])).mean(dim=1))
    contrast = contrast_loss(*pooled, config.temperature, both_ways=config.symmetric)
    return loss + config.contrast_weight * contrast


def encode_siamese(encoder: Avsiam, modality: Modality, x: Tensor) -> Tensor:
    norm = encoder.norm_a if modality == "audio" else encoder.norm
    return norm(stack(encoder.blocks, encoder.scale * x, SUFFIX[modality]))


def avsiam_rebuild(
    encoder: Avsiam, objective: ContrastMae, segments: Segments, second: Avsiam | None = None
) -> Tensor:
    """Return the loss of AVSiam's second step: reconstruction.

    Behind a stop-gradient, as the paper says; with a second encoder for audio, gradients reach the
    blocks of both encoders, as in the source that is published of the base model.
    """
    config, given = objective.config, clips(segments)
    masked, alone = {}, []
    with nullcontext() if second is not None else torch.no_grad():
        for m, ratio in zip(MODALITIES, (config.audio_ratio, config.vision_ratio), strict=True):
            noise = masking_noise(len(given[m]), encoder.grids[m], ratio)
            masked[m] = leave_out(embed(encoder, m, given[m]), noise, ratio)
            reads = second if second is not None and m == "audio" else encoder
            alone.append(encode_siamese(reads, m, masked[m].kept))
    both = stack(encoder.joint, torch.cat(alone, dim=1), "a")
    num = alone[0].shape[1]
    return mae_loss(objective, given, {"audio": both[:, :num], "vision": both[:, num:]}, masked)


def avsiam_contrast(encoder: Avsiam, objective: ContrastMae, segments: Segments) -> Tensor:
    """Return the loss of AVSiam's first step: every chunk of the batch at a ratio of its own."""
    config, given = objective.config, clips(segments)
    pooled = []
    for m in MODALITIES:
        tokens = embed(encoder, m, given[m])
        mode = config.contrast_audio_mask if m == "audio" else "unstructured"
        order = torch.randperm(len(tokens)).to(tokens.device)
        found = []
        chunks = tokens[order].chunk(len(config.contrast_ratios))
        for chunk, ratio in zip(chunks, config.contrast_ratios, strict=False):
            noise = masking_noise(len(chunk), encoder.grids[m], ratio, mode)
            found.append(encode_siamese(encoder, m, leave_out(chunk, noise, ratio).kept).mean(1))
        pooled.append(torch.cat(found)[order.argsort()])
    return contrast_loss(*pooled, config.temperature, both_ways=config.symmetric)
