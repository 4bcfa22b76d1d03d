"""Every kind of defect in a plugin is one sentence that names the component and the defect."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from defects import sentence_of
from torch import Tensor, nn

import zoo
from plugins.synchformer.layout import Sizes, build_config
from zoo import testing
from zoo.data.manifest import Manifest
from zoo.errors import ManifestError
from zoo.models.model import Model
from zoo.registry.kinds import KINDS
from zoo.registry.manager import registry

Register = Callable[[str, object], None]


class Nothing(zoo.ComponentConfig):
    """Nothing to set."""


WORDS: dict[str, Any] = {
    "name": "defect",
    "summary": "s",
    "source": "s",
    "license": "MIT",
    "config_class": Nothing,
    "presets": {"paper": Nothing(), "tiny": Nothing()},
}
MORE: dict[str, dict[str, Any]] = {
    "heads": {"tasks": ("offset",)},
}


def spec_of(kind: str, build: Callable[..., object], **changes: Any) -> Any:
    return KINDS[kind].specs[0](build=build, **WORDS, **(MORE.get(kind, {}) | changes))


# --- aggregators, heads, data sets ---


class Max(zoo.Aggregator):
    """A maximum over positions; ``part`` breaks it."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    def forward(self, features: Tensor) -> Tensor:
        return features.mean() if self.part == "shape" else features.amax(2)


class Attentive(zoo.Aggregator):
    """Attends to positions with a query of its own, which has no gradient among one position."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(dim))

    def forward(self, features: Tensor) -> Tensor:
        weights = (features @ self.query).softmax(2)  # (N, T, P)
        return (weights.unsqueeze(3) * features).sum(2)


class Halves(zoo.Aggregator):
    """Two tokens per time step, or one where there is one position."""

    def forward(self, features: Tensor) -> Tensor:
        halves = features.tensor_split(min(2, features.shape[2]), dim=2)
        return torch.stack([half.mean(2) for half in halves], 2).flatten(1, 2)


class Backwards(zoo.Aggregator):
    """Gives the last time step first."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(2).flip(1)


