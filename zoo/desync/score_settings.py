"""What a score depends on beside the files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zoo.contracts import ComponentConfig
from zoo.data.published import crop_s
from zoo.errors import ConfigError, option
from zoo.timeline import SegmentLayout

Mode = Literal["published", "corrected", "avgen-bench"]
DURATION_S = 8.0  # that is looked at by default, as papers do
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


def duration_of(mode: Mode, layout: SegmentLayout, duration_s: float | None) -> float:
    """Return how much of every clip is looked at, seconds.

    Raises:
        ConfigError: if the model looks at more, or the mode says how much.
    """
    if mode == "avgen-bench":
        only_s = crop_s(layout)
        if duration_s not in (None, only_s):
            raise ConfigError(
                f"the mode avgen-bench looks at the first {only_s:g} s, not {duration_s:g} s: "
                f"leave {option('duration')} out"
            )
        return only_s
    duration_s = DURATION_S if duration_s is None else duration_s
    if not duration_s >= layout.covered_s - 1e-6:
        raise ConfigError(
            f"a duration of {duration_s:g} s is too short: the model looks at "
            f"{layout.covered_s:g} s at a time"
        )
    return duration_s
