"""Every kind of defect in a plugin is one sentence that names the component and the defect."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from plugins.synchformer.layout import Sizes, build_config
from zoo import testing
from zoo.errors import PluginError
from zoo.models.config import Component, ModalityConfig
from zoo.models.model import Model
from zoo.models.two_tower import ExtractorEncoder
from zoo.registry.manager import add_plugin_file, registry

EXTRACTOR = '''
from pydantic import Field
from zoo.errors import ConfigError
import zoo


class Config(zoo.ExtractorConfig):
    """Nothing to set."""

    frontend: zoo.LogMel = zoo.LogMel(n_mels=8)

    def feature_map(self):
        return zoo.FeatureMap(times_s=(0.0, 0.04), positions=1, dim=8)


def build(config):
    import torch
    from torch import nn

    class Net(zoo.Extractor):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, segments):
            x = segments.mean(2, keepdim=True).transpose(1, 2)  # (N, 1, F)
            x = self.linear(x).expand(-1, 2, -1).unflatten(1, (2, 1))
            return x

    return Net()


@zoo.hookimpl
def register_extractors():
    presets = {"paper": Config(), "tiny": Config()}
    return [
        zoo.ExtractorSpec(
            name="defect",
            modality="audio",
            summary="an extractor to break",
            config_class=Config,
            build=build,
            presets=presets,
            source="tests",
            license="MIT",
        )
    ]
'''
LINEAR = "self.linear = nn.Linear(8, 8)"
RETURN = "return x\n"
FIELD = "    frontend:"
MAP = "return zoo.FeatureMap("
DEFECTS: dict[str, tuple[str, str, str]] = {
    "top level": (
        "import zoo\n\n\nclass",
        "import torch, zoo\n\n\nclass",
        "imports torch at the top level; move that into build()",
    ),
    "licence": ('license="MIT"', 'license=""', "has no license"),
    "preset": ('"tiny": Config()', '"small": Config()', "lacks the preset tiny"),
    "type of preset": (
        '"tiny": Config()',
        '"tiny": zoo.LogMel()',
        "preset 'tiny' is a LogMel, not a Config",
    ),
    "description": (
        FIELD,
        "    depth: int = 1\n" + FIELD,
        "field 'depth' of Config has no description",
    ),
    "JSON": (
        FIELD,
        "    d: object = Field(object, description='d')\n" + FIELD,
        "preset 'paper' does not survive JSON",
    ),
    "search": (
        'source="tests",',
        'source="tests", search={"depth": zoo.Range(low=1, high=2)},',
        "offers 'depth' to a search, which is no field of Config",
    ),
    "search beyond a preset": (
        'source="tests",',
        'source="tests", search={"segment_s": zoo.Choice(values=(0.64, -1.0))},',
        "offers 'segment_s' to a search, but preset 'paper' cannot take -1.0",
    ),
    "order of times": ("(0.0, 0.04)", "(0.04, 0.0)", "preset 'paper': time steps do not rise"),
    "late time": ("(0.0, 0.04)", "(0.0, 4.0)", "a time step lies after the segment"),
    "class": ("zoo.Extractor)", "nn.Module)", "build gives a Net; it must inherit zoo.Extractor"),
    "weights": (
        "return Net()",
        "return torch.load('none.pt')",
        "'meta' fails: FileNotFoundError: [Errno 2] No such file",
    ),
    "width": (
        "dim=8)",
        "dim=9)",
        "preset 'tiny': forward: declared (3, 2, 1, 9), gives (3, 2, 1, 8)",
    ),
    "inner shape": (
        LINEAR,
        "self.linear = nn.Linear(9, 8)",
        "forward fails: RuntimeError: mat1 and mat2 shapes",
    ),
    "no output": (RETURN, "return None\n", "gives a NoneType, not a tensor"),
    "number": (RETURN, "return x / 0\n", "the output is not finite"),
    "chance": (RETURN, "return x + torch.rand_like(x)\n", "eval mode differs from run to run"),
    "batch": (RETURN, "return x - x.mean(0)\n", "an item depends on the others of its batch"),
    "unused": (
        LINEAR,
        LINEAR + "; self.extra = nn.Linear(2, 2)",
        "no gradient reaches 'extra.weight' of Net; use it, or freeze it",
    ),
    "detached": (RETURN, "return x.detach()\n", "does not depend on any trainable parameter"),
    "order of steps": (
        RETURN,
        "return self.linear(segments.tensor_split(2, 2)[0].mean(2))[:, None, None].expand(x.shape)"
        " * torch.tensor([[[1.0]], [[0.0]]]).to(x)"
        " + self.linear(segments[:, :, -8:].mean(2))[:, None, None] * torch.tensor([[[1.0]], "
        "[[0.1]]]).to(x)\n",
        "the end of a segment changes its first time step more than its last",
    ),
    "mixed precision": (
        RETURN,
        "return torch.lerp(x, torch.zeros_like(x, dtype=self.linear.weight.dtype), 0.5)\n",
        "forward under bf16 autocast, as with precision=bf16 fails: RuntimeError",
    ),
    "no buffer": (
        RETURN,
        "self.s = getattr(self, 's', torch.rand(1)); return x * self.s.to(x)\n",
        "something is not in its state dict",
    ),
    "number type": (
        RETURN,
        "return x.float()\n",
        "moved to float64, forward: gives torch.float32; make new tensors like its input",
    ),
    "device": (
        RETURN,
        "return x + torch.zeros(8, dtype=x.dtype)\n",
        "moved to the device 'meta', forward fails: RuntimeError",
    ),
    "lengths": (
        MAP,
        "if self.segment_s != 0.64: raise ConfigError('no')\n        " + MAP,
        "takes none of the segment lengths",
    ),
    "one length": (
        "times_s=(0.0, 0.04)",
        "times_s=(0.0, 0.04, 0.08) if self.segment_s > 1 else (0.0, 0.04)",
        "rebuilt for segments of 1.28 s: declared (2, 3, 1, 8)",
    ),
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Load a plugin from its text, and forget it afterwards."""
    monkeypatch.setenv("ZOO_PLUGINS", "")

    def load(text: str) -> None:
        file = tmp_path / "broken.py"
        file.write_text(text)
        add_plugin_file(file)

    yield load
    monkeypatch.undo()
    registry.cache_clear()


