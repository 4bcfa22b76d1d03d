"""Reading and writing clips on one clock: probe, decode, encode, shift the audio.

The clock and its rules are described in docs/clock.md.
"""

from zoo.media.decode import Decoder, Window, decode
from zoo.media.encode import encode
from zoo.media.probe import AudioInfo, ClipInfo, VideoInfo, probe, require_streams
from zoo.media.remux import shift_audio

__all__ = [
    "AudioInfo",
    "ClipInfo",
    "Decoder",
    "VideoInfo",
    "Window",
    "decode",
    "encode",
    "probe",
    "require_streams",
    "shift_audio",
]
