"""The component that takes clips: files only, played as they are."""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import FileData

from demo.jobs import refusal


async def _take(self: gr.Video, url_or_file_path: str | Path | None) -> str | None:
    """Refuse addresses: the server would fetch them, whatever they are and however large."""
    if str(url_or_file_path or "").startswith(("http:", "https:")):
        raise refusal("send the clip itself, not an address")
    return await gr.Video.async_move_resource_to_block_cache(self, url_or_file_path)


def _show(_self: gr.Video, video: Any) -> FileData | None:
    """Send the file as it is, where Gradio would re-encode what not every browser plays."""
    return None if video is None else FileData(path=str(video), orig_name=Path(video).name)


# Made without Gradio's own metaclass, which would write a .pyi file beside this one.
Clip: type[gr.Video] = ABCMeta.__new__(  # type: ignore[assignment]
    ComponentMeta,
    "Clip",
    (gr.Video,),
    {
        "__doc__": "A video that is neither fetched from elsewhere nor converted.",
        "__module__": __name__,
        "is_template": True,  # looks like the video of Gradio
        "async_move_resource_to_block_cache": _take,
        "_format_video": _show,
    },
)