def sentence_of(check: Callable[[str], None]) -> str:
    with pytest.raises(AssertionError) as caught:
        check("defect")
    (sentence,) = str(caught.value).splitlines()
    return sentence


def test_an_extractor_without_a_defect_passes(load: Callable[[str], None]) -> None:
    load(EXTRACTOR)
    testing.check_extractor("defect")


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_broken_extractor_is_one_sentence(load: Callable[[str], None], defect: str) -> None:
    whole, broken, words = DEFECTS[defect]
    assert EXTRACTOR.count(whole) == 1
    if defect == "top level":  # looked for in a process of its own, once per plugin
        testing.heavy_imports.cache_clear()
    load(EXTRACTOR.replace(whole, broken))
    sentence = sentence_of(testing.check_extractor)
    if defect == "top level":
        testing.heavy_imports.cache_clear()
    assert sentence.startswith("extractor 'defect': ")
    assert words in sentence, sentence


class Nothing(zoo.ComponentConfig):
    """Nothing to set."""


def spec(kind: type[zoo.HeadSpec], build: Callable[..., object]) -> zoo.HeadSpec:
    presets = {"paper": Nothing(), "tiny": Nothing()}
    words = {"summary": "s", "source": "s", "license": "MIT"}
    return kind(name="defect", config_class=Nothing, build=build, presets=presets, **words)


@pytest.fixture
def register() -> Iterator[Callable[[str, object], None]]:
    """Register a component as if a built-in plugin had brought it."""

    def register(kind: str, spec: object) -> None:
        getattr(registry(), kind)["defect"] = spec
        registry().plugins[f"{kind} defect"] = "folder"

    yield register
    registry.cache_clear()


class Max(zoo.Aggregator):
    """A maximum over positions; ``part`` breaks it."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    def forward(self, features: Tensor) -> Tensor:
        return features.mean() if self.part == "shape" else features.amax(2)


class Backwards(zoo.Aggregator):
    """Gives the last time step first."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(2).flip(1)


