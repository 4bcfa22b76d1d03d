"""Every kind of defect in a plugin is one sentence that names the component and the defect."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from defects import Nothing, Register, TimeHead, sentence_of, spec_of
from torch import Tensor, nn

import zoo
from plugins.synchformer.layout import Sizes, build_config
from zoo import testing
from zoo.data.manifest import Manifest
from zoo.errors import ManifestError
from zoo.models.model import Model
from zoo.models.reconstruction import Hiding, Rebuilt
from zoo.registry.kinds import KINDS
from zoo.registry.manager import registry

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


class FlatHead(zoo.Head):
    """Written for an earlier version, which gave tensors."""

    def __init__(self, given: zoo.HeadInput) -> None:
        super().__init__()
        self.linear = nn.Linear(given.audio.dim, given.num_outputs)

    def forward(self, audio: Tensor, vision: Tensor) -> Tensor:
        return self.linear(audio.mean(1))


class Adapter(zoo.DatasetAdapter):
    """Finds every file, and says what a test wants of it."""

    def __init__(self, records: Callable[[list[Path]], Any], classes: Any = ()) -> None:
        self.records, self.names = records, classes

    def classes(self) -> Any:
        return self.names

    def scan(self, videos: Path) -> Any:
        found = sorted(videos.rglob("*.m*"))
        if not found:
            raise ManifestError("no clip")
        return self.records(found)


def adapter(
    records: Callable[[list[Path]], Any], classes: Any = ()
) -> Callable[[Nothing], Adapter]:
    return lambda config: Adapter(records, classes)


def dogs(files: list[Path]) -> list[zoo.ClipRecord]:
    return [record(file, label="dog") for file in files]


def record(path: Path, **values: Any) -> zoo.ClipRecord:
    return zoo.ClipRecord(path=path, **values)


class Silent(zoo.DatasetAdapter):
    """Finds nothing and says nothing."""

    def scan(self, videos: Path) -> Iterator[zoo.ClipRecord]:
        yield from []


# --- objectives ---


REBUILDS = {"rebuilds", "spills", "stubborn", "greedy"}


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

    @property
    def hiding(self):
        return Hiding(0.5, 0.5) if self.defect in REBUILDS else None

    def reconstruct(self, encoder, segments, hiding):
        """Rebuild every other value by itself, but for what is wrong."""
        if self.defect == "answers":
            return {}
        if self.defect not in REBUILDS:
            return super().reconstruct(encoder, segments, hiding)
        generator = torch.Generator().manual_seed(0 if self.defect == "stubborn" else hiding.seed)
        found = {}
        for modality in ("audio", "vision"):
            given = getattr(segments, modality).flatten(0, 1)
            hidden = torch.rand(given.shape, generator=generator) < 0.5
            rebuilt = given + 1 if self.defect == "spills" else given + hidden
            num = 9 if self.defect == "greedy" else 5
            found[modality] = Rebuilt(given, rebuilt, hidden, 10, num, 0.0, 0.0, False, False)
        return found

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
    ("objectives", loss("answers"), "reconstruct answers, although hiding says that nothing is"),
    ("objectives", loss("spills"), "reconstruct audio: changes what is not hidden"),
    ("objectives", loss("stubborn"), "reconstruct audio: hides the same patches whatever the seed"),
    ("objectives", loss("greedy"), "reconstruct audio: hides 0.90 of the patches, not 0.50"),
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
    ("datasets", adapter(dogs, ["dog"]), "classes gives ['dog']; it must be a tuple of names"),
    ("datasets", adapter(dogs, ("dog", "dog")), "classes gives a name twice"),
    ("datasets", adapter(dogs, ("cat",)), "a.mp4 'dog', which is not in its classes"),
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
    with pytest.raises(AssertionError, match="after the clip"):
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
        ("heads", {"tasks": ("offset_",)}, "names what is not here: unknown task 'offset_'"),
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


@pytest.mark.parametrize("kind", ["none", "rebuilds"])
def test_a_loss_that_falls_passes(register: Register, kind: str) -> None:
    register("objectives", spec_of("objectives", loss(kind)))
    testing.check_objective("defect")


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
