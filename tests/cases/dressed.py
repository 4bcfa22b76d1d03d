"""Files that the generator does not make: other codecs, tracks, chapters, tags, attachments."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from tests.cases.generated import GENERATOR, Cases
from zoo.media.encode import own_priority

SECONDS, LATE_S = 6.0, 0.4
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
HDR = (
    ":colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:max-cll=1000,400:master-display="
    "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)
AV1 = {"vcodec": "libsvtav1", "preset": "12", "svtav1-params": "lp=1"}
VP9 = {"vcodec": "libvpx-vp9"}
FRAGMENTS = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}
CODECS: dict[str, dict[str, Any]] = {
    "c_hevc.mp4": {"vcodec": "libx265", **X265},
    "c_hevc.mkv": {"vcodec": "libx265", **X265},
    "c_hevc.ts": {"vcodec": "libx265", **X265},
    "c_hdr.mp4": {
        "vcodec": "libx265", "pix_fmt": "yuv420p10le", "preset": "ultrafast",
        "x265-params": X265["x265-params"] + HDR,
    },
    "c_av1.mp4": AV1,
    "c_av1.mkv": AV1,
    "c_av1.webm": AV1 | {"acodec": "libopus", "rate": 48000},
    "c_vp9.mp4": VP9,
    "c_vp9_opus.webm": VP9 | {"acodec": "libopus", "rate": 48000},
    "c_vp8.webm": {"vcodec": "libvpx", "acodec": "libopus", "rate": 48000},
    "c_flac.mkv": {"acodec": "flac"},
    "c_flac.mp4": {"acodec": "flac"},
    "c_opus_51.mkv": {"acodec": "libopus", "rate": 48000, "gains": (1, 1, 1, 1, 1, 1)},
    "c_pcm.mkv": {"acodec": "pcm_s16le"},
    "c_pcm.mov": {"acodec": "pcm_s16be", "rate": 48000},
    "c_pcm.mp4": {"acodec": "pcm_s16le", "rate": 48000},
    "c_mp3.mp4": {"acodec": "libmp3lame", "rate": 44100},
    "c_mp3.mkv": {"acodec": "libmp3lame", "rate": 44100},
    "c_ac3.mp4": {"acodec": "ac3", "rate": 48000},
    "c_ac3.ts": {"acodec": "ac3", "rate": 48000},
    "c_prores.mov": {
        "vcodec": "prores_ks", "pix_fmt": "yuv422p10le", "acodec": "pcm_s24le", "rate": 48000
    },
    "c_mjpeg.mov": {"vcodec": "mjpeg", "pix_fmt": "yuvj420p", "acodec": "pcm_s16le"},
    "c_mpeg4.avi": {"vcodec": "mpeg4", "acodec": "libmp3lame", "rate": 44100},
    "c_mpeg4_b.avi": {"vcodec": "mpeg4", "bf": "2", "acodec": "libmp3lame", "rate": 44100},
    "c_h264.avi": {"acodec": "libmp3lame", "rate": 44100, "bf": "2"},
    "c_mpeg2.mpg": {"vcodec": "mpeg2video", "acodec": "mp2", "rate": 44100, "bf": "2"},
    "c_mpeg2.ts": {"vcodec": "mpeg2video", "acodec": "mp2", "rate": 44100, "bf": "2"},
    "c_h264.flv": {"rate": 44100},
    "c_ffv1.mkv": {"vcodec": "ffv1", "acodec": "flac"},
    "c_wmv.wmv": {"vcodec": "wmv2", "acodec": "wmav2", "rate": 44100},
    "c_mpeg4.3gp": {"vcodec": "mpeg4"},
    "c_open_gop.mp4": {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"},
    "c_fragments.mp4": {"muxer": FRAGMENTS},
    "c_fragments.mov": {"muxer": FRAGMENTS},
    "c_turned_180.mp4": {"turn": 180},
    "c_turned_180.mov": {"turn": 180},
    "c_turned_180.mkv": {"turn": 180},
    "c_mirrored.mp4": {"turn": 90, "mirrored": True},
    "c_bt709.mkv": {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709",
                    "color_range": "pc"},
}  # fmt: skip
LANGUAGES = [("eng", "Original"), ("fra", "Français"), ("deu", "Kommentar")]
CHAPTERS = [("Anfang", 0.0, 1.5), ("Mitte 中", 1.5, 4.25), ("", 4.25, 6.0)]
TAGS = {"title": "A title", "artist": "An artist", "comment": "To be kept", "date": "2024-05-06",
        "creation_time": "2024-05-06T07:08:09.000000Z"}  # fmt: skip
PHONE = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone 15",
    "com.apple.quicktime.location.ISO6709": "+52.5200+013.4050+034.000/",
    "com.apple.quicktime.creationdate": "2024-05-06T09:08:09+0200",
}
WORN: dict[str, dict[str, Any]] = {
    "d_tracks.mkv": {"languages": LANGUAGES, "default": 1, "texts": 2},
    "d_tracks.mp4": {"languages": LANGUAGES, "default": 1, "texts": 2},
    "d_tracks.mov": {"languages": LANGUAGES, "default": 1, "texts": 2},
    "d_tracks.ts": {"languages": [(code, "") for code, _ in LANGUAGES]},
    "d_no_default.mkv": {"languages": LANGUAGES[:2], "default": None},
    "d_no_default.mp4": {"languages": LANGUAGES[:2], "default": None},
    "d_forced.mkv": {"texts": 1},
    "d_chapters.mkv": {"chapters": CHAPTERS},
    "d_chapters.mp4": {"chapters": CHAPTERS},
    "d_chapters.mov": {"chapters": CHAPTERS},
    "d_tags.mkv": {"tags": TAGS | {"my_own": "kept too"}},
    "d_tags.mp4": {"tags": TAGS},
    "d_tags.mov": {"tags": TAGS},
    "d_phone.mov": {"tags": PHONE | {"creation_time": TAGS["creation_time"]}, "mdta": True},
    "d_phone.mp4": {"tags": PHONE | {"creation_time": TAGS["creation_time"]}, "mdta": True},
    "d_fonts.mkv": {"fonts": ("one.ttf", "zwei ü.otf")},
    "d_timecode.mp4": {"timecode": "01:00:00:00"},
    "d_timecode.mov": {"timecode": "10:00:00:12"},
    "d_hvc1.mp4": {"film": "c_hevc.mp4", "tag": "hvc1"},
    "d_hvc1.mov": {"film": "c_hevc.mp4", "tag": "hvc1"},
    "d_handlers.mp4": {"handlers": ("Core Media Video", "Core Media Audio")},
}


def make_dressed(folder: Path, salt: int = 0, only: str = "") -> Cases:
    """Make the files, or take those that a run before has made.

    Args:
        folder: where they lie.
        salt: another number, other moments and pictures.
        only: beginnings of names, with commas between them; all without it.
    """
    names = [n for n in (*CODECS, *WORN) if not only or n.startswith(tuple(only.split(",")))]
    if not (folder / "truth.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        maker = _generator()
        film = maker.flash_reel(SECONDS, 1000 + salt, LATE_S)
        told = {"seconds": SECONDS, "pictures": len(film.pictures), "offset_s": -LATE_S,
                "flashes": film.flashes, "clicks": film.clicks}  # fmt: skip
        made: dict[str, Any] = {}
        for name in names:
            if name in CODECS and _encode(maker, folder / name, film, CODECS[name]):
                made[name] = told
        worn = [name for name in names if name in WORN]
        if worn:
            parts = folder / "parts"
            parts.mkdir(exist_ok=True)
            maker.encode(parts / "film.mp4", film)
            maker.encode(parts / "c_hevc.mp4", film, **CODECS["c_hevc.mp4"])
        for name in worn:
            how = dict(WORN[name])
            _dress(folder / name, folder / "parts" / how.pop("film", "film.mp4"), **how)
            made[name] = told
        (folder / "truth.json").write_text(json.dumps(made))
    truth = json.loads((folder / "truth.json").read_text())
    return Cases(folder, {name: told for name, told in truth.items() if name in names})


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("make_cases", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_cases"] = module  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def _encode(maker: Any, path: Path, film: Any, how: dict[str, Any]) -> bool:
    """Encode the film; say whether this PyAV has what it takes."""
    how = dict(how)
    is_mirrored = how.pop("mirrored", False)
    if is_mirrored:
        turn = av.video.stream.VideoStream.set_display_rotation
        maker_turn = how.pop("turn")
        maker.encode(path, film, **how)
        return _mirror(path, turn, maker_turn)
    try:
        with own_priority():
            maker.encode(path, film, **how)
    except (av.codec.codec.UnknownCodecError, ValueError) as error:
        sys.stderr.write(f"{path.name} is not made: {error}\n")
        path.unlink(missing_ok=True)
        return False
    return True


def _mirror(path: Path, turn: Any, degrees: int) -> bool:
    plain = path.with_name(f"plain_{path.name}")
    path.rename(plain)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        copies = [out.add_stream_from_template(stream) for stream in source.streams]
        turn(copies[0], degrees, hflip=True)
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    plain.unlink()
    return True


def _dress(
    path: Path, film: Path, languages: Any = (), default: int | None = 0, texts: int = 0,
    chapters: Any = (), tags: Any = (), fonts: Any = (), timecode: str = "", tag: str = "",
    handlers: Any = (), mdta: bool = False,
) -> None:  # fmt: skip
    """Copy a film and its sound, as often as there are languages, with all that goes with it."""
    options = {"movflags": "+use_metadata_tags"} if mdta else {}
    with ExitStack() as stack, av.open(str(path), "w", container_options=options) as out:
        packets = []
        for number in range(1 + max(1, len(languages))):
            source = stack.enter_context(av.open(str(film))).streams[min(number, 1)]
            copy = out.add_stream_from_template(source)
            if handlers:
                copy.metadata["handler_name"] = handlers[min(number, 1)]
            if number and languages:
                copy.metadata["language"], title = languages[number - 1]
                if title:
                    copy.metadata["title"] = title
                is_default = number - 1 == default
                copy.disposition = Disposition.default if is_default else Disposition(0)
            elif tag:
                copy.codec_context.codec_tag = tag if number == 0 else copy.codec_context.codec_tag
            for packet in source.container.demux(source):
                if packet.size:
                    packet.stream = copy
                    packets.append(packet)
        packets += [p for number in range(texts) for p in _texts(out, number)]
        out.metadata.update(tags)
        if timecode:
            out.streams.video[0].metadata["timecode"] = timecode
        out.set_chapters([
            {"id": k, "start": round(1000 * start), "end": round(1000 * end),
             "time_base": Fraction(1, 1000), "metadata": {"title": title} if title else {}}
            for k, (title, start, end) in enumerate(chapters)
        ])  # fmt: skip
        for name in fonts:
            out.add_attachment(name, "application/x-truetype-font", name.encode() * 50)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)


def _texts(out: Any, number: int) -> Iterator[Any]:
    is_mkv = out.format.name == "matroska"
    stream = out.add_mux_stream("subrip" if is_mkv else "mov_text")
    stream.metadata["language"] = ("spa", "ita")[number]
    stream.disposition = (Disposition.forced, Disposition(0))[number]
    for k, start_ms in enumerate((700, 2040, 4960)):
        text = f"Zeile {k}".encode()
        packet = av.Packet(text if is_mkv else len(text).to_bytes(2) + text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = start_ms + 100 * number
        packet.duration = 800
        yield packet