class FixedHead(zoo.Head):
    """Reads 14 segments, whatever it was told."""

    def __init__(self, given: zoo.HeadInput, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(14 * given.audio.steps, classes)

    def forward(self, audio: zoo.Tokens, vision: zoo.Tokens) -> Tensor:
        return self.linear(audio.flat.mean(2))


class TimeHead(zoo.Head):
    """Forgets that there may be several tokens per time step."""

    def __init__(self, given: zoo.HeadInput) -> None:
        super().__init__()
        length = given.layout.num_segments * given.audio.steps
        self.linear = nn.Linear(length, given.num_outputs)

    def forward(self, audio: zoo.Tokens, vision: zoo.Tokens) -> Tensor:
        return self.linear(audio.flat.mean(2))


class FlatHead(zoo.Head):
    """Written for an earlier version, which gave tensors."""

    def __init__(self, given: zoo.HeadInput) -> None:
        super().__init__()
        self.linear = nn.Linear(given.audio.dim, given.num_outputs)

    def forward(self, audio: Tensor, vision: Tensor) -> Tensor:
        return self.linear(audio.mean(1))


class Adapter(zoo.DatasetAdapter):
    """Finds every file, and says what a test wants of it."""

    def __init__(self, records: Callable[[list[Path]], Any]) -> None:
        self.records = records

    def scan(self, videos: Path) -> Any:
        found = sorted(videos.rglob("*.m*"))
        if not found:
            raise ManifestError("no clip")
        return self.records(found)


def adapter(records: Callable[[list[Path]], Any]) -> Callable[[Nothing], Adapter]:
    return lambda config: Adapter(records)


def record(path: Path, **values: Any) -> zoo.ClipRecord:
    return zoo.ClipRecord(path=path, **values)


class Silent(zoo.DatasetAdapter):
    """Finds nothing and says nothing."""

    def scan(self, videos: Path) -> Iterator[zoo.ClipRecord]:
        yield from []


# --- objectives ---


class Loss(zoo.Objective):
    """Not quite a loss."""

    num_sums = 2

    def __init__(self, defect: str) -> None:
        super().__init__()
        self.defect = defect

    def forward(self, encoder, segments, gather):
        audio, vision = (tokens.values.mean((1, 2, 3, 4)) for tokens in encoder(segments))
        loss = (audio - vision + 1).square().mean()
        if self.defect == "detached":
            loss = loss.detach()
        if self.defect == "random":
            loss = loss + random.random()
        if self.defect == "seeded":
            loss = torch.rand(()) + loss - loss.detach()
        key = "cost" if self.defect == "key" else "loss"
        return {key: loss if self.defect != "shape" else (audio - vision).square()}

    def validate(self, encoder, segments):
        error = float(torch.rand(())) if self.defect == "masks" else 1.0
        return [error, 1.0 if self.defect == "clips" else float(len(segments))]

    def scores(self, sums):
        return {"error": sums[0] / max(1.0, sums[1])}


def loss(defect: str) -> Callable[..., Loss]:
    return lambda config, encoder: Loss(defect)


CASES: list[tuple[str, Callable[..., object], str]] = [
    ("aggregators", lambda config, given: Max("shape"), "T=6, P=12, D=64: forward: declared"),
    ("aggregators", lambda config, given: nn.Identity(), "must inherit zoo.Aggregator"),
    (
        "aggregators",
        lambda config, given: Backwards(),
        "a change of time step 0 changes the tokens of step 5 most; give tokens in the order",
    ),
    ("heads", lambda config, given: FixedHead(given, 21), "5 segments of 0.64 s, widths 64"),
    ("heads", lambda config, given: FixedHead(given, 20), "declared (3, 21), gives (3, 20)"),
    ("heads", lambda config: None, "fails: TypeError"),
    (
        "heads",
        lambda config, given: TimeHead(given),
        "3 tokens per time step, as --aggregator none gives them: forward fails: RuntimeError",
    ),
    ("heads", lambda config, given: FlatHead(given), "Tokens have no 'mean': take .flat (B, S*T*P"),
    ("objectives", loss("key"), "gives no 'loss', but ['cost']"),
    ("objectives", loss("shape"), "'loss' has the shape (2,), not ()"),
    ("objectives", loss("detached"), "the loss does not depend on the encoder"),
    ("objectives", loss("random"), "differs from run to run with the same seed"),
    ("objectives", loss("seeded"), "15 steps on one batch do not lower the loss"),
    ("objectives", loss("masks"), "validate differs from run to run; fix the seed of what it m"),
    ("objectives", loss("clips"), "the last sum of 2 clips is 1.0, their number"),
    ("objectives", lambda config, encoder: nn.Identity(), "must inherit zoo.Objective"),
    ("datasets", lambda config: Silent(), "finds 0 clips in"),
    ("datasets", lambda config: None, "must inherit zoo.DatasetAdapter"),
    ("datasets", adapter(lambda files: record(files[0])), "scan gives a ClipRecord; it must yield"),
    ("datasets", adapter(lambda files: None), "scan gives a NoneType; it must yield a zoo.ClipRec"),
    ("datasets", adapter(lambda files: [str(f) for f in files]), "yields a str; it must yield a"),
    (
        "datasets",
        adapter(lambda files: [record(f, split="training") for f in files]),
        "ClipRecord: 'split': Input should be 'train', 'valid' or 'test'",
    ),
    (
        "datasets",
        adapter(lambda files: [zoo.ClipRecord.model_construct(path=f, split="dev") for f in files]),
        "into the split 'dev'; the splits are train, valid, test",
    ),
    (
        "datasets",
        adapter(lambda files: [record(files[0], split=s) for s in ("train", "valid", "test")]),
        "a.mp4 is listed 3 times (in train, valid, test): a file is one clip of one split",
    ),
    (
        "datasets",
        adapter(lambda files: [record(f, events=((2.0, 1.0, "dog"),)) for f in files]),
        "a.mp4 has a wrong event: 'dog' from 2 to 1 s must start at 0 or later and end after",
    ),
    (
        "datasets",
        adapter(lambda files: [record(f, labels=("",)) for f in files]),
        "a.mp4 has an empty label",
    ),
    (
        "datasets",
        adapter(lambda files: [record(f.with_name("gone.mp4")) for f in files]),
        "gone.mp4, which does not exist",
    ),
]


@pytest.mark.parametrize(("kind", "build", "words"), CASES, ids=[case[2][:30] for case in CASES])
def test_every_kind_is_checked(
    register: Register, kind: str, build: Callable[..., object], words: str
) -> None:
    register(kind, spec_of(kind, build))
    sentence = sentence_of(testing.CHECKS[kind])
    assert sentence.startswith(f"{KINDS[kind].noun} 'defect': ")
    assert words in sentence, sentence


@pytest.mark.parametrize("values", [{"events": ((0.5, 99.0, "dog"),)}, {"events_s": (99.0,)}])
def test_events_beyond_a_clip_are_found_where_it_can_be_read(
    register: Register, clips: Manifest, values: dict[str, Any]
) -> None:
    found = adapter(lambda files: [record(file, **values) for file in files])
    register("datasets", spec_of("datasets", found))
    folder = clips.clips[0].path.parent
    with pytest.raises(AssertionError, match="ends after the clip"):
        testing.check_dataset("defect", folder)


def test_an_aggregator_may_keep_any_number_of_positions(register: Register) -> None:
    def two(_config: Nothing, given: zoo.FeatureMap) -> int:
        return min(2, given.positions)

    register("aggregators", spec_of("aggregators", lambda config, given: Halves(), positions=two))
    testing.check_aggregator("defect")
    register("aggregators", spec_of("aggregators", lambda config, given: Halves()))
    words = "forward: declared (3, 6, 64), gives (3, 12, 64)"
    assert words in sentence_of(testing.check_aggregator)


def test_attention_among_one_position_needs_no_gradient(register: Register) -> None:
    register("aggregators", spec_of("aggregators", lambda config, given: Attentive(given.dim)))
    testing.check_aggregator("defect")


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("heads", {"tasks": ("ofset",)}, "names what is not here: unknown task 'ofset'; did you m"),
        ("heads", {"starts_from": ("snyc",)}, "names what is not here: unknown head 'snyc'; did"),
        ("heads", {"stage2": {"small": {}}}, "stage 2 settings for presets there are not"),
        ("heads", {"stage2": {"tiny": {"step": 3}}}, "there is no stage 2 setting 'step'"),
        (
            "objectives",
            {"stage1": {"paper": {"step": 1}}},
            "preset 'paper': unknown key 'defect: stage1.step'; did you mean 'steps'?",
        ),
        (
            "objectives",
            {"chance": lambda config, clips, segments: zoo.Chance(loss=1.0)},
            "says what chance is, but not how it comes about: Chance(words=...)",
        ),
        (
            "objectives",
            {"curves": (zoo.Score(name="precision", title="p"),)},
            "draws a curve of 'precision', which neither forward nor scores gives",
        ),
    ],
)
def test_a_spec_that_says_something_wrong_is_one_sentence(
    register: Register, kind: str, changes: dict[str, Any], words: str
) -> None:
    builds = {"heads": lambda config, given: TimeHead(given), "objectives": loss("none")}
    register(kind, spec_of(kind, builds[kind], **changes))
    assert words in sentence_of(testing.CHECKS[kind])


