"""A rule without learning: sound has onsets where the picture moves.

It has no weights, so it shows what a model adds; it also tells how many onsets fall on peaks of
the motion (AV-Align).  Both use the tracks that `Content` measures while a clip is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.clip_reader import whole_frames_s
from zoo.data.content import BIN_S, Content
from zoo.data.lags import BLUR, correlate, refine
from zoo.errors import NothingToMeasureError
from zoo.media import Decoder, probe, require_streams
from zoo.timeline import describe_offset

Array = npt.NDArray[np.float64]

SOFT = 0.3  # of the mean motion: below, more motion counts in proportion, above, by its logarithm
LATE_S = 0.026  # a change is seen half a frame after it happens, on average; bins rise 6 ms late
APART_S = 0.2  # from the best offset, at which the next best one is looked for
FPS, SHORT_SIDE, SAMPLE_RATE_HZ = 25.0, 64, 16_000  # at which whole clips are read
WINDOW_S = 8.0  # that is decoded at a time
BEYOND, AROUND_S = 0.07, 0.1  # of the largest onset, above the mean within so many seconds


@dataclass(frozen=True)
class RuleOffset:
    """The offset at which sound and motion fit best.

    Attributes:
        offset_s: seconds; positive means the audio is early.
        meaning: the offset in words.
        correlation: of sound and motion at this offset, times the root of the share of bins that
            still meet there: a long lag is not preferred because little is left to compare.
        next_s: best offset that is 0.2 s or more away, seconds; None if none was looked at.
        next_correlation: the same for this one.  The closer to the first, the less clear the
            answer.
    """

    offset_s: float
    meaning: str
    correlation: float
    next_s: float | None
    next_correlation: float | None

    def __str__(self) -> str:
        """Say the offset, and how clear it is."""
        second = ""
        if self.next_s is not None:
            second = f", next best {self.next_correlation:.2f} at {self.next_s:+.2f} s"
        what = self.meaning.split(";")[0]  # without how to repair it
        return f"offset {self.offset_s:+.2f} s (correlation {self.correlation:.2f}{second}): {what}"


def find_offset(
    content: Content,
    reach_s: float,
    *,
    audio_s: float = 0.0,
    video_s: float = 0.0,
    length_s: float = math.inf,
) -> RuleOffset:
    """Find the offset at which a sound fits the motion of a picture best.

    Onset strength is correlated with the logarithm of the change between frames, in bins of 0.04 s,
    at every lag. A parabola places the best one between the bins.

    Args:
        content: what was read of a clip.
        reach_s: how far either way to look, seconds.
        audio_s: where the crop of the audio starts, seconds; by default all is taken.
        video_s: where the crop of the video starts, seconds.
        length_s: of both crops, seconds.

    Raises:
        NothingToMeasureError: if there is nothing to hear or to see.
    """
    tracks = content.tracks(audio_s, video_s, length_s)
    num = min(len(track) for track in tracks)
    is_blank = any(not np.nan_to_num(track).any() for track in tracks)
    if num < len(BLUR) or is_blank or not content.has_events(video_s, audio_s, length_s):
        raise _nothing(content)
    eased = np.log(tracks.motion + SOFT * np.nanmean(tracks.motion))
    size = max(len(tracks.onset), len(eased))
    sound, picture = (
        np.pad(track, (0, size - len(track)), constant_values=np.nan)
        for track in (tracks.onset, eased)
    )
    longest = min(round(reach_s / BIN_S), num - 1)
    alike, meet = correlate(sound, picture, longest)
    if not alike.any():
        raise _nothing(content)
    scores = alike * np.sqrt(meet / meet.max())
    best = int(scores.argmax())
    offset_s = round((refine(scores, best) - longest) * BIN_S - LATE_S, 4) + 0.0
    is_apart = np.abs(np.arange(len(scores)) - best) >= round(APART_S / BIN_S)
    second = int(np.where(is_apart, scores, -np.inf).argmax()) if is_apart.any() else None
    return RuleOffset(
        offset_s,
        describe_offset(offset_s),
        round(float(scores[best]), 4),
        None if second is None else round((second - longest) * BIN_S - LATE_S, 4) + 0.0,
        None if second is None else round(float(scores[second]), 4),
    )


def _nothing(content: Content) -> NothingToMeasureError:
    reason = content.lack()
    return NothingToMeasureError(
        f"the rule without learning finds no offset: {reason}", reason=reason
    )


def av_align(content: Content) -> float | None:
    """Return how many onsets of the sound and peaks of the motion meet, of all there are.

    Source: AV-Align (Yariv et al., arXiv 2309.16429, and guyyariv/TempoTokens:av_align.py):
    intersection over union of audio and video peaks that meet within one frame either way.
    Deviations: the published code counts audio peaks with a video peak nearby, so one video peak
    may count several times, and exchanging the two changes the score; here peaks meet one to one.
    Motion is the change between frames, not optical flow, so scores are not comparable with
    published ones.

    Returns:
        0 to 1; None if there is no peak at all.
    """
    tracks = content.tracks()
    return peaks_met(find_onsets(tracks.onset), find_maxima(tracks.motion))


def find_onsets(onset: Array) -> npt.NDArray[np.intp]:
    """Return the bins in which a sound begins.

    They are maxima that exceed the mean around them by 7 % of the largest (librosa's
    ``onset_detect``, at bins of 0.04 s).

    Args:
        onset: strength in every bin, NaN where nothing was read.
    """
    known = np.nan_to_num(onset)
    width = 2 * round(AROUND_S / BIN_S) + 1
    if len(known) < width:
        return np.zeros(0, np.intp)
    mean = np.convolve(known, np.ones(width) / width, "same")
    peaks = find_maxima(onset)
    return peaks[known[peaks] >= mean[peaks] + BEYOND * known.max()]


def find_maxima(track: Array) -> npt.NDArray[np.intp]:
    """Return the bins that exceed both neighbours; what was not read is no neighbour."""
    is_read = np.flatnonzero(np.isfinite(track))
    known = track[is_read]
    is_peak = (known[1:-1] > known[:-2]) & (known[1:-1] > known[2:])
    return is_read[1:-1][is_peak]


def peaks_met(one: npt.NDArray[np.intp], other: npt.NDArray[np.intp]) -> float | None:
    """Return the share of peaks that meet: pairs, of pairs and single ones; None without any.

    Every peak meets one other at most, within one bin either way.  Both ascend, and as many as
    possible meet, so it does not matter which is first.
    """
    met = i = j = 0
    while i < len(one) and j < len(other):
        if abs(one[i] - other[j]) <= 1:
            met, i, j = met + 1, i + 1, j + 1
        elif one[i] < other[j]:
            i += 1
        else:
            j += 1
    union = len(one) + len(other) - met
    return met / union if union else None


def read_content(path: Path) -> Content:
    """Measure a whole clip in one pass, in bounded memory.

    Raises:
        MediaError: if it cannot be read, or lacks a stream.
    """
    info = probe(path)
    require_streams(info)
    assert info.audio is not None
    decoder = Decoder(path, fps=FPS, short_side=SHORT_SIDE, sample_rate_hz=SAMPLE_RATE_HZ)
    content, end_s = Content(info.audio.start_s), whole_frames_s(info.common_s, FPS)
    for start_s in np.arange(0.0, end_s, WINDOW_S).tolist():
        window = decoder.window(start_s, round(min(WINDOW_S, end_s - start_s), 6))
        assert window.frames is not None
        assert window.samples is not None
        content.see(start_s, window.frames, FPS)
        content.hear(start_s, window.samples, SAMPLE_RATE_HZ)
    return content
