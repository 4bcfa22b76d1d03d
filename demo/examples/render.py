"""Renders the synthetic clips again: ``python -m demo.examples.render``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from demo.examples import EXAMPLES
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import FPS, SAMPLE_RATE_HZ, SyntheticConfig
from zoo.media import decode, encode, shift_audio

SEED, SIZE, SECONDS, CRF = 2027, 192, 9.0, 27  # small files of clips that no model was trained on
VIDEO = {"in-sync.mp4": 0, "early.mp4": 4, "foreign-sound.mp4": 10}
FOREIGN_AUDIO = 1


def main() -> None:
    """Render, encode small, move or replace the sound."""
    with tempfile.TemporaryDirectory() as folder:
        config = SyntheticConfig(seed=SEED, size=SIZE, seconds=SECONDS)
        clips = render_folder(Path(folder, "clips"), config, 11, {"test": 1.0}).clips
        small = Path(folder, "small.mp4")
        for example in (given for given in EXAMPLES if given.file in VIDEO):
            video = VIDEO[example.file]
            audio = video if example.early_s is not None else FOREIGN_AUDIO
            encode(
                small,
                decode(clips[video].path, audio=False).frames,
                decode(clips[audio].path, video=False).samples,
                fps=FPS,
                sample_rate_hz=SAMPLE_RATE_HZ,
                crf=CRF,
                video_options={"preset": "slow"},
                audio_options={"b": "32k"},
            )
            shift_audio(small, example.path, -(example.early_s or 0.0))


if __name__ == "__main__":
    main()
