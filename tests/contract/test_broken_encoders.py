"""Every defect of an encoder is one sentence that names it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from defects import WORDS, Register, sentence_of
from torch import Tensor, nn

import zoo
from zoo import testing


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audio": "s3d"}, "encoder 'defect': its audio extractor 's3d' reads vision"),
        ({"vision": "s3e"}, "unknown extractor 's3e'; did you mean 's3d'"),
        ({"summary": ""}, "has no summary"),
        ({"head": "snyc"}, "names what is not here: unknown head 'snyc'; did you mean 'sync'"),
        ({"aggregator": "none"}, "head 'correlation' takes one token per time step, and the audio"),
        ({"stage2": {"small": {}}}, "stage 2 settings for presets there are not: ['small']"),
        (
            {"layout": zoo.SegmentLayout(segment_s=0.52)},
            "the audio extractor 'ast' reads segments of 0.64 s, but the layout has 0.52 s",
        ),
    ],
)
def test_a_broken_pair_is_one_sentence(
    register: Register, changes: dict[str, object], words: str
) -> None:
    pair = zoo.PairSpec(name="defect", summary="s", audio="ast", vision="s3d")
    register("encoders", replace(pair, **changes))  # type: ignore[arg-type]
    sentence = sentence_of(testing.check_encoder)
    assert sentence.startswith("encoder 'defect': ")
    assert words in sentence, sentence


AUDIO, VISION = zoo.LogMel(n_mels=8), zoo.Frames(size=8, short_side=8)


class JointConfig(zoo.EncoderConfig):
    """Nothing to set."""

    def io(self) -> zoo.EncoderIO:
        tokens = zoo.FeatureMap(times_s=(0.16, 0.48), positions=1, dim=8)
        return zoo.EncoderIO(
            audio=zoo.ModalityIO(frontend=AUDIO, segment_s=0.64, tokens=tokens),
            vision=zoo.ModalityIO(frontend=VISION, segment_s=0.64, tokens=tokens),
        )


class Part(zoo.ModalityEncoder):
    """Halves of a segment, each a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 8)
        self.tokens = JointConfig().io().audio.tokens

    def forward(self, segments: Tensor) -> Tensor:
        x = segments if segments.ndim == 3 else segments.mean((3, 4))  # (N, F, T)
        return torch.stack([self.linear(half.mean(2)) for half in x.tensor_split(2, 2)], 1)


class Joint(zoo.Encoder):
    """Adds what the other modality gives; ``defect`` breaks it."""

    def __init__(self, defect: str = "") -> None:
        super().__init__()
        self.defect = defect
        self.audio, self.vision = Part(8), Part(3)

    def encode(self, segments: zoo.Segments) -> Any:
        audio, vision = (
            zoo.Tokens.of_segments(part(x.flatten(0, 1)), x.shape[1], part.tokens)
            for part, x in ((self.audio, segments.audio), (self.vision, segments.vision))
        )
        both = audio.values + vision.values
        if self.defect == "batch":
            both = both - both.mean(0)
        if self.defect == "shape":
            both = both.flatten(2, 3)
        if self.defect == "times":
            return zoo.Tokens(both, (0.0, 0.1)), vision
        if self.defect == "tensors":
            return both, both
        if self.defect == "one":
            return audio.with_values(both)
        unused = audio if self.defect == "unused" else audio.with_values(both)
        return (unused, audio) if self.defect == "unused" else (unused, unused)


class Leaking(zoo.SeparableEncoder):
    """Says that its modalities do not see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.vision = Part(8), Part(3)

    def encode(self, segments: zoo.Segments) -> Any:
        audio, vision = super().encode(segments)
        return audio, vision.with_values(vision.values + audio.values)


class Claiming(Joint):
    """Says that it is separable, and has no parts."""

    is_separable = True


ENCODERS: dict[str, tuple[Callable[[Any], object], str]] = {
    "batch": (lambda config: Joint("batch"), "an item depends on the others of its batch"),
    "shape": (lambda config: Joint("shape"), "encode: audio: declared (3, 2, 2, 1, 8), gives (3, "),
    "times": (lambda config: Joint("times"), "audio: tokens lie at (0.0, 0.1), but io() says (0."),
    "tensors": (lambda config: Joint("tensors"), "gives a Tensor, not zoo.Tokens"),
    "one": (lambda config: Joint("one"), "gives a Tokens, not a pair of zoo.Tokens"),
    "unused": (lambda config: Joint("unused"), "no gradient reaches 'vision.linear.weight'"),
    "leaking": (
        lambda config: Leaking(),
        "says that it is separable, but a change of audio changes the tokens of vision",
    ),
    "claiming": (lambda config: Claiming(), "only what inherits zoo.SeparableEncoder is separable"),
    "class": (lambda config: nn.Identity(), "builds a Identity; it must inherit zoo.Encoder"),
}


def joint(build: Callable[[Any], object]) -> zoo.EncoderSpec:
    words = WORDS | {"presets": {"paper": JointConfig(), "tiny": JointConfig()}}
    return zoo.EncoderSpec(
        build=build, **words | {"config_class": JointConfig}, head="avst", end_to_end=True
    )


def test_a_joint_encoder_without_a_defect_passes(register: Register) -> None:
    register("encoders", joint(lambda config: Joint()))
    testing.check_encoder("defect")


@pytest.mark.parametrize("defect", ENCODERS)
def test_a_broken_encoder_is_one_sentence(register: Register, defect: str) -> None:
    build, words = ENCODERS[defect]
    register("encoders", joint(build))
    sentence = sentence_of(testing.check_encoder)
    assert words in sentence, sentence
