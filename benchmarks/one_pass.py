"""Does reading take time in proportion to a clip's length, whatever its key frames and index?

    python benchmarks/one_pass.py [--lengths 60 120 240]

The same film three times: a key frame per second, one key frame, and no index and no length (a
recording that a browser or a broken-off program left).  Processor seconds of decoding it in windows
of 4.8 s that open the file anew, of the same in one pass, of a prediction, of features and of the
feature store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import results
from benchmarks.common.predict_once import predictor
from benchmarks.common.timing import cpu_seconds
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.data.manifest import Clip
from zoo.data.store import store_config
from zoo.data.store_build import build_store
from zoo.evaluation.members import reader_of
from zoo.features.encoding import FeatureExtractor
from zoo.features.feature_settings import build_settings
from zoo.media import ClipInfo, Decoder, decode, encode, probe
from zoo.models.model import Model

LENGTHS_S, WINDOW_S = (60.0, 120.0, 240.0), 4.8
FPS, SIZE, BASE_S = 25, 64, 10.0
MODEL = "tiny-synthetic"
KINDS: dict[str, dict[str, Any]] = {
    "key frame per second": {"suffix": ".mp4", "gop": FPS},
    "one key frame": {"suffix": ".mp4", "gop": 1_000_000},
    "no index": {"suffix": ".mkv", "gop": FPS, "container_options": {"live": "1"}},
}


def main() -> None:
    parser = results.parser(__doc__, "one_pass", rounds=1)
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS_S, help="seconds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        base = _base(Path(name))
        for length_s in options.lengths:
            for kind in KINDS:
                clip = write(base, kind, length_s, Path(name))
                works = works_on(clip, Path(name))
                seconds = {work: timed(do, options.rounds) for work, do in works.items()}
                rows.append({"kind": kind, "clip_s": length_s, "cpu_s": seconds})
                print(rows[-1])
                clip.unlink()
    results.write(options.out, torch.device("cpu"), {"rows": rows})


def _base(folder: Path) -> Path:
    config = SyntheticConfig(seed=3, size=SIZE, seconds=BASE_S)
    return render_folder(folder / "base", config, 1, {"train": 1}, workers=1).clips[0].path


def write(base: Path, kind: str, length_s: float, folder: Path) -> Path:
    """Write the base again and again, up to a length."""
    window, how = decode(base), dict(KINDS[kind])
    assert window.frames is not None
    assert window.samples is not None
    path = folder / f"clip{how.pop('suffix')}"
    num = round(length_s * FPS)
    frames = (window.frames[number % len(window.frames)] for number in range(num))
    samples = np.resize(window.samples, num * window.sample_rate_hz // FPS)
    encode(path, frames, samples, fps=FPS, video_options={"sc_threshold": "0"}, **how)
    return path


def works_on(clip: Path, folder: Path) -> dict[str, Callable[[], object]]:
    """Return all that is timed, by its name."""
    offsets = predictor(MODEL, "fp32")
    model = offsets.model
    extractor = FeatureExtractor(model, build_settings(model, MODEL, ""))
    info = probe(clip)
    assert info.audio is not None
    row = Clip(clip, "test", info.common_s, FPS, SIZE, SIZE, info.audio.sample_rate_hz, 1)
    return {
        "anew": lambda: [decode(clip, start_s=s, duration_s=WINDOW_S) for s in starts(info)],
        "windows": lambda: in_one_pass(clip, info),
        "predict": lambda: offsets.predict(clip),
        "features": lambda: extractor.write(clip, folder / "features.safetensors"),
        "store": lambda: store(row, model, folder),
    }


def store(clip: Clip, model: Model, folder: Path) -> None:
    """Build a feature store of one clip."""
    config = store_config(model, "float16")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        list(build_store(Path(name), model, reader_of(model), [clip], config, model.device))


def in_one_pass(clip: Path, info: ClipInfo) -> None:
    """Decode all windows, each where the one before it ended."""
    with closing(Decoder(clip)) as decoder:
        for start_s in starts(info):
            decoder.window(start_s, WINDOW_S)


def starts(info: ClipInfo) -> Iterator[float]:
    """Yield where windows start, side by side, seconds."""
    for number in range(int(info.common_s / WINDOW_S)):
        yield round(number * WINDOW_S, 6)


def timed(work: Callable[[], object], rounds: int) -> float:
    """Return the fewest processor seconds."""
    found = []
    for _ in range(rounds):
        started = cpu_seconds()
        work()
        found.append(cpu_seconds() - started)
    return round(min(found), 3)


if __name__ == "__main__":
    main()
