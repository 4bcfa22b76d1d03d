"""Evaluation protocols: which clips, how often, and at which offsets."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.contracts import Modality, Score, Scored
from zoo.data.manifest import Split
from zoo.errors import ConfigError, suggest

WAYS: dict[str, Modality] = {"audio_to_video": "audio", "video_to_audio": "vision"}
"""Both ways of retrieval, and the modality of the query."""
_SHORT = {"audio_to_video": "A→V", "video_to_audio": "V→A"}
_RANKED = {"r1": "R@1", "r5": "R@5", "r10": "R@10"}
RETRIEVAL = Scored(
    scores=(
        *(
            Score(name=f"{way}_{name}", title=f"{short} {title}")
            for way, short in _SHORT.items()
            for name, title in _RANKED.items()
        ),
        *(
            Score(
                name=f"{way}_median",
                title=f"{short} median rank",
                unit="number",
                is_higher_better=False,
            )
            for way, short in _SHORT.items()
        ),
    ),
    rank=tuple(f"{way}_{name}" for way in WAYS for name in _RANKED),
)
"""Recall at 1, 5 and 10 both ways, and the median rank of the right clip."""


SHIFTS_MS = (50, 100, 200, 300, 500)
"""By how much AV-SyncBench moves sounds."""
PAIRWISE = Scored(
    scores=(
        *(Score(name=f"shift_{ms}", title=f"{ms} ms") for ms in SHIFTS_MS),
        Score(name="overall", title="all"),
    ),
    rank=("overall",),
)
"""How often the original sound is scored above a copy that is moved by so much."""


@dataclass(frozen=True)
class Protocol:
    """How a split is evaluated.

    Attributes:
        summary: in a few words.
        rounds: passes over the clips.
        is_fixed: offsets and starts come from a list, else they are chosen anew in every round.
        split: which clips.
        end_s: where the published code stops reading a clip, seconds; None reads all.
        scored: what is scored, if that is not the model's task; nothing is sampled then.
        needs_head: whether a head is evaluated.
    """

    summary: str
    rounds: int
    is_fixed: bool = False
    split: Split = "test"
    end_s: float | None = None
    scored: Scored | None = None
    needs_head: bool = True


PROTOCOLS = {
    "random": Protocol("25 random samples per clip", 25),
    "fixed": Protocol("one fixed offset per clip", 1, is_fixed=True),
    "vggsound-sparse": Protocol("VGGSound-Sparse, 25 random samples per clip", 25),
    "vggsound-sparse-clean": Protocol(
        "VGGSound-Sparse (Clean), one annotated offset per clip", 1, is_fixed=True
    ),
    "lrs3-fs": Protocol("LRS3 full scene, 2 random samples per clip", 2, end_s=11.0),
    "retrieval": Protocol(
        "which video goes with an audio, and back, among all clips",
        1,
        scored=RETRIEVAL,
        needs_head=False,
    ),
    "av-syncbench": Protocol(
        "AV-SyncBench: the original sound against copies moved by 50 to 500 ms", 1, scored=PAIRWISE
    ),
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
