"""Weights by timm's own names: ``timm:vit_base_patch16_224.mae``."""

from __future__ import annotations

from zoo.catalog.entries import TIMM, CatalogEntry, Download
from zoo.checkpoints.names import IMAGE_VIT
from zoo.errors import ModelError, suggest

HOST, FILE = "https://huggingface.co", "model.safetensors"


def timm_entry(name: str) -> tuple[str, CatalogEntry]:
    """Return the entry of weights that timm publishes, and its name in full.

    Args:
        name: ``timm:`` and a model, with or without the tag of its weights.

    Raises:
        ModelError: if timm knows no such weights.
    """
    from timm.models import get_pretrained_cfg, list_pretrained

    asked = name.removeprefix(TIMM)
    try:
        config = get_pretrained_cfg(asked)
    except RuntimeError:  # another tag than those of this model
        config = None
    if config is None or not config.hf_hub_id:
        raise ModelError(f"timm publishes no weights '{asked}'{suggest(asked, list_pretrained())}")
    full_name = f"{config.architecture}.{config.tag}"
    file = config.hf_hub_filename or FILE
    entry = CatalogEntry(
        summary=f"{full_name} as timm publishes it, to start from",
        kind="image_model",
        download=Download(url=f"{HOST}/{config.hf_hub_id}/resolve/main/{file}", format=IMAGE_VIT),
        trained_on="images; see its card",
        recipe=f"see its card, {HOST}/{config.hf_hub_id}",
        license=config.license or "not stated by timm",
        source=f"timm, {config.origin_url}" if config.origin_url else "timm",
    )
    return f"{TIMM}{full_name}", entry
