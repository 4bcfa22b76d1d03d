"""Finding the clips of a folder whose video goes with a sound, or whose sound goes with a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.catalog.entries import read_description, resolve
from zoo.catalog.model_folder import load_model
from zoo.contracts import Modality
from zoo.data.find import find_audios, find_videos
from zoo.errors import ConfigError, ManifestError, MediaError, option
from zoo.models.device import find_device
from zoo.retrieval.embedding import KIND, ClipEmbedder, MissingStreamError
from zoo.retrieval.index import Entry, Index, default_home

Find = Literal["video", "audio"]
WANTED: dict[Find, Modality] = {"video": "vision", "audio": "audio"}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Hit:
    """A clip that was found.

    Attributes:
        path: the file.
        similarity: cosine of its embedding and the query's, -1 to 1.
    """

    path: Path
    similarity: float


@dataclass(frozen=True)
class Retrieval:
    """What was found for a query.

    Attributes:
        model: its name.
        query: the file.
        find: whether videos or audios were looked for.
        folder: where.
        hits: the most similar files, best first, without the query itself.
        own_rank: where the query's own file stands among all, from 1; None if it is not in there.
        num_searched: files with an embedding.
        without_stream: files that lack the stream.
        failed: files that cannot be used, each with the reason.
        index: folder of the index.
        num_new: files that were read for this search.
        num_gone: files that were forgotten.
        note: what is doubtful about the answer.
    """

    model: str
    query: Path
    find: Find
    folder: Path
    hits: list[Hit]
    own_rank: int | None
    num_searched: int
    without_stream: list[Path]
    failed: dict[Path, str]
    index: Path
    num_new: int
    num_gone: int
    note: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as JSON types."""
        hits = [
            {"rank": rank, "path": str(hit.path), "similarity": round(hit.similarity, 6)}
            for rank, hit in enumerate(self.hits, start=1)
        ]
        return {
            **vars(self),
            **{name: str(getattr(self, name)) for name in ("query", "folder", "index")},
            "hits": hits,
            "without_stream": [str(path) for path in self.without_stream],
            "failed": [{"path": str(path), "error": why} for path, why in self.failed.items()],
        }


def retrieve(
    model: str | Path,
    query: str | Path,
    folder: str | Path,
    *,
    find: Find = "video",
    top: int = 5,
    index: str | Path | None = None,
    device: str = "cpu",
    workers: int = 2,
    progress: Progress | None = None,
) -> Retrieval:
    """Find the clips of a folder that go with a query.

    Args:
        model: catalog name or model folder; a head is not needed.
        query: the sound to find videos for, an audio file or a clip; or the video to find sounds
            for.
        folder: clips to look among, searched recursively.
        find: ``video`` compares the query's audio with the videos, ``audio`` its video with the
            audios.
        top: how many hits.
        index: its folder; by default below ``$ZOO_HOME``.
        device: where to compute.
        workers: clips at a time.
        progress: is told how many files are read, and of how many.

    Raises:
        ConfigError: if the encoder needs both modalities at once, or the index cannot be used.
        MediaError: if the query cannot be read or lacks its stream.
        ManifestError: if not one file of the folder can be used.
    """
    if top < 1:
        raise ConfigError(f"{option('top')} {top}: ask for one hit at least")
    query, folder, name, source = Path(query), Path(folder), str(model), resolve(model)
    files = find_videos(folder) if find == "video" else find_audios(folder)
    embedder = ClipEmbedder(load_model(source).to(find_device(device)), name)
    vector = _embed_query(embedder, query, find)
    fingerprint = embedder.fingerprint(read_description(source))
    kept = _open_index(fingerprint, folder, find, name, index)
    update = kept.update(files, embedder, workers, progress)
    found = {file: kept.entry_of(file) for file in files}
    usable = _usable(found, folder)
    hits, own_rank = _rank(vector, usable, query)
    return Retrieval(
        model=name,
        query=query,
        find=find,
        folder=folder,
        hits=hits[:top],
        own_rank=own_rank,
        num_searched=len(usable),
        without_stream=[file for file, entry in found.items() if not entry.has_stream],
        failed={f: e.problem for f, e in found.items() if e.problem and e.has_stream},
        index=kept.file.parent,
        num_new=update.num_new,
        num_gone=update.num_gone,
        note=embedder.note,
    )


def _embed_query(embedder: ClipEmbedder, query: Path, find: Find) -> np.ndarray:
    """Embed the modality of the query that is not looked for."""
    modality: Modality = "audio" if find == "video" else "vision"
    try:
        return embedder.embed(query, modality)
    except MissingStreamError as error:
        other: Find = "audio" if find == "video" else "video"
        raise MediaError(
            f"{error}, and {KIND[modality]} is what {find}s are looked for with",
            f"choose another query, or {option('find')} {other}",
        ) from None


def _open_index(
    fingerprint: str, folder: Path, find: Find, name: str, index: str | Path | None
) -> Index:
    home = default_home(folder, fingerprint) if index is None else Path(index)
    return Index(home, WANTED[find], folder, name, fingerprint)


def _usable(found: dict[Path, Entry], folder: Path) -> dict[Path, np.ndarray]:
    """Return the embeddings that there are.

    Raises:
        ManifestError: if there is none.
    """
    usable = {file: entry.vector for file, entry in found.items() if entry.vector is not None}
    if not usable:
        first, entry = next(iter(found.items()))
        raise ManifestError(
            f"not one of {len(found)} files in {folder} can be used; the first, {first.name}: "
            f"{entry.problem}"
        )
    return usable


def _rank(
    vector: np.ndarray, usable: dict[Path, np.ndarray], query: Path
) -> tuple[list[Hit], int | None]:
    """Return all files but the query, most similar first, and where the query's own file stands."""
    files = list(usable)
    similarity = np.stack(list(usable.values())) @ vector
    order = np.argsort(-similarity, kind="stable")
    hits = [Hit(files[i], float(similarity[i])) for i in order]
    own = next((file for file in files if file.resolve() == query.resolve()), None)
    own_rank = next((rank for rank, hit in enumerate(hits, start=1) if hit.path == own), None)
    return [hit for hit in hits if hit.path != own], own_rank
