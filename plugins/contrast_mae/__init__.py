"""Objectives that compare both modalities, rebuild hidden patches of them, or both."""

from plugins.contrast_mae.config import ContrastMaeConfig

__all__ = ["ContrastMaeConfig"]