def test_a_loss_that_falls_passes(register: Register) -> None:
    register("objectives", spec_of("objectives", loss("none")))
    testing.check_objective("defect")


# --- encoders ---


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
    return zoo.EncoderSpec(build=build, **words | {"config_class": JointConfig}, head="avst")


def test_a_joint_encoder_without_a_defect_passes(register: Register) -> None:
    register("encoders", joint(lambda config: Joint()))
    testing.check_encoder("defect")


@pytest.mark.parametrize("defect", ENCODERS)
def test_a_broken_encoder_is_one_sentence(register: Register, defect: str) -> None:
    build, words = ENCODERS[defect]
    register("encoders", joint(build))
    sentence = sentence_of(testing.check_encoder)
    assert words in sentence, sentence


# --- tasks ---


class Number(zoo.TaskConfig):
    """Nothing to set."""


class Regression(zoo.Task):
    """The number that is the label of a clip; ``defect`` breaks it."""

    num_sums = 3
    loss_name = "squared_error"

    def __init__(self, defect: str = "") -> None:
        self.defect = defect

    @property
    def num_outputs(self) -> int:
        return 1

    def need(self, layout: zoo.SegmentLayout, hop_s: float) -> zoo.Need:
        return zoo.Need(1.0 if self.defect == "short" else layout.covered_s, "nothing else")

    def accepts(self, clip: Any) -> bool:
        return self.defect == "any" or clip.label is not None

    def sample(
        self, rng: np.random.Generator, index: int, clip: Any, duration_s: float, place: Any
    ) -> zoo.Sample:
        if self.defect == "rng":
            rng = np.random.default_rng()
        if self.defect == "long":
            return zoo.Sample(index, 0.0, 0.0, -20.0)
        if self.defect == "beyond":
            return zoo.Sample(index, 0.0, duration_s, -20.0)
        target = float(clip.labels[0] if self.defect == "column" else clip.label)
        return zoo.place_crops(rng, index, duration_s, place, 0.0, target + rng.normal())

    def loss(self, outputs: Tensor, targets: Tensor, sigma: float) -> Tensor:
        loss = (outputs[:, 0] - targets).square()
        return loss.mean() if self.defect != "loss" else loss.detach().mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> list[float]:
        error = outputs[:, 0] - targets
        parts = [float(error.abs().sum()), float(error.square().sum())]
        if self.defect == "mean":
            parts[0] /= len(targets)
        return [*parts, 1.0 if self.defect == "num" else float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        num = max(1.0, sums[2])
        scores = {"error": sums[0] / num, "squared_error": sums[1] / num, "num": int(sums[2])}
        if self.defect == "scores":
            del scores["error"]
        return scores

    @property
    def chance(self) -> dict[str, float]:
        chance = {"error": 1.0, "squared_error": 1.0}
        return {"error": 1.0} if self.defect == "chance" else chance

    def values(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        error = (outputs[:, 0] - targets).abs().numpy()
        return {"error": error**2 if self.defect == "values" else error}


TASKS = {
    "short": "needs clips of 1 s, shorter than a crop (1.6 s)",
    "any": "accepts, for a clip without label: says yes",
    "rng": "differs from run to run with the same rng",
    "long": "which is shorter than a crop: gives a sample; raise a ConfigError",
    "beyond": "the audio crop ends at 3.2 s, after the clip (1.6 s)",
    "column": "sample from a clip of 1.6 s, which is as long as it needs fails: TypeError",
    "loss": "loss with sigma 0: does not depend on the outputs",
    "mean": "sums of two parts of a batch do not add up to those of the whole",
    "num": "the last sum of 12 samples is 1, their number",
    "scores": "scores lacks 'error'; it gives ['num', 'squared_error']",
    "chance": "chance: lacks 'squared_error'",
    "values": "the mean of 'error' is",
}


def task_spec(defect: str = "", **changes: Any) -> zoo.TaskSpec:
    words = WORDS | {"presets": {"paper": Number(), "tiny": Number()}, "config_class": Number}
    error = zoo.Score(name="error", title="error", unit="number", is_higher_better=False)
    given = {"scores": (error,), "rank": ("error",), "columns": ("label",), **changes}
    return zoo.TaskSpec(build=lambda config: Regression(defect), **words, **given)


def register_task(register: Register, spec: zoo.TaskSpec) -> None:
    register("tasks", spec)
    register("heads", spec_of("heads", lambda config, given: TimeHead(given), tasks=("defect",)))


def test_a_regression_passes(register: Register) -> None:
    register_task(register, task_spec())
    testing.check_task("defect")


@pytest.mark.parametrize("defect", TASKS)
def test_a_broken_task_is_one_sentence(register: Register, defect: str) -> None:
    register_task(register, task_spec(defect))
    sentence = sentence_of(testing.check_task)
    assert sentence.startswith("task 'defect': ")
    assert TASKS[defect] in sentence, sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": ("accuracy",)}, "ranks by 'accuracy', which is none of its scores: ['error']"),
        ({"columns": ("loudness",)}, "asks for the column 'loudness'; a manifest has channels, d"),
        ({"scores": ()}, "has no scores; say in its spec what a validation gives"),
    ],
)
def test_a_spec_of_a_task_that_says_something_wrong_is_one_sentence(
    register: Register, changes: dict[str, Any], words: str
) -> None:
    register_task(register, task_spec(**changes))
    assert words in sentence_of(testing.check_task)


