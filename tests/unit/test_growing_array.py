"""Arrays that are written part by part, and the cache of decoded clips, which is."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zoo.data import clip_reader
from zoo.data.clip_reader import ClipReader
from zoo.data.growing_array import GrowingArray
from zoo.data.manifest import Manifest


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_the_file_is_the_one_that_numpy_saves(tmp_path: Path, dtype: str) -> None:
    values = np.arange(60, dtype="float32").reshape(10, 2, 3)
    with closing(GrowingArray(tmp_path / "parts.npy", dtype)) as array:
        for part in (values[:4], values[4:5], values[5:]):
            array.append(part)
        array.finish()
    np.save(tmp_path / "whole.npy", values.astype(dtype))
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_rows_in_any_order_count_once_they_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"
    with closing(GrowingArray(file)) as array:
        array.write(0, np.full((3, 2), 9.0))  # of a clip that turns out to be damaged
        array.write(2, np.full((1, 2), 2.0))
        array.write(0, np.array([[0.0, 0.0], [1.0, 1.0]]))
        array.num_rows += 3
        array.write(0, np.full((5, 2), 9.0))
        array.finish()
    assert np.load(file, mmap_mode="r").tolist() == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]


def test_no_rows_are_no_file(tmp_path: Path) -> None:
    for rows in (None, np.zeros((3, 2))):
        array = GrowingArray(tmp_path / "none.npy")
        if rows is not None:
            array.write(0, rows)
        array.finish()
    assert not list(tmp_path.iterdir())


def test_a_clip_enters_the_cache_part_by_part(
    clips: Manifest, reader: ClipReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cached = clips.clips[0].path, replace(reader, cache=tmp_path)
    monkeypatch.setattr(clip_reader, "CACHED_AT_ONCE_S", 2.0)
    parts: list[int] = []
    read = ClipReader.read_vision

    def counted(self: ClipReader, path: Path, start_s: float, length_s: float) -> np.ndarray:
        frames = read(self, path, start_s, length_s)
        parts.extend([len(frames)] if self.cache is None else [])
        return frames

    monkeypatch.setattr(ClipReader, "read_vision", counted)
    frames = cached.read_vision(path, 0.0, 9.0)
    assert parts == [50, 50, 50, 50, 25]
    assert np.array_equal(frames, reader.read_vision(path, 0.0, 9.0))
    assert np.array_equal(cached.read_audio(path, 0.0, 9.0), reader.read_audio(path, 0.0, 9.0))


def test_a_film_whose_size_changes_keeps_its_first_size_in_the_cache(tmp_path: Path) -> None:
    wide = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None], (2, 4, 8, 3))
    clip_reader._save_atomically(tmp_path / "a.npy", [np.zeros((3, 4, 6, 3), np.uint8), wide])
    frames = np.load(tmp_path / "a.npy")
    assert frames.shape == (5, 4, 6, 3)
    assert frames[4, 0, :, 0].tolist() == [1, 2, 3, 4, 5, 6]
