"""``zoo desync`` over hard files: every clip has a score near the truth, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.cases.answers import NEAR_S, Answer
from tests.cases.expected import Rule
from tests.cases.generated import Cases
from zoo.desync import ClipScore, score
from zoo.errors import ZooError

CLASS_S = 0.2  # what one class of the model is
NO_SCORE = ("silence", "tone", "still")  # there is nothing to measure
SETS = {"a3": ("a3_*",), "a8": ("a8_*",), "a11": ("twin.mp4", "a11_[st]*")}
PAIRED = Rule("a12/*", "videos and sounds of all lengths, paired by name")
ALONE = Rule("a3, a8, a11", "the sound of the videos themselves")


def score_sets(
    cases: Cases, model: str, folder: Path, is_wanted: Callable[[str], bool]
) -> Iterator[Answer]:
    """Score the files whose own sound `zoo desync` is asked about, then the pairs of a12."""
    for name, patterns in SETS.items():
        files = [file for pattern in patterns for file in sorted(cases.folder.glob(pattern))]
        if not is_wanted(name) or not list(cases.folder.glob(patterns[-1])):
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            (folder / name / file.name).unlink(missing_ok=True)
            (folder / name / file.name).hardlink_to(file)
        yield _score(cases, model, Answer(name, ALONE), len(files), videos=folder / name)
    pairs = cases.folder / "a12"
    if is_wanted("a12") and pairs.exists():
        given = {"videos": pairs / "videos", "audios": pairs / "audios"}
        count = len(list(given["videos"].iterdir()))
        for mode in ("corrected", "published"):
            for duration_s in (8.0, 20.0):
                answer = Answer(f"a12, {mode}, {duration_s:g} s", PAIRED)
                yield _score(cases, model, answer, count, **given, mode=mode, duration_s=duration_s)


def _score(cases: Cases, model: str, answer: Answer, count: int, **given: Any) -> Answer:
    try:
        clips = score(model, **given, workers=1).clips
    except ZooError as error:
        answer.words = str(error)
        answer.faults.append("nothing is scored")
        return answer
    except Exception as error:
        answer.faults.append(f"exception {type(error).__name__}: {error}")
        return answer
    answer.faults += _judge(clips, count, cases.truth["twin.mp4"]["offset_s"])
    good = [clip for clip in clips if clip.signed_s is not None]
    mean_s = sum(clip.signed_s for clip in good if clip.signed_s is not None) / max(1, len(good))
    left_out = "; ".join(f"{clip.name}: {clip.skipped}" for clip in clips if clip.skipped)
    answer.words = f"{len(good)} of {count} scored, {mean_s:+.2f} s" + (
        f". Not scored: {left_out}" if left_out else ""
    )
    return answer


def _judge(clips: Sequence[ClipScore], count: int, offset_s: float) -> Iterator[str]:
    if len(clips) != count:
        yield f"{count - len(clips)} clips are in neither list"
    for clip in clips:
        is_empty = any(word in clip.name for word in NO_SCORE)
        if is_empty and clip.signed_s is not None:
            yield f"{clip.name} is scored, {clip.signed_s:+.2f} s"
        if clip.desync_s is not None and not is_empty:
            near_s = NEAR_S if "16fps" not in clip.name else CLASS_S
            if abs(clip.desync_s - abs(offset_s)) > near_s + 1e-6:
                yield f"{clip.name} is scored {clip.desync_s:.3f} s"
