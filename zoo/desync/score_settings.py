"""What a score depends on beside the files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zoo.contracts import ComponentConfig

Mode = Literal["published", "corrected"]
METHOD = 3  # raised whenever the same clips would get other scores


class Settings(ComponentConfig):
    """Scores may be compared, and a run continued, only where all of this is equal."""

    mode: Mode = Field(description="which definition of the score")
    duration_s: float = Field(gt=0, description="how much of every clip is looked at, seconds")
    model: str = Field(description="name or folder of the model")
    sha256: str = Field(description="of its weights")
    videos: str = Field(description="folder of the videos")
    audios: str | None = Field(description="folder of the audios; None: the videos' own audio")
    method: int = Field(METHOD, description="version of this code's definition of the score")

    def difference(self, other: Settings) -> str | None:
        """Say where these settings differ from others; None where they do not.

        The model is known by its weights, whatever its name is.
        """
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name != "model" and mine != theirs:
                return f"{name.removesuffix('_s')} {theirs} there, {mine} here"
        return None
