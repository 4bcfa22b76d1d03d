"""What a file that nobody vouches for may make us do: which formats are read, and how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from zoo.errors import MediaError
from zoo.media.boxes import require_credible_index

# Demuxers of sound and film.  All others are refused: playlists, manifests and scripts open other
# files or the network, text and pictures are no clips, and raw samples have no beginning to know
# them by.
FORMATS = (
    "3gp,aa,aac,ac3,ac4,aiff,alaw,amr,ape,apng,aptx,apv,asf,ast,au,av1,avi,avs2,avs3,bink,caf,"
    "cavsvideo,cdxl,cine,dirac,dnxhd,dsf,dss,dts,dtshd,dv,eac3,evc,film_cpk,flac,flic,flv,"
    "g723_1,g729,gif,gsm,gxf,h261,h263,h264,hevc,iamf,ilbc,ipmovie,ircam,ivf,ivr,kux,live_flv,"
    "lxf,m4v,matroska,mjpeg,mlp,mlv,mov,mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mpjpeg,mxf,mxg,nsv,"
    "nut,nuv,obu,ogg,oma,psxstr,pva,qcp,rm,roq,rpl,rso,sbc,siff,smjpeg,smk,sox,spdif,swf,tak,"
    "thp,truehd,tta,ty,vc1,vc1test,vivo,vmd,voc,vqf,vvc,w64,wav,webm,wsaud,wsvqa,wtv,wv,xmv,"
    "xwma,yuv4mpegpipe"
)

MOST_PIXELS = 8192 * 8192  # of a frame
MOST_ASPECT = 64  # of a frame, the longer side by the shorter one
MOST_RATE_HZ = 1_536_000  # of audio
MOST_S_PER_BYTE = 1.0  # of a file; a longer one is no clip, whatever its packets say
MUCH_MEMORY = 2**28  # bytes; more is only taken for a stream that can fill it
LEAST_PACKETS = 1000  # that are read of any file; otherwise one per byte at the most
MOST_PACKET_S = 1.0  # what a packet stands for on average, at the most


def check_readable(path: Path) -> None:
    """Refuse what is no file, or is empty.

    Raises:
        MediaError: saying which.
    """
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder; give a media file")
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except FileNotFoundError:
        raise MediaError(f"there is no file {path}") from None
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}") from error
    if is_empty:
        raise MediaError(f"{path} is empty; copy or download it again")


def open_container(path: Path) -> Any:
    """Open a file as a clip and as nothing else, to be decoded by one thread; the caller closes it.

    Raises:
        MediaError: if it is none.
    """
    require_credible_index(path)
    try:
        container = av.open(
            f"file:{path}",
            container_options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(_why_unreadable(path)) from error
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
            stream.codec_context.thread_type = "NONE"
    return container


def _why_unreadable(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return f"{path} is cut short: its index (moov) is missing; copy or download it again"
    return f"{path} is not a media file, or is damaged from its first bytes"


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Say of a clip what FFmpeg cannot do with it.

    Raises:
        MediaError: in place of an error of FFmpeg, a lack of memory, and a number beyond bounds.
    """
    try:
        yield
    except MemoryError as error:  # FFmpeg's own is one, too
        raise MediaError(
            f"{path.name} asks for more memory than there is; it is very large, or damaged"
        ) from error
    except av.FFmpegError as error:
        raise MediaError(f"{path.name} is damaged: {error.strerror or error}") from error
    except OverflowError as error:
        raise MediaError(f"{path.name} is damaged: its times are beyond all bounds") from error


def demuxed(container: Any, *streams: Any) -> Iterator[Any]:
    """Yield the packets of some streams, or of all; one without data ends each stream.

    A stream that appears in mid-file is unknown to PyAV, which looks for it in vain at the end.
    """
    most = max(container.size, LEAST_PACKETS)
    try:
        for number, packet in enumerate(container.demux(*streams)):
            if number > most:  # an index that names the same bytes again and again
                return
            _Progress.tell()
            yield packet
    except IndexError:
        return


class _Progress:
    """Whom to tell that a file is being read."""

    tell: Callable[[], None] = staticmethod(lambda: None)


def on_progress(tell: Callable[[], None]) -> None:
    """Have a function called with every packet that this process reads."""
    _Progress.tell = staticmethod(tell)


def require_credible_length(path: Path, stream: Any, length_s: float) -> None:
    """Refuse a stream that claims to last longer than its file can hold.

    Raises:
        MediaError: naming the stream and both sizes.
    """
    num_bytes = path.stat().st_size
    if not abs(length_s) <= num_bytes * MOST_S_PER_BYTE:  # or no number
        raise MediaError(
            f"{path.name} is damaged: its {stream.type} claims to last {length_s:,.0f} s, which "
            f"{num_bytes:,} bytes cannot hold"
        )


def require_packets(path: Path, stream: Any, num_bytes: float, length_s: float) -> None:
    """Refuse a window of a stream that takes much memory and has few packets to fill it with.

    Raises:
        MediaError: naming both.
    """
    if num_bytes <= MUCH_MEMORY:
        return
    with open_container(path) as container:
        packets = demuxed(container, container.streams[stream.index])
        num_packets = sum(packet.size > 0 for packet in packets)
    if length_s > num_packets * MOST_PACKET_S:
        raise MediaError(
            f"{path.name} is damaged: {length_s:,.0f} s of {stream.type} are to come from "
            f"{num_packets:,} packets"
        )


def require_sane(path: Path, frame: Any) -> None:
    """Refuse frames of a size, and audio of a rate, that no clip has.

    Raises:
        MediaError: naming it.
    """
    if isinstance(frame, av.AudioFrame):
        if not 0 < frame.sample_rate <= MOST_RATE_HZ:
            raise MediaError(f"{path.name} is damaged: no audio has {frame.sample_rate:,} Hz")
        return
    short, long = sorted((frame.width, frame.height))
    if short < 1 or long > MOST_ASPECT * short or short * long > MOST_PIXELS:
        raise MediaError(
            f"{path.name} is damaged: no film has frames of {frame.width} x {frame.height} pixels"
        )
