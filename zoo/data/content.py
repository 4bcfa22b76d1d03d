"""What there is to hear and to see in a clip: where the sound has events and the picture changes.

Nothing here is learnt.  Sound is measured in bands of 500 Hz, the picture in 8 x 8 parts, both as
changes from one fifth of a second to the next, so that steady tones, hum and noise, still pictures,
grain, compression and flicker pass for what they are: nothing that could be synchronized.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.data.repeating import Repeating, find_repeating

Array = npt.NDArray[np.float64]

BIN_S = 0.04  # to which everything is measured
SILENT_DB = -70.0  # of full scale (RMS); all of a silent stretch lies below
EVENT_DB = 5.5  # by which one band must rise, a whistle; a codec lets one of steady noise by 4.8
WIDE_DB = 3.0  # or by which two bands must; a codec lets two of steady noise rise by 2.7
BURST_DB = 7.0  # or by which the power of two above 500 Hz must within two bins: a click
MOST_SILENCE = 0.4  # of a window, at a stretch
MOST_BEYOND = 0.1  # or of a window, where all that follows, or all before, is silent so long
CHANGE = 6.0  # levels of 255: largest change of a part, plus three times the median one
JUMP = 16.0  # levels: a key frame of a hard compressed still, or a digit, changes so much at once
FADE = 0.7  # by which all of the picture may darken, or brighten back, in 0.16 s
FLICKER = 1.5  # times the median change from frame to frame, which a change must exceed as well
BLOCK_S, PICTURE_BLOCK_S = 0.2, 0.16  # that are compared with the one before
LEAD_S = 0.2  # after the start of the sound, in which a codec may fade in
BAND_HZ, TOP_HZ = 500.0, 7000.0  # of sound; mp3 cuts noise into events above
FLOOR_DB, QUIETEST_DB = -50.0, -90.0  # below the loudest of a stretch, and in all: codec noise
PARTS = 8  # of the picture, across and down


class Tracks(NamedTuple):
    """A stretch of sound and a stretch of picture, one value in every bin of 0.04 s ``(T,)`` each.

    Attributes:
        onset: rise of the bands of the sound, dB.
        motion: change of the picture from frame to frame, levels of 255.
    """

    onset: Array
    motion: Array


class Content:
    """Takes a clip's sound and picture as they are read, and says what is in them.

    Stretches may come in any order, overlap and leave gaps.  What was not read says nothing.

    Args:
        audio_start_s: where the sound begins, on its file's clock, seconds; its beginning is no
            event.
    """

    def __init__(self, audio_start_s: float = 0.0) -> None:
        self._after_s = audio_start_s + LEAD_S
        self._level, self._rise, self._wide, self._burst, self._onset = (_Track() for _ in range(5))
        self._usual, self._change, self._flicker, self._motion = (_Track() for _ in range(4))

    def hear(self, start_s: float, samples: npt.NDArray[np.float32], sample_rate_hz: int) -> None:
        """Take a stretch of the sound: mono ``(N,)``, from ``start_s`` on."""
        bands_db, powers_db, level_db = _bands(samples, sample_rate_hz)  # (T, bands) twice, (T,)
        times_s = start_s + BIN_S * np.arange(len(level_db))
        self._level.put(times_s, level_db)
        before_db, after_db = _blocks(bands_db, round(BLOCK_S / BIN_S))
        rises_db = after_db - before_db
        edges_s = times_s[: len(rises_db)] + BLOCK_S  # between the two blocks
        is_inside = edges_s - BLOCK_S >= self._after_s
        self._rise.put(edges_s[is_inside], _nth_largest(rises_db, 1)[is_inside])
        self._wide.put(edges_s[is_inside], _nth_largest(rises_db, 2)[is_inside])
        burst_db = _nth_largest(powers_db[2:] - powers_db[:-2], 2)
        is_inside = times_s[: len(burst_db)] >= self._after_s
        self._burst.put(times_s[2:][is_inside], burst_db[is_inside])
        onset = np.diff(bands_db, axis=0).clip(0.0).mean(axis=1)
        is_inside = times_s[:-1] >= self._after_s
        self._onset.put(times_s[1:][is_inside], onset[is_inside])

    def see(self, start_s: float, frames: npt.NDArray[np.generic], fps: float) -> None:
        """Take a stretch of the picture: ``(Tv, H, W, 3)``, from ``start_s`` on."""
        parts = _parts(frames)  # (Tv, P)
        times_s = start_s + np.arange(len(parts)) / fps
        num = 2 * max(1, round(PICTURE_BLOCK_S / 2 * fps))  # even: two-frame flicker cancels out
        blocks_s = times_s[: max(0, len(parts) - 2 * num + 1)] + num / fps
        change, jump = _changes(parts, num)  # (len(blocks_s), P) each
        self._usual.put(blocks_s, change.max(axis=1, initial=0.0))
        left = change - np.where(jump <= JUMP, jump, 0.0)
        self._change.put(blocks_s, left.max(axis=1, initial=0.0))
        moved = np.diff(parts, axis=0)
        self._flicker.put(times_s[1:], np.abs(moved).max(axis=1, initial=0.0))
        self._motion.put(times_s[1:], np.sqrt((moved**2).mean(axis=1)))

    def counted(self, windows_s: Sequence[tuple[float, float]], length_s: float) -> list[int]:
        """Return which windows have something to say.

        A window that is largely silent misleads a model, as does one that reaches into a long
        silence at either end of the clip: they count only where there is no other.

        Args:
            windows_s: where each starts in the picture and in the sound, seconds.
            length_s: of a window, seconds.
        """
        found = [n for n, starts_s in enumerate(windows_s) if self.has_events(*starts_s, length_s)]
        longest_s = MOST_SILENCE * length_s
        filled = [n for n in found if self._silence_s(windows_s[n][1], length_s) <= longest_s]
        first_s, last_s = self._sounds(longest_s)
        first_s, last_s = first_s - MOST_BEYOND * length_s, last_s + MOST_BEYOND * length_s
        inside = [n for n in filled if first_s <= windows_s[n][1] <= last_s - length_s]
        return inside or filled or found

    def has_events(self, video_s: float, audio_s: float, length_s: float) -> bool:
        """Whether a window holds anything to hear and to see; starts and length in seconds."""
        return self.has_motion(video_s, video_s + length_s) and self.has_sound(
            audio_s, audio_s + length_s
        )

    def _sounds(self, longest_s: float) -> tuple[float, float]:
        """Return when the sound begins and ends, seconds; silence of up to a length is part."""
        level_db = self._level.filled()
        loud = np.flatnonzero(level_db >= SILENT_DB)
        if not len(loud):
            return -math.inf, math.inf
        first_s, last_s = loud[0] * BIN_S, (loud[-1] + 1) * BIN_S
        is_over = len(level_db) * BIN_S - last_s > longest_s
        return first_s if first_s > longest_s else -math.inf, last_s if is_over else math.inf

    def _silence_s(self, start_s: float, length_s: float) -> float:
        """Return the longest silence in a stretch of the sound, seconds."""
        is_loud = self._level.between(start_s, start_s + length_s) >= SILENT_DB
        ends = np.flatnonzero(np.concatenate([[True], is_loud, [True]]))
        return float(np.diff(ends).max() - 1) * BIN_S

    def has_sound(self, start_s: float, end_s: float) -> bool:
        """Whether there is an event in a stretch of the sound, or nobody knows."""
        limits_db = ((self._rise, EVENT_DB), (self._wide, WIDE_DB), (self._burst, BURST_DB))
        found = [(track.between(start_s, end_s), limit_db) for track, limit_db in limits_db]
        if not found[0][0].size:
            return True
        is_event = any(by_db.max(initial=0.0) >= limit_db for by_db, limit_db in found)
        return is_event and self._is_loud(start_s, end_s)

    def has_motion(self, start_s: float, end_s: float) -> bool:
        """Whether the picture changes in a stretch, or nobody knows."""
        change, usual = (track.between(start_s, end_s) for track in (self._change, self._usual))
        least = max(CHANGE, self._flickers_by(start_s, end_s))
        return not change.size or bool(change.max() + 3 * np.median(usual) >= least)

    def _flickers_by(self, start_s: float, end_s: float) -> float:
        by = self._flicker.between(start_s, end_s)
        return FLICKER * float(np.median(by)) if by.size else 0.0

    def lack(self) -> str:
        """Say what all that was read lacks."""
        all_s, lacks = (0.0, math.inf), []
        if not self.has_sound(*all_s):
            lacks.append(f"the sound {'has no events' if self._is_loud(*all_s) else 'is silent'}")
        if not self.has_motion(*all_s):
            is_flicker = self._flickers_by(*all_s) > CHANGE
            lacks.append(f"the picture {'only flickers' if is_flicker else 'does not change'}")
        return " and ".join(lacks) or "where the picture changes the sound has no events"

    def _is_loud(self, start_s: float, end_s: float) -> bool:
        return bool(self._level.between(start_s, end_s).max(initial=-np.inf) >= SILENT_DB)

    def tracks(
        self, audio_s: float = 0.0, video_s: float = 0.0, length_s: float = math.inf
    ) -> Tracks:
        """Return what was measured in every bin, NaN where nothing was read.

        Args:
            audio_s: where the stretch of the sound starts, seconds.
            video_s: where that of the picture starts, seconds.
            length_s: of both, seconds; either may end before.
        """
        return Tracks(
            self._onset.stretch(audio_s, audio_s + length_s),
            self._motion.stretch(video_s, video_s + length_s),
        )

    def repeating(self, longest_s: float) -> Repeating | None:
        """Return how both sound and picture repeat; None if they do not.

        Args:
            longest_s: look for no longer period, seconds.
        """
        return find_repeating(*self.tracks(), BIN_S, longest_s)


class _Track:
    """Values at times that come in any order; the larger one where there are two."""

    def __init__(self) -> None:
        self._values: Array = np.full(256, np.nan)

    def put(self, times_s: npt.NDArray[np.floating], values: npt.NDArray[np.floating]) -> None:
        if not len(times_s):
            return
        bins = np.round(times_s / BIN_S).astype(int)
        is_in = bins >= 0  # before time 0 nothing is presented
        last = int(bins[-1])
        if last >= len(self._values):
            self._values = np.pad(self._values, (0, 2 * last), constant_values=np.nan)
        np.fmax.at(self._values, bins[is_in], values[is_in])

    def between(self, start_s: float, end_s: float) -> Array:
        found = self._values[_bins_of(start_s, end_s)]
        return found[np.isfinite(found)]

    def stretch(self, start_s: float, end_s: float) -> Array:
        return self.filled()[_bins_of(start_s, end_s)]

    def filled(self) -> Array:
        known = np.flatnonzero(np.isfinite(self._values))
        return self._values[: known[-1] + 1] if len(known) else self._values[:0]


def _bins_of(start_s: float, end_s: float) -> slice:
    return slice(*(round(min(max(0.0, t), 1e9) / BIN_S) for t in (start_s, end_s)))


def _bands(samples: npt.NDArray[np.float32], sample_rate_hz: int) -> tuple[Array, Array, Array]:
    """Return the mean level of the bins of every band, its power but for the first, the loudness.

    Levels in dB are averaged over narrow frequencies: the colour of a noise does not matter.
    """
    hop = round(BIN_S * sample_rate_hz / 2)
    length = round(0.032 * sample_rate_hz)
    num_bins = max(0, (len(samples) - length + hop) // (2 * hop))
    sound = np.asarray(samples, np.float32)
    taken = np.lib.stride_tricks.sliding_window_view(
        sound if num_bins else np.zeros(length, np.float32), length
    )[: 2 * hop * num_bins : hop]
    window = np.hanning(length).astype(np.float32)
    power = np.abs(np.fft.rfft(taken * window, axis=1)) ** 2 / (window.sum() / 2) ** 2
    width = round(BAND_HZ * length / sample_rate_hz)
    num_bands = max(1, int(min(TOP_HZ, sample_rate_hz / 2) // BAND_HZ))
    power = power[:, 1 : 1 + num_bands * width]  # (2 T, bands x width), without the mean
    loudest = power.max(initial=0.0)
    floor = max(10 ** (QUIETEST_DB / 10), loudest * 10 ** (FLOOR_DB / 10))
    level_db = 10 * np.log10(power + floor).reshape(num_bins, 2, num_bands, width)
    blocks = sound[: 2 * hop * num_bins].reshape(num_bins, 2 * hop)
    powers = power.reshape(num_bins, 2, num_bands, width).sum(axis=3).mean(axis=1)
    powers_db = 10 * np.log10(powers + width * floor)[:, 1:]
    rms_db = 10 * np.log10((blocks**2).mean(axis=1, dtype=float) + 1e-12)
    return level_db.mean(axis=(1, 3)).astype(float), powers_db.astype(float), rms_db


def _parts(frames: npt.NDArray[np.generic]) -> Array:
    """Return the mean of every part of every frame ``(Tv, P)``, levels."""
    height, width = (side // PARTS for side in frames.shape[1:3])
    cut = frames[:, : PARTS * height, : PARTS * width]
    cut = cut.reshape(len(cut), PARTS, height, PARTS, width * cut.shape[3])
    return cut.mean(axis=(2, 4), dtype=np.float32).reshape(len(cut), -1).astype(float)


def _changes(parts: Array, num: int) -> tuple[Array, Array]:
    """Return by how much every part changes between two blocks of frames, and its largest jump.

    A fade, which slowly changes all parts by one factor, does not count.
    """
    if len(parts) < 2 * num:
        return parts[:0], parts[:0]
    moved = np.abs(np.diff(parts, axis=0))
    jump = np.lib.stride_tricks.sliding_window_view(moved, 2 * num - 1, axis=0).max(axis=-1)
    before, after = _blocks(parts, num)
    factor = (before * after).sum(axis=1) / (before**2).sum(axis=1).clip(1e-9)
    factor = np.where(jump.max(axis=1) <= JUMP, factor.clip(FADE, 1 / FADE), 1.0)
    return np.abs(after - factor[:, None] * before), jump


def _blocks(values: Array, num: int) -> tuple[Array, Array]:
    """Return the mean of ``num`` values at every place, and that of as many behind them."""
    sums = np.cumsum(np.concatenate([np.zeros((1, values.shape[1])), values]), axis=0)
    means = (sums[num:] - sums[:-num]) / num
    return means[:-num], means[num:]


def _nth_largest(values: Array, number: int) -> Array:
    """Return the largest value of every row, or the second."""
    if values.shape[1] < number:
        return np.zeros(len(values))
    return np.sort(values, axis=1)[:, -number]
