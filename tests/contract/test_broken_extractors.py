"""Every defect of an extractor is one sentence that names it, and rates of all kinds pass."""

from collections.abc import Callable

import pytest
import torch
from defects import sentence_of

from zoo import testing
from zoo.errors import PluginError
from zoo.models.config import Component, ModalityConfig
from zoo.models.two_tower import ExtractorEncoder
from zoo.registry.manager import registry

EXTRACTOR = '''
from pydantic import Field
from zoo.errors import ConfigError
import zoo


class Config(zoo.ExtractorConfig):
    """Nothing to set."""

    frontend: zoo.LogMel = zoo.LogMel(n_mels=8)

    def feature_map(self):
        times_s = (share * self.segment_s for share in (0.25, 0.75))
        return zoo.FeatureMap(times_s=tuple(times_s), positions=1, dim=8)


def build(config):
    import torch
    from torch import nn

    class Net(zoo.Extractor):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, segments):
            halves = segments.tensor_split(2, 2)
            x = torch.stack([half.mean(2) for half in halves], 1)  # (N, 2, F)
            x = self.linear(x).unsqueeze(2)
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
    "order of times": ("(0.25, 0.75)", "(0.75, 0.25)", "preset 'paper': time steps do not rise"),
    "late time": ("(0.25, 0.75)", "(0.25, 4.0)", "a time step lies after the segment"),
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
        "return x.flip(1)\n",
        " s, but times_s says 0.16, 0.48 s",
    ),
    "squeezed times": (
        "(0.25, 0.75)",
        "(0.0625, 0.1)",
        " s, but times_s says 0.04, 0.06 s",
    ),
    "modality": ('"audio"', '"sound"', "reads 'sound'; the modalities are audio and vision"),
    "front end of the other modality": (
        "frontend: zoo.LogMel = zoo.LogMel(n_mels=8)",
        "frontend: zoo.Frames = zoo.Frames()",
        "reads audio and has the front end Frames, not zoo.LogMel or zoo.Spectrogram",
    ),
    "length in milliseconds": (
        FIELD,
        "    segment_s: float = Field(960.0, description='length')\n" + FIELD,
        "reads segments of 960 s; segment_s is in seconds, at most 60",
    ),
    "silence": (
        RETURN,
        "return x / segments[:, :, :8].std((1, 2), keepdim=True).unsqueeze(3)\n",
        "on silence: the output is not finite",
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
        "(0.25, 0.75)",
        "((0.25, 0.5, 0.75) if self.segment_s > 1 else (0.25, 0.75))",
        "rebuilt for segments of 1.28 s: declared (2, 3, 1, 8)",
    ),
}


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


VIDEO = (
    EXTRACTOR.replace('modality="audio"', 'modality="vision"')
    .replace("frontend: zoo.LogMel = zoo.LogMel(n_mels=8)", "frontend: zoo.Frames = FRAMES")
    .replace("nn.Linear(8, 8)", "nn.Linear(3, 8)")
    .replace("half.mean(2)", "half.mean((2, 3, 4))")
    .replace("class Config(", "FRAMES = zoo.Frames(size=8, short_side=8)\n\n\nclass Config(")
)
PIXELS = {
    "mean=127.5": "subtracts mean=127.5 from pixels in 0..1",
    "mean=(0.5, 0.5, -1.0)": "subtracts mean=-1 from pixels in 0..1",
    "std=127.5": "divides pixels in 0..1 by std=127.5, which leaves 0.0078 between white and bl",
}


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 50, 60])
def test_extractors_of_any_frame_rate_pass(load: Callable[[str], None], fps: float) -> None:
    segment_s = round(16 / fps, 9)
    rate = f"zoo.Frames(fps={fps}, size=8, short_side=8)"
    length = f"    segment_s: float = Field({segment_s}, description='length')\n"
    text = VIDEO.replace("zoo.Frames(size=8, short_side=8)", rate).replace(FIELD, length + FIELD)
    load(text)
    testing.check_extractor("defect")


@pytest.mark.parametrize("setting", PIXELS)
def test_pixels_in_another_range_are_refused(load: Callable[[str], None], setting: str) -> None:
    load(VIDEO.replace("zoo.Frames(size=8", f"zoo.Frames({setting}, size=8"))
    assert PIXELS[setting] in sentence_of(testing.check_extractor)


MASKABLE = """

    class Net(zoo.MaskableExtractor):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def patchify(self, segments):
            halves = segments.tensor_split(2, 2)
            return torch.stack([half.mean(2) for half in halves], 1)  # (N, 2, F)

        def encode(self, patches, keep):
            patches = patches.gather(1, keep.unsqueeze(2).expand(-1, -1, 8))
            return self.linear(patches)

        def targets(self, segments):
            return self.patchify(segments)

        def forward(self, segments):
            patches = self.patchify(segments)
            everything = torch.arange(2).expand(len(patches), -1).to(patches.device)
            return self.encode(patches, everything).unsqueeze(2)

"""
UNMASKED = {
    "unkept": ("return self.linear(patches)", "return self.linear(patches + rest)", "depends on"),
    "order": (
        "return self.patchify(segments)\n",
        "return self.patchify(segments).flip(1)\n",
        "masked: targets: time steps react to what happens at ",
    ),
    "forward": (
        "everything).unsqueeze(2)",
        "everything).unsqueeze(2) * 2",
        "masked: encode of all patches: differs from forward",
    ),
    "number of patches": ("], 1)", "][:1], 1)", "forward fails"),
}


def maskable(old: str = "", new: str = "") -> str:
    whole = MASKABLE.replace(old, new) if old else MASKABLE
    start, end = EXTRACTOR.index("    class Net("), EXTRACTOR.index("    return Net()")
    return EXTRACTOR[:start] + whole.lstrip("\n") + EXTRACTOR[end:]


def test_a_maskable_extractor_passes(load: Callable[[str], None]) -> None:
    load(maskable())
    testing.check_extractor("defect")


@pytest.mark.parametrize("defect", UNMASKED)
def test_what_does_not_mask_is_one_sentence(load: Callable[[str], None], defect: str) -> None:
    old, new, words = UNMASKED[defect]
    assert MASKABLE.count(old) == 1
    text = maskable(old, new)
    if defect == "unkept":
        gather = "            patches = patches.gather("
        mean = "            rest = patches.mean(1, keepdim=True)\n"
        text = text.replace(gather, mean + gather)
    load(text)
    assert words in sentence_of(testing.check_extractor)


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
