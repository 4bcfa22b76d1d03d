"""A folder of synthetic clips: rendered in parallel, resumed, and read back."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import zoo
from plugins.synthetic.config import SAMPLE_RATE_HZ, SyntheticConfig
from zoo.data.manifest import Clip, Manifest
from zoo.errors import ManifestError
from zoo.files import write_whole

Split = Literal["train", "valid", "test"]

RECIPE = "recipe.json"
LABELS = "labels.jsonl"
MANIFEST = "manifest.parquet"
GOLDEN = 0.618033988749895


def split_of(index: int, shares: dict[Split, float]) -> Split:
    """Return the split of a clip or of a round; it depends on its index and the shares only.

    Multiples of the golden ratio fill 0..1 evenly, so that the shares hold for any number of
    clips, and adding clips moves none from one split to another.
    """
    at = (index * GOLDEN) % 1.0 * sum(shares.values())
    for split, share in shares.items():
        at -= share
        if at < 0:
            return split
    return next(reversed(shares))


def clip_path(folder: Path, index: int) -> Path:
    """Return where a clip of a folder lies."""
    return folder / "clips" / f"{index:06d}.mp4"


def render_folder(
    folder: Path,
    config: SyntheticConfig,
    num_clips: int,
    shares: dict[Split, float],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Render the clips that a folder lacks, and write labels and manifest.

    Args:
        folder: is made if it does not exist.
        config: recipe of the clips.
        num_clips: clips the manifest shall have.
        shares: share of every split.
        workers: processes; by default one per processor.
        progress: is told how many clips are done, of how many.

    Raises:
        ManifestError: if the folder holds clips of another recipe or cannot be written.
    """
    try:
        _claim(folder, config)
        missing = [i for i in range(num_clips) if not clip_path(folder, i).exists()]
        done = num_clips - len(missing)
        if progress:
            progress(done, num_clips)
        for _ in _render_all(folder, config, missing, workers):
            done += 1
            if progress:
                progress(done, num_clips)
        manifest = _describe(folder, config, num_clips, shares)
    except OSError as error:
        raise ManifestError(f"cannot write clips to {folder}: {error.strerror}") from error
    manifest.write(folder / MANIFEST)
    return manifest


def _claim(folder: Path, config: SyntheticConfig) -> None:
    """Write the recipe, or refuse a folder that belongs to another one."""
    recipe = folder / RECIPE
    if recipe.exists():
        found = json.loads(recipe.read_text())
        wanted = config.model_dump()
        changed = [
            f"{k} {found.get(k)} there, {v} here" for k, v in wanted.items() if found.get(k) != v
        ]
        if changed:
            raise ManifestError(
                f"{folder} holds clips of another recipe ({'; '.join(changed)}): "
                "use another folder, or delete this one"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ManifestError(f"{folder} exists and is not a folder of synthetic clips")
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    write_whole(recipe, config.model_dump_json(indent=2) + "\n")


def _render_all(
    folder: Path, config: SyntheticConfig, indices: list[int], workers: int | None
) -> Iterator[None]:
    jobs = [(config, index, clip_path(folder, index)) for index in indices]
    workers = min(workers or _num_processors(), len(jobs))
    if workers <= 1:
        yield from map(_render_one, jobs)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, context, initializer=_ignore_interrupt) as pool:
        try:
            yield from pool.map(_render_one, jobs, chunksize=4)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _render_one(job: tuple[SyntheticConfig, int, Path]) -> None:
    from plugins.synthetic import clip

    clip.write(*job)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _describe(
    folder: Path, config: SyntheticConfig, num_clips: int, shares: dict[Split, float]
) -> Manifest:
    from plugins.synthetic import clip

    folder = folder.absolute()
    clips, lines = [], []
    together = clip.round_size(config)
    for index in range(num_clips):
        truth = clip.describe(config, index)
        path, split = clip_path(folder, index), split_of(index // together, shares)
        clips.append(
            Clip(
                path=path,
                split=split,
                duration_s=config.duration_s,
                video_fps=float(truth.fps),
                width=config.size,
                height=config.size,
                sample_rate_hz=SAMPLE_RATE_HZ,
                channels=1,
                label=truth.label,
                events_s=tuple(truth.events_s),
                labels=truth.labels,
                events=truth.events,
            )
        )
        row: dict[str, object] = {
            "path": path.relative_to(folder).as_posix(),
            "seed": [config.seed, index],
            "split": split,
            "label": truth.label,
            "events_s": [round(t, 6) for t in truth.events_s],
        }
        if truth.events is not None:
            row |= {"labels": truth.labels, "events": truth.events, **(truth.decoys or {})}
        lines.append(json.dumps(row))
    write_whole(folder / LABELS, "\n".join(lines) + "\n")
    return Manifest(tuple(clips), folder, _classes_of(config))


def _classes_of(config: SyntheticConfig) -> tuple[str, ...]:
    """Return the events of lasting clips, of which a few clips may lack some."""
    from plugins.synthetic.lasting import CLASSES

    return CLASSES if config.kind == "events" else ()


class SyntheticFolder(zoo.DatasetAdapter):
    """Reads a folder that ``zoo data synth`` has written."""

    _classes: tuple[str, ...] = ()

    def classes(self) -> tuple[str, ...]:
        """Return the classes of lasting events, after a scan."""
        return self._classes

    def scan(self, videos: Path) -> Iterator[zoo.ClipRecord]:
        """Yield a record for every rendered clip.

        Raises:
            ManifestError: if the folder was not written by ``zoo data synth``.
        """
        labels = videos / LABELS
        if not labels.is_file():
            raise ManifestError(f"{videos} has no {LABELS}; render clips with: zoo data synth")
        recipe = videos / RECIPE
        if recipe.is_file():
            self._classes = _classes_of(
                SyntheticConfig(kind=json.loads(recipe.read_text())["kind"])
            )
        for line in labels.read_text().splitlines():
            row = json.loads(line)
            if row["split"] not in get_args(Split):
                raise ManifestError(f"{labels} has an unknown split '{row['split']}'")
            yield zoo.ClipRecord(
                path=videos / row["path"],
                split=row["split"],
                label=row["label"],
                events_s=tuple(row["events_s"]),
                labels=row.get("labels"),
                events=row.get("events"),
            )