def test_a_task_without_a_head_says_what_is_missing(register: Register) -> None:
    register("tasks", task_spec())
    words = "no head gives its outputs; register one with tasks=('defect',)"
    assert words in sentence_of(testing.check_task)


# --- formats ---


def read_anything(tensors: Mapping[str, Tensor]) -> tuple[object, dict[str, Tensor]]:
    return object(), dict(tensors)


def lose_a_bit(written: dict[str, Any]) -> dict[str, Any]:
    (key,) = written
    return {key: {name: tensor + 1e-6 for name, tensor in written[key].items()}}


def test_a_broken_format_is_one_sentence(register: Callable[[str, object], None]) -> None:
    whole = registry().format("synchformer-avclip")
    sizes = Sizes(audio_dim=48, audio_depth=1, vision_dim=48, vision_depth=1, pixels=32)
    model = Model(build_config("avclip", sizes))
    (theirs,) = whole.write(model).values()
    testing.check_format(whole.name, theirs)
    for changes, words in (
        ({"license": ""}, "has no license"),
        ({"recognises": lambda names: True}, "takes tensors named [] for its own; look for names"),
        ({"recognises": lambda names: False}, "does not recognise a checkpoint of its own"),
        ({"read": read_anything}, "reads no tensor as if it were whole; raise a ModelError"),
        ({"read": lambda tensors: tensors["a"]}, "raises KeyError for no tensor; raise a Model"),
        (
            {"write": lambda model: lose_a_bit(whole.write(model))},
            "write: 'logit_scale' does not come back bit for bit",
        ),
    ):
        registry().formats.pop(whole.name, None)
        register("formats", replace(whole, name="defect", **changes))  # type: ignore[arg-type]
        with pytest.raises(AssertionError) as caught:
            testing.check_format("defect", theirs)
        assert str(caught.value).startswith("format 'defect': ")
        assert words in str(caught.value)