class FixedHead(zoo.Head):
    """Reads 14 segments, whatever it was told."""

    def __init__(self, given: zoo.HeadInput, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(14 * given.audio.steps, classes)

    def forward(self, audio: Tensor, vision: Tensor) -> Tensor:
        return self.linear(audio.mean(2))


class TimeHead(zoo.Head):
    """Forgets that there may be several tokens per time step."""

    def __init__(self, given: zoo.HeadInput) -> None:
        super().__init__()
        length = given.layout.num_segments * given.audio.steps
        self.linear = nn.Linear(length, given.grid.num_classes)

    def forward(self, audio: Tensor, vision: Tensor) -> Tensor:
        return self.linear(audio.mean(2))


class Loss(zoo.Objective):
    """Not quite a loss."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def forward(self, audio_tower, vision_tower, batch, gather):
        audio = audio_tower(batch.audio.flatten(0, 1)).mean((1, 2))
        vision = vision_tower(batch.vision.flatten(0, 1)).mean((1, 2))
        if self.key == "detached":
            return {"loss": (audio - vision).square().mean().detach()}
        return {self.key: (audio - vision).square()}


class Silent(zoo.DatasetAdapter):
    """Finds nothing and says nothing."""

    def scan(self, videos: Path) -> Iterator[zoo.ClipRecord]:
        yield from []


@pytest.mark.parametrize(
    ("kind", "build", "words"),
    [
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
            "for 3 tokens per time step, as --aggregator none gives them: forward fails: Runtime",
        ),
        ("objectives", lambda config: Loss("cost"), "gives no 'loss', but ['cost']"),
        ("objectives", lambda config: Loss("loss"), "'loss' has the shape (6,), not ()"),
        ("objectives", lambda config: Loss("detached"), "the loss does not depend on the towers"),
        ("datasets", lambda config: Silent(), "finds 0 clips in"),
        ("datasets", lambda config: None, "must inherit zoo.DatasetAdapter"),
    ],
)
def test_every_kind_is_checked(
    register: Callable[[str, object], None], kind: str, build: Callable[..., object], words: str
) -> None:
    class_of = {
        "aggregators": zoo.AggregatorSpec,
        "heads": zoo.HeadSpec,
        "objectives": zoo.ObjectiveSpec,
        "datasets": zoo.DatasetSpec,
    }
    register(kind, spec(class_of[kind], build))
    sentence = sentence_of(testing.CHECKS[kind])
    assert sentence.startswith(f"{kind.removesuffix('s')} 'defect': ")
    assert words in sentence, sentence


def test_an_aggregator_that_keeps_positions_gives_them_all(
    register: Callable[[str, object], None],
) -> None:
    one_per_step = spec(zoo.AggregatorSpec, lambda config, given: Max("whole"))
    register("aggregators", replace(one_per_step, keeps_positions=True))
    words = "forward: declared (3, 72, 64), gives (3, 6, 64)"
    assert words in sentence_of(testing.check_aggregator)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audio": "s3d"}, "pair 'defect': audio extractor: 's3d' reads vision"),
        ({"vision": "s3e"}, "vision extractor fails: unknown extractor 's3e'; did you mean 's3d'"),
        ({"summary": ""}, "has no summary"),
        ({"head": "snyc"}, "preset 'paper', on the device 'meta' fails: unknown head 'snyc'"),
        ({"aggregator": "none"}, "head 'correlation' takes one token per time step, and the audio"),
        ({"stage2": {"small": {}}}, "stage 2 settings for presets there are not: ['small']"),
        (
            {"layout": zoo.SegmentLayout(segment_s=0.52)},
            "the audio extractor 'ast' reads segments of 0.64 s, but the layout has 0.52 s",
        ),
    ],
)
def test_a_broken_pair_is_one_sentence(
    register: Callable[[str, object], None], changes: dict[str, object], words: str
) -> None:
    pair = zoo.PairSpec(name="defect", summary="s", audio="ast", vision="s3d")
    register("pairs", replace(pair, **changes))  # type: ignore[arg-type]
    sentence = sentence_of(testing.check_pair)
    assert sentence.startswith("pair 'defect': ")
    assert words in sentence, sentence


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


def tower_of(extractor: str) -> ExtractorEncoder:
    config = registry().extractor(extractor).presets["tiny"].model_dump(mode="json")
    component = Component(name=extractor, config=config)
    return ExtractorEncoder(
        ModalityConfig(extractor=component, aggregator=Component(name="mean")), "audio"
    )


def test_a_model_names_the_plugin_whose_output_has_another_shape(
    load: Callable[[str], None],
) -> None:
    load(EXTRACTOR.replace("dim=8)", "dim=9)"))
    words = r"^extractor 'defect' declares \('N', 2, 1, 9\) and gives \(3, 2, 1, 8\); see: zoo plu"
    with pytest.raises(PluginError, match=words):
        tower_of("defect")(torch.zeros(3, 8, 66))


def test_a_model_names_the_plugin_that_cannot_be_built(load: Callable[[str], None]) -> None:
    load(EXTRACTOR.replace("return Net()", "return open('none.pt')"))
    words = r"^extractor 'defect' cannot be built: FileNotFoundError: .*none.pt.* \(broken.py, line"
    with pytest.raises(PluginError, match=words):
        tower_of("defect")
