"""Many clips: those that are finished are skipped, those that cannot be used are listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.catalog.entries import read_description, resolve
from zoo.catalog.model_folder import load_model
from zoo.errors import ManifestError, MediaError
from zoo.features.clip_list import list_clips
from zoo.features.encoding import FeatureExtractor, Progress
from zoo.features.feature_folder import INDEX, FeatureFolder, NamedClip
from zoo.features.feature_settings import build_settings
from zoo.media.apart import reading_apart
from zoo.models.device import find_device
from zoo.models.model import require_separable


@dataclass(frozen=True)
class Result:
    """What a run did.

    Attributes:
        folder: where the files are, with ``index.json``.
        files: the file of every clip that has one, in the order of the clips.
        finished_before: how many of them were there already.
        failed: the clips that cannot be used, each with the reason; all that ever failed are in
            ``quarantine.csv``.
        num_bytes: size of the files.
    """

    folder: Path
    files: dict[Path, Path]
    finished_before: int
    failed: dict[Path, str]
    num_bytes: int

    @property
    def index(self) -> Path:
        """The index of the folder."""
        return self.folder / INDEX

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {
            "folder": str(self.folder),
            "clips": len(self.files) + len(self.failed),
            "files": {str(clip): str(file) for clip, file in self.files.items()},
            "finished_before": self.finished_before,
            "bytes": self.num_bytes,
            "failed": [{"path": str(clip), "error": why} for clip, why in self.failed.items()],
        }


def extract(
    model: str | Path,
    clips: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    lists: Iterable[str | Path] = (),
    preset: str | None = None,
    which: str | Sequence[str] | None = None,
    dtype: str | None = None,
    step_s: float | None = None,
    short_side: int | None = None,
    device: str = "cpu",
    workers: int = 2,
    progress: Progress | None = None,
) -> Result:
    """Write the segment tokens of clips, with their times, as safetensors.

    ``extract("tiny-synthetic", "clips", "tokens", which="vision_tokens", dtype="fp16")``

    Args:
        model: catalog name or model folder; a head is not needed.
        clips: files, folders, patterns, manifests.
        out: folder for a file per clip, ``index.json`` and ``quarantine.csv``; clips that are
            finished there and have not changed are skipped.
        lists: CSV files with a column ``path``.
        preset: ``v2a`` for what video-to-audio generators condition on.
        which: ``tokens``, ``features``, ``all``, or names of tensors; see docs/features.md.
        dtype: ``fp32``, ``fp16`` or ``bf16``.
        step_s: from one segment's start to the next, seconds; by default the model's own.
        short_side: of the frames before the crop, pixels; by default the model's own.
        device: where to compute.
        workers: clips at a time.
        progress: is told what is done and what there is: clips, or segments of a single clip.

    Raises:
        ModelError: if the model cannot be loaded.
        ConfigError: if the encoder looks at both modalities at once, a value does not fit, or
            ``out`` holds features of other settings.
        ManifestError: if there are no clips, or not one could be used.
    """
    named = list_clips([clips] if isinstance(clips, str | Path) else clips, lists)
    source = resolve(model)
    loaded = load_model(source).to(find_device(device))
    require_separable(loaded.encoder, str(model))
    settings = build_settings(
        loaded,
        str(model),
        read_description(source)["sha256"],
        preset=preset,
        which=which,
        dtype=dtype,
        step_s=step_s,
        short_side=short_side,
    )
    folder, extractor = FeatureFolder(Path(out), settings), FeatureExtractor(loaded, settings)
    return _fill(folder, extractor, named, workers, progress)


def _fill(
    folder: FeatureFolder,
    extractor: FeatureExtractor,
    clips: list[NamedClip],
    workers: int,
    progress: Progress | None,
) -> Result:
    """Write the files of the clips that have none yet."""
    files = folder.place(clips)
    todo = [clip for clip, file in files.items() if not folder.is_finished(file, clip)]
    failed = _extract_all(extractor, [(c, files[c]) for c in todo], len(files), workers, progress)
    done = {clip: file for clip, file in files.items() if clip not in failed}
    if not done:
        return _refuse(folder, failed)
    folder.finish(failed, list(files))
    num_bytes = sum(file.stat().st_size for file in done.values())
    return Result(folder.folder, done, len(files) - len(todo), failed, num_bytes)


def _refuse(folder: FeatureFolder, failed: dict[Path, str]) -> Result:
    clip, reason = next(iter(failed.items()))
    if len(failed) == 1:
        folder.discard()
        raise ManifestError(reason)
    folder.finish(failed, list(failed))
    raise ManifestError(
        f"not one of the {len(failed)} clips could be used; the first, {clip.name}: {reason}"
    )


def _extract_all(
    extractor: FeatureExtractor,
    todo: list[tuple[Path, Path]],
    num_clips: int,
    workers: int,
    progress: Progress | None,
) -> dict[Path, str]:
    """Extract clips in threads; return those that cannot be used, each with the reason."""
    reasons: dict[Path, str] = {}
    tell = progress or (lambda _done, _total: None)
    of_segments = tell if num_clips == 1 else None
    done = num_clips - len(todo)
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        with reading_apart():
            jobs = {pool.submit(extractor.write, *job, of_segments): job[0] for job in todo}
            for job in as_completed(jobs):
                done += 1
                try:
                    job.result()
                except MediaError as error:
                    reasons[jobs[job]] = str(error)
                if of_segments is None:
                    tell(done, num_clips)
    except BaseException:
        extractor.stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return {clip: reasons[clip] for clip, _ in todo if clip in reasons}
