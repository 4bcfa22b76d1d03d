"""Small clips of many containers and codecs, all made by code: what mutations start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.media import encode

SECONDS, FPS, SIDE, RATE_HZ = 1.2, 25, 64, 16_000
FRAGMENTS = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}
# Of every clip: suffix, video encoder, audio encoder, further arguments of `encode`.
CLIPS: dict[str, tuple[str | None, str | None, dict[str, Any]]] = {
    "h264.mp4": ("libx264", "aac", {"gop": 10}),
    "long.mp4": ("libx264", "aac", {"gop": 10, "seconds": 6.0}),
    "front.mp4": ("libx264", "aac", {"container_options": {"movflags": "+faststart"}}),
    "fragments.mp4": ("libx264", "aac", {"gop": 10, "container_options": FRAGMENTS}),
    "hevc.mp4": ("libx265", "aac", {"rate": 48_000}),
    "pcm.mov": ("mpeg4", "pcm_s16le", {}),
    "mpeg2.mov": ("mpeg2video", "pcm_s24le", {}),
    "h264.mkv": ("libx264", "flac", {"gop": 10}),
    "long.mkv": ("libx264", "aac", {"seconds": 6.0, "container_options": {"live": "1"}}),
    "vp9.webm": ("libvpx-vp9", "libopus", {"rate": 48_000}),
    "vp8.webm": ("libvpx", "libopus", {"rate": 48_000}),
    "h264.ts": ("libx264", "aac", {"gop": 10}),
    "long.ts": ("libx264", "aac", {"gop": 10, "seconds": 6.0}),
    "mpeg2.ts": ("mpeg2video", "mp2", {"rate": 48_000}),
    "mpeg1.mpg": ("mpeg1video", "mp2", {"rate": 44_100}),
    "h264.flv": ("libx264", "aac", {"gop": 10, "rate": 44_100}),
    "old.flv": ("flv", "libmp3lame", {"rate": 44_100}),
    "mpeg4.avi": ("mpeg4", "libmp3lame", {"rate": 44_100}),
    "ffv1.avi": ("ffv1", "pcm_s16le", {}),
    "vp8.ogg": ("libvpx", "flac", {}),
    "msmpeg4.asf": ("msmpeg4", "libmp3lame", {"rate": 44_100}),
    "aac.3gp": ("mpeg4", "aac", {"rate": 8_000}),
    "h264.nut": ("libx264", "aac", {}),
    "sound.wav": (None, "pcm_s16le", {}),
    "sound.mp3": (None, "libmp3lame", {"rate": 44_100}),
    "sound.flac": (None, "flac", {}),
    "sound.aac": (None, "aac", {"rate": 44_100}),
    "sound.opus": (None, "libopus", {"rate": 48_000}),
    "sound.m4a": (None, "aac", {"rate": 44_100}),
    "raw.h264": ("libx264", None, {"gop": 10}),
    "raw.hevc": ("libx265", None, {}),
    "raw.m2v": ("mpeg2video", None, {}),
}
TEXTS = {
    "itself.mp4": "ffconcat version 1.0\nfile itself.mp4\n",
    "others.mp4": "ffconcat version 1.0\nfile h264.mp4\nfile /etc/hostname\n",
    "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    "manifest.mp4": "<?xml version='1.0'?>\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' "
    "type='static'><Period><AdaptationSet><Representation id='0'><BaseURL>h264.mp4</BaseURL>"
    "</Representation></AdaptationSet></Period></MPD>\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "subtitles.mp4": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "words.mp4": "this is no film\n" * 20,
}


def make_corpus(folder: Path) -> dict[str, bytes]:
    """Write every clip once, and return what all are made of; texts are among them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (video, audio, options) in CLIPS.items():
        if not (folder / name).exists():
            _write(folder / name, video, audio, **options)
    made = {name: (folder / name).read_bytes() for name in CLIPS}
    return made | {name: text.encode() for name, text in TEXTS.items()}


def _write(
    path: Path,
    video: str | None,
    audio: str | None,
    *,
    rate: int = RATE_HZ,
    seconds: float = SECONDS,
    **options: Any,
) -> None:
    frames, samples = _frames(seconds), _sound(rate, seconds)
    given: dict[str, Any] = {"fps": FPS, "sample_rate_hz": rate, **options}
    if video is not None:
        given["video_codec"] = video
    if audio is not None:
        given["audio_codec"] = audio
    encode(path, None if video is None else frames, None if audio is None else samples, **given)


def _frames(seconds: float) -> np.ndarray:
    """Return a square that wanders over a gradient."""
    film = np.empty((round(seconds * FPS), SIDE, SIDE, 3), np.uint8)
    film[:] = np.arange(0, 3 * SIDE, 3, np.uint8)[:, None]
    for index, frame in enumerate(film):
        at = index * 5 % (SIDE - 8)
        frame[at : at + 8, at : at + 8] = 255
    return film


def _sound(rate_hz: int, seconds: float) -> np.ndarray:
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * 440 * times_s) * (times_s % 0.4 < 0.05)).astype(np.float32)
