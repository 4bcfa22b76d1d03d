"""What every hard file must be answered with; a file follows the first rule that names it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Rule:
    """What is right for some files.

    Attributes:
        files: which, a pattern.
        special: what is special about them.
        says: one note on the answer must match this; all in lower case.
        refused: no number is right, only a sentence that matches this.
        or_refused: such a sentence is right as well as an answer.
        check: the findings of ``data check`` must match this.
        apart_s: how far flashes and clicks may be from each other; by default 0.01 s at 25 pictures
            per second, half a picture at other rates.
        begins_s: by how much pictures and sound may both begin later.
        is_read: whether flashes and clicks are looked for.
        is_predicted: whether there is both picture and sound.
    """

    files: str
    special: str
    says: str = ""
    refused: str = ""
    or_refused: str = ""
    check: str = ""
    apart_s: float | None = None
    begins_s: float = 0.0
    is_read: bool = True
    is_predicted: bool = True


def rule_for(name: str) -> Rule:
    """Return the rule of a file, by its name in the folder."""
    return next(rule for rule in RULES if fnmatchcase(name, rule.files))


AGAIN, JUMPS = "times of the file start again at", "times of the file jump at"
WILD, ENDS = r"timestamps? of the \w+", "ends after"
CHANGES = "changes from"
TOO_SHORT = "too short"  # what is left may be
RULES = (
    Rule("twin.mp4", "nothing"),
    Rule("a1_wrap.ts", "the 33-bit clock wraps"),
    Rule("a1_start_1h.ts", "the first picture is at 3600 s"),
    Rule("a2_again.ts", "two recordings in one file, times start again", AGAIN, check=AGAIN),
    Rule("a2_jump.ts", "the same, the second one hours later", JUMPS, check=JUMPS),
    Rule("a3_opposite.mp4", "right channel = -left", "channels cancel", check="channels cancel"),
    Rule("a3_centre.mp4", "5.1, sound in the centre only"),
    Rule("a3_one_side.mp4", "sound in the left channel only"),
    Rule("a4_apac_second.*", "audio track 2 cannot be decoded by FFmpeg"),
    Rule("a4_apac_first.mp4", "audio track 1 cannot be decoded by FFmpeg", "track 2 is read"),
    Rule("a5_thumb.*", "a thumbnail lies before the film, unflagged"),
    Rule("a5_two_default_?.mkv", "two films, one flagged as default", r"video track \d of 2"),
    Rule("a6_*.flv", "one timestamp is wild", WILD, check=WILD),
    Rule("a7_gop25_*", "long, with many key frames"),
    Rule("a7_one_key_*", "long, with one key frame"),
    Rule("a7_no_cues_*", "long, without index and length"),
    Rule("a8_rate.ts", "sample rate and channels change half-way", check=CHANGES),
    Rule("a8_layout.ts", "the channels change half-way", check=CHANGES),
    Rule("a8_size.ts", "the frame size changes half-way", check=CHANGES),
    Rule("a9_trimmed*.mp4", "an edit list hides the beginning; its twin is cut"),
    Rule("a9_edits_twin.mp4", "two parts, encoded"),
    Rule("a9_edits_*.mp4", "an edit list of two parts", apart_s=0.1),
    Rule("a10_*_pair.mkv", "the sound runs slow, by another clock"),
    Rule("a10_*.mp4", "the same, sound in a file of its own"),
    Rule("a10_*", "sound alone", is_predicted=False),
    Rule("a11_silence.mp4", "digital silence", refused="sound is silent", check="silent"),
    Rule("a11_tone.mp4", "a constant tone", refused="sound has no events"),
    Rule("a11_still.mp4", "a still picture", refused="picture does not change", check="still"),
    Rule("a11_periodic*.mp4", "the same beat again and again", is_read=False),
    Rule("a12/videos/*", "videos without sound", is_predicted=False),
    Rule("a12/audios/*", "their sound", is_predicted=False),
    Rule("b1_cover_only_sound.mp4", "sound with a cover", refused="has no video stream"),
    Rule("b1_*", "a cover, flagged, attached or neither"),
    Rule("b2_sound_late.*", "no sound in the first seconds", or_refused=TOO_SHORT),
    Rule("b2_picture_late.*", "no picture in the first seconds", or_refused=TOO_SHORT),
    Rule("b3_no_edit_list.mp4", "3 B-frames without an edit list", begins_s=0.1),
    Rule("b3_*", "3 B-frames, the first decoding time is below 0"),
    Rule("b4_*", "turned by a display matrix; pixels of 4:3"),
    Rule("b5_opus.*", "Opus with its pre-skip"),
    Rule("b5_he_aac.mp4", "AAC that is said to be HE-AAC", apart_s=0.04),
    Rule("b6_amr.3gp", "AMR at 8 kHz", apart_s=0.02),
    Rule("b6_*", "24-bit PCM; AAC at 8 kHz"),
    Rule("b7_freeze.*", "pictures at uneven times, and none for a while", apart_s=0.02),
    Rule("b8_claims_4000.*", "25 pictures per second, said to be 4000"),
    Rule("b8_*", "60, 23.976 and 12 pictures per second"),
    Rule("b9_*", "interlaced"),
    Rule("b10_*", "10 bit, 4:4:4, odd sizes, alpha"),
    Rule("b11_*", "subtitles, chapters, a second language"),
    Rule("b12_no_index.mp4", "cut short, without its index", refused="cut short|index"),
    Rule("b12_empty.mp4", "an empty file", refused="is empty"),
    Rule("b12_growing.*", "a recording that still runs", or_refused=TOO_SHORT),
    Rule("b12_fragments.mp4", "cut short, in fragments", ENDS, or_refused=ENDS, begins_s=0.1),
    Rule("b12_cut.mkv", "cut short", ENDS, or_refused=ENDS),
    Rule("b13/*", "strange names"),
    Rule("*", "another case"),
)
