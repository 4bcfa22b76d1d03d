"""Configuration of the encoder ``cavmae``."""

from pydantic import Field

import zoo


class CavMaeConfig(zoo.PatchEncoderConfig):
    """A transformer for each modality, and a shared one on top (arXiv 2210.07839 section 3)."""

    depth: int = Field(11, ge=0, description="blocks of either modality by itself")
    shared_depth: int = Field(1, gt=0, description="blocks of both modalities")
