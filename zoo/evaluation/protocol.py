"""Evaluation protocols: which clips, how often, and at which offsets."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.data.manifest import Split
from zoo.errors import ConfigError, suggest


@dataclass(frozen=True)
class Protocol:
    """How a split is evaluated.

    Attributes:
        summary: in a few words.
        rounds: passes over the clips.
        is_fixed: offsets and starts come from a list, else they are chosen anew in every round.
        split: which clips.
        end_s: where the published code stops reading a clip, seconds; None reads all.
    """

    summary: str
    rounds: int
    is_fixed: bool = False
    split: Split = "test"
    end_s: float | None = None


PROTOCOLS = {
    "random": Protocol("25 random samples per clip", 25),
    "fixed": Protocol("one fixed offset per clip", 1, is_fixed=True),
    "vggsound-sparse": Protocol("VGGSound-Sparse, 25 random samples per clip", 25),
    "vggsound-sparse-clean": Protocol(
        "VGGSound-Sparse (Clean), one annotated offset per clip", 1, is_fixed=True
    ),
    "lrs3-fs": Protocol("LRS3 full scene, 2 random samples per clip", 2, end_s=11.0),
}


def find_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        ConfigError: if there is none of this name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(
            f"unknown protocol '{name}'{suggest(name, PROTOCOLS) or '.'} "
            f"Known: {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]
