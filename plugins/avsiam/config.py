"""Configuration of the encoder ``avsiam``."""

from pydantic import Field

import zoo
from zoo.contracts.patch_config import IMAGENET_FRAMES


class AvsiamConfig(zoo.PatchEncoderConfig):
    """One transformer for both modalities, and joint layers (arXiv 2403.19638 section 3.1)."""

    vision_frontend: zoo.Frames = IMAGENET_FRAMES.model_copy(update={"resize": "bicubic_square"})
    depth: int = Field(12, gt=0, description="blocks, the same ones for both modalities")
    joint_depth: int = Field(2, gt=0, description="blocks of both modalities together")
    norm_eps: float = Field(1e-6, gt=0, description="of the norms after the blocks")
    doubled: bool = Field(
        False, description="multiply what enters the first block by 2, as published weights need"
    )
