"""The protocol ``retrieval``: which video goes with an audio, and back, among all clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model, read_description
from zoo.data.manifest import Clip, Manifest
from zoo.data.subset import match_ids, read_ids
from zoo.errors import ManifestError
from zoo.evaluation.bootstrap import interval, mean_intervals
from zoo.evaluation.evaluation_request import Request, refuse_sampling
from zoo.evaluation.protocol import WAYS, Protocol
from zoo.evaluation.retrieval_view import RetrievalView
from zoo.evaluation.views import Evaluation
from zoo.files import sha256_of
from zoo.models.device import find_device
from zoo.retrieval.embedding import ClipEmbedder, embed_clips
from zoo.retrieval.ranking import (
    CUTS,
    chance_of,
    count_before,
    mean_ranks,
    published_scores,
    recall,
    score_ranks,
)

Progress = Callable[[int, int], None]
WRONG_PAIRS = "wrong pairs"
WORKERS = 2  # clips at a time
LARGEST_PLOT = 200  # clips whose similarities are kept in the report, to be drawn
DIGITS = 4  # of those


def evaluate_retrieval(
    request: Request, protocol: Protocol, progress: Progress | None = None
) -> Evaluation:
    """Embed every clip's audio and video by themselves, and rank all clips for each.

    Args:
        request: what and how.
        protocol: the one of this name.
        progress: is told how many embeddings are done, and of how many.

    Raises:
        ZooError: if the model, the manifest or the subset cannot be used, or an option has no
            meaning here.
    """
    refuse_sampling(request, "retrieval compares whole clips")
    folder = resolve(request.model)
    model = load_model(folder).to(find_device(request.device))
    embedder = ClipEmbedder(model, request.model)
    split = request.split or protocol.split
    manifest = Manifest.read(request.data)
    clips, notes = list(manifest.select(split).clips), list[str]()
    num_of_split = len(clips)
    if request.subset is not None:
        clips, notes = _choose(clips, request, split)
    if embedder.note is not None:
        notes.append(embedder.note)
    vectors, used, left_out = _embed(embedder, clips, progress)
    if len(used) < 2:
        reason = next(iter(left_out.values()), "the manifest has only one")
        raise ManifestError(f"retrieval needs two clips or more; the first is left out: {reason}")
    similarity = vectors["audio"] @ vectors["vision"].T
    scores = score_similarity(similarity, request.seed)
    if not request.with_controls:
        scores["controls"] = {}
    report = {
        "model": request.model,
        "protocol": request.protocol,
        "subset": None if request.subset is None else request.subset.name,
        "subset_sha256": None if request.subset is None else sha256_of(request.subset),
        "split": split,
        "seed": request.seed,
        "task": "retrieval",
        "rounds": None,
        "model_sha256": read_description(folder).get("sha256"),
        "manifest_sha256": manifest.sha256,
        "num_clips": len(used),
        "num_clips_of_split": num_of_split,
        **scores,
        **_by_clip([clips[i] for i in used], similarity),
        "notes": [*notes, *scores["notes"]],
        "left_out": {str(clips[i].path): why for i, why in sorted(left_out.items())},
    }
    return Evaluation(report, RetrievalView())


def _choose(clips: list[Clip], request: Request, split: str) -> tuple[list[Clip], list[str]]:
    """Return the clips of the subset, and what to say about those that are not there."""
    assert request.subset is not None
    ids = read_ids(request.subset)
    found, missing = match_ids(clips, ids, str(request.subset))
    notes = []
    if missing:
        notes = [
            f"{len(missing)} of {len(ids)} ids of {request.subset.name} have no {split} clip "
            f"(the first: {missing[0]})"
        ]
    return [clips[i] for i in found], notes


def _embed(
    embedder: ClipEmbedder, clips: Sequence[Clip], progress: Progress | None
) -> tuple[dict[str, np.ndarray], list[int], dict[int, str]]:
    """Return vectors ``(N, E)``, the clips that have both, and why others are left out."""
    numbers = {clip.path: i for i, clip in enumerate(clips)}
    jobs = [(clip.path, modality) for clip in clips for modality in WAYS.values()]
    found: dict[str, dict[int, np.ndarray]] = {"audio": {}, "vision": {}}
    left_out: dict[int, str] = {}
    for done, (path, modality, given) in enumerate(embed_clips(embedder, jobs, WORKERS), start=1):
        if isinstance(given, np.ndarray):
            found[modality][numbers[path]] = given
        else:
            left_out[numbers[path]] = str(given)
        if progress is not None:
            progress(done, len(jobs))
    both = sorted(found["audio"].keys() & found["vision"].keys())
    stacked = {m: np.stack([rows[i] for i in both]) for m, rows in found.items()} if both else {}
    return stacked, both, left_out


def score_similarity(similarity: np.ndarray, seed: int) -> dict[str, Any]:
    """Score a matrix of similarities both ways.

    Args:
        similarity: ``(N, N)``, audio in rows, video in columns; clip i belongs to clip i.
        seed: of the intervals.

    Returns:
        ``pooled`` scores, their 95 % ``interval`` over queries, ``chance``, and ``controls``, in
        which the right clip is taken to be another one; and ``notes`` about ties.
    """
    scores: dict[str, Any] = {"pooled": {}, "interval": {}, "chance": {}, "notes": []}
    shifted: dict[str, float] = {}
    for way in WAYS:
        queries = similarity if way == "audio_to_video" else similarity.T
        before, level = count_before(queries)
        scores["pooled"] |= _named(way, score_ranks(before, level))
        scores["interval"] |= _named(way, _intervals(before, level, seed))
        scores["chance"] |= _named(way, chance_of(len(queries)))
        shifted |= _named(
            way, score_ranks(*count_before(np.roll(queries, len(queries) // 2, axis=0)))
        )
        if level.any():
            scores["notes"].append(_describe_ties(way, before, level))
    return {**scores, "controls": {WRONG_PAIRS: shifted}}


def _named(way: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{way}_{name}": value for name, value in scores.items()}


def _intervals(before: np.ndarray, level: np.ndarray, seed: int) -> dict[str, Any]:
    queries = np.arange(len(before))
    found = mean_intervals({f"r{k}": recall(before, level, k) for k in CUTS}, queries, seed) or {}
    ranks = mean_ranks(before, level)
    median = interval(lambda times: float(np.median(np.repeat(ranks, times))), queries, seed)
    return {**found, "median": median}


def _describe_ties(way: str, before: np.ndarray, level: np.ndarray) -> str:
    published, entries = published_scores(before, level)
    return (
        f"{way.replace('_', ' ')}: {int((level > 0).sum())} of {len(level)} queries have clips on "
        f"a level with the right one, here in random order; the published code counts {entries} "
        f"entries, R@1 {published['r1']:.1%}"
    )


def _by_clip(clips: Sequence[Clip], similarity: np.ndarray) -> dict[str, Any]:
    """Return ranks by clip, and the similarities to draw where they are few."""
    # Classes side by side, where there are some.
    order = sorted(range(len(clips)), key=lambda i: (clips[i].all_labels, i))
    ranks = {
        way: mean_ranks(*count_before(rows))
        for way, rows in zip(WAYS, (similarity, similarity.T), strict=True)
    }
    queries = [
        {"clip": str(clips[i].path), "labels": list(clips[i].all_labels)}
        | {way: float(ranks[way][i]) for way in WAYS}
        for i in order
    ]
    kept = None
    if len(clips) <= LARGEST_PLOT:
        kept = similarity[np.ix_(order, order)].round(DIGITS).tolist()
    return {"queries": queries, "similarity": kept}
