"""What makes a resumed run end where an uninterrupted one does, without Ray."""

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.contracts import Frames, LogMel
from zoo.data.clips import ClipReader
from zoo.data.manifest import Clip
from zoo.data.sampling import slot_rng
from zoo.data.source import ClipSource
from zoo.errors import MediaError, TrainingError
from zoo.training.runlog import (
    METRICS,
    QUARANTINE,
    RunLog,
    quarantine,
    read_metrics,
    read_quarantine,
)


def source(num: int) -> ClipSource:
    clips = [Clip(Path(f"{i}.mp4"), "train", 9.0, 25, 64, 64, 16_000, 1) for i in range(num)]
    return ClipSource(clips, ClipReader(Frames(), LogMel()))


def test_rewinding_forgets_what_came_after_a_checkpoint_and_the_end(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for stage, step, kind in ((1, 5, "train"), (2, 0, "sliding"), (2, 4, "train"), (2, 8, "train")):
        log.write(stage, step, kind, loss=1.0)
    log.write(2, 0, "done")
    log.rewind(2, 4)
    assert [(r["stage"], r["step"]) for r in read_metrics(tmp_path)] == [(1, 5), (2, 0), (2, 4)]
    log.rewind(1, 9)
    assert [r["step"] for r in read_metrics(tmp_path)] == [5]
    log.close()


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(json.dumps({"stage": 1}) + '\n{"sta')
    assert read_metrics(tmp_path) == [{"stage": 1}]


def test_a_clip_is_quarantined_once(tmp_path: Path) -> None:
    for _ in range(2):
        quarantine(tmp_path, Path("a.mp4"), "cut short")
    assert len((tmp_path / QUARANTINE).read_text().splitlines()) == 1
    assert read_quarantine(tmp_path) == {"a.mp4": "cut short"}


def test_a_resumed_run_replaces_a_broken_clip_by_the_same_one() -> None:
    def read(clip: int, rng: np.random.Generator) -> tuple[int, float]:
        drawn = float(rng.random())
        if clip % 3 == 0:
            raise MediaError("broken")
        return clip, drawn

    def draw(clips: ClipSource, step: int) -> tuple[int, float]:
        rng = slot_rng(1, 1, step, 0)
        return clips.first_readable(step % 7, rng, lambda i: read(i, rng))

    whole, resumed = source(7), source(7)
    expected = [draw(whole, step) for step in range(20)]
    assert [draw(resumed, step) for step in range(9, 20)] == expected[9:]
    assert set(whole.broken) == {0, 3, 6}


def test_when_all_clips_are_broken_the_reason_is_given() -> None:
    def read(clip: int) -> None:
        raise MediaError(f"clip {clip} is cut short")

    clips = source(3)
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"not one clip could be read.*is cut short"):
            clips.first_readable(0, slot_rng(1, 1, 0, 0), read)
