"""Configuration of the encoder ``cavmae``."""

from pydantic import Field

import zoo
from zoo.contracts.patch_config import IMAGENET_FRAMES


class CavMaeConfig(zoo.PatchEncoderConfig):
    """A transformer for each modality, and a shared one on top (arXiv 2210.07839 section 3)."""

    vision_frontend: zoo.Frames = IMAGENET_FRAMES.model_copy(update={"resize": "bicubic_uint8"})
    depth: int = Field(11, ge=0, description="blocks of either modality by itself")
    shared_depth: int = Field(1, gt=0, description="blocks of both modalities")
