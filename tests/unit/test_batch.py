"""The table of many clips."""

import csv
from pathlib import Path

import pytest

from zoo.catalog.entries import fingerprint, resolve
from zoo.catalog.model_folder import read_description
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ModelError
from zoo.inference.batch import predict_to_csv
from zoo.inference.batch_table import OFFSET_FIELDS, Options, Table

ANSWER = {"offset_s": "0.4", "meaning": "early, a bit"}


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def _table(file: Path, model: str = "m", sha256: str = "0a", overwrite: bool = False) -> Table:
    return _table_of(file, Options(step_s=0.04), model, sha256, overwrite)


def _table_of(
    file: Path,
    options: Options,
    model: str = "m",
    sha256: str = "0a",
    overwrite: bool = False,
) -> Table:
    return Table(
        file, OFFSET_FIELDS, model=model, sha256=sha256, options=options, overwrite=overwrite
    )


def test_a_table_appears_when_it_is_complete(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv")
    table.add({"path": "b.mp4", **ANSWER})
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv.part"]
    table.add({"path": "a.mp4", "error": "broken"})
    table.finish(["a.mp4", "b.mp4"])
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    rows = _rows(tmp_path / "t.csv")
    assert tuple(rows[0]) == OFFSET_FIELDS
    assert [(row["path"], row["error"]) for row in rows] == [("a.mp4", "broken"), ("b.mp4", "")]
    assert rows[1]["meaning"] == "early, a bit"
    assert rows[1]["options"] == "step_s=0.04"


@pytest.mark.parametrize(
    "cut", ["c.mp4,0.2,0.2", "c.mp4,0.2,0.2,0.9,0.9,ok,ok,,,9,,,tiny,0a,defau"]
)
def test_an_interrupted_table_goes_on_without_its_half_row(tmp_path: Path, cut: str) -> None:
    table = _table(tmp_path / "t.csv")
    for name in ("a.mp4", "b.mp4"):
        table.add({"path": name, **ANSWER})
    with (tmp_path / "t.csv.part").open("a") as file:
        file.write(cut)
    again = _table(tmp_path / "t.csv")
    assert list(again.rows) == ["a.mp4", "b.mp4"]
    again.add({"path": "c.mp4", **ANSWER})
    assert [row["path"] for row in _rows(tmp_path / "t.csv.part")] == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_finished_table_takes_more_clips(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv")
    table.add({"path": "a.mp4", **ANSWER})
    table.finish(["a.mp4"])
    more = _table(tmp_path / "t.csv")
    more.add({"path": "b.mp4", **ANSWER})
    more.finish(["b.mp4"])
    assert [row["path"] for row in _rows(tmp_path / "t.csv")] == ["a.mp4", "b.mp4"]


def test_rows_of_another_model_or_file_are_never_mixed_in(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv")
    table.add({"path": "a.mp4", **ANSWER})
    table.finish(["a.mp4"])
    with pytest.raises(ConfigError, match="holds rows of model 'm', not 'n'"):
        _table(tmp_path / "t.csv", model="n")
    with pytest.raises(ConfigError, match=r"rows of options 'step_s=0\.04', not 'default'"):
        _table_of(tmp_path / "t.csv", Options())
    with pytest.raises(ConfigError, match="holds rows of sha256 '0a', not '1b'"):
        _table(tmp_path / "t.csv", sha256="1b")
    (tmp_path / "other.csv").write_text("precious,numbers\n1,2\n")
    with pytest.raises(ConfigError, match="is no table of zoo predict"):
        _table(tmp_path / "other.csv")
    assert (tmp_path / "other.csv").read_text().startswith("precious")
    assert _table(tmp_path / "t.csv", model="n", overwrite=True).rows == {}


def test_a_table_needs_its_folder_and_its_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        _table(tmp_path / "nowhere" / "t.csv")
    with pytest.raises(ConfigError, match="is a folder"):
        _table(tmp_path)
    with pytest.raises(ModelError, match="nomodel"):
        predict_to_csv("nomodel", [tmp_path / "a.mp4"], tmp_path / "t.csv", Options())
    assert not list(tmp_path.iterdir())


def test_corrupt_clips_are_rows_and_a_run_goes_on(clips: Manifest, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a clip")
    good = [clip.path for clip in clips.clips[:2]]
    out = tmp_path / "t.csv"
    sha256 = fingerprint(read_description(resolve("tiny-synthetic")))
    table = _table_of(out, Options(), "tiny-synthetic", sha256)
    table.add({"path": str(good[0]), **ANSWER})
    calls: list[tuple[int, int]] = []
    counts = predict_to_csv(
        "tiny-synthetic",
        [bad, *good],
        out,
        Options(),
        workers=1,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert counts == {"clips": 3, "predicted": 2, "failed": 1, "there": 1}
    assert calls == [(2, 3), (3, 3)]
    rows = _rows(out)
    assert [row["path"] for row in rows] == [str(path) for path in (bad, *good)]
    assert "not a media file" in rows[0]["error"]
    assert rows[1]["meaning"] == "early, a bit"
    assert float(rows[2]["confidence"]) > 0.5


@pytest.mark.slow
def test_options_that_the_model_cannot_take_end_the_run(clips: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="own grid of offsets only"):
        predict_to_csv(
            "tiny-synthetic-sync",
            [clips.clips[0].path],
            tmp_path / "t.csv",
            Options(step_s=0.04),
            workers=1,
        )
    assert not list(tmp_path.glob("t.csv*"))
