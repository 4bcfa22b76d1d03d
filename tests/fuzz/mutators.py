"""What is done to a file: bits, pieces, and the sizes and times that containers are made of.

A mutated file is a function of the corpus, a seed and a number; nothing else.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Mapping

from tests.fuzz.corpus import TEXTS

Mutator = Callable[[random.Random, bytearray, Mapping[str, bytes]], bytearray]
HEAD = 4096  # where most that describes a file is
BOXES = re.compile(
    rb"ftyp|moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|hdlr|minf|stbl|stsd|avc1|hev1|mp4a|esds|avcC"
    rb"|stts|ctts|stss|stsc|stsz|stco|co64|moof|mfhd|traf|tfhd|tfdt|trun|mdat|udta|sgpd|sbgp"
    rb"|RIFF|AVI |LIST|hdrl|avih|strh|strf|movi|idx1|fmt |data|00dc|01wb|OggS|fLaC"
)
ELEMENTS = re.compile(
    rb"\x1a\x45\xdf\xa3|\x18\x53\x80\x67|\x11\x4d\x9b\x74|\x15\x49\xa9\x66|\x16\x54\xae\x6b"
    rb"|\x1f\x43\xb6\x75|\x1c\x53\xbb\x6b|\x2a\xd7\xb1|\x44\x89|\xae|\xd7|\x83|\x86|\x63\xa2"
    rb"|\x23\xe3\x83|\xe0|\xb0|\xba|\xe1|\xb5|\x9f|\xe7|\xa3|\xa0|\xa1|\x9b|\xfb|\x56\xaa|\x56\xbb"
)
PACKET = 188  # of MPEG-TS
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(corpus: Mapping[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Return the name and the content of a mutated file."""
    rng = random.Random(f"{seed}/{number}")
    name = rng.choice(sorted(corpus))
    data = bytearray(corpus[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(MUTATORS)(rng, data, corpus)
    if rng.random() < 0.1:
        other = rng.choice(sorted(corpus))
        name = f"{name}.{other.rpartition('.')[2]}"
    return name, bytes(data)


def _place(rng: random.Random, data: bytearray) -> int:
    """Return a place, as often as not near the beginning."""
    end = min(len(data), HEAD) if rng.random() < 0.5 else len(data)
    return rng.randrange(max(1, end))


def _piece(rng: random.Random, data: bytearray) -> slice:
    start = _place(rng, data)
    return slice(start, start + int(2 ** rng.uniform(0, 13)))


def flip_bits(rng: random.Random, data: bytearray, _: Mapping[str, bytes]) -> bytearray:
    """Turn single bits over."""
    for _n in range(rng.choice((1, 2, 8, 64, 512)) if data else 0):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return data


def overwrite(rng: random.Random, data: bytearray, _: Mapping[str, bytes]) -> bytearray:
    """Fill a piece with one byte, or with noise."""
    piece = _piece(rng, data)
    size = len(data[piece])
    same = bytes([rng.choice((0, 255, 128))]) * size
    data[piece] = rng.randbytes(size) if rng.random() < 0.5 else same
    return data


def cut(rng: random.Random, data: bytearray, _: Mapping[str, bytes]) -> bytearray:
    """Leave the end out, or the beginning."""
    at = _place(rng, data)
    return data[:at] if rng.random() < 0.7 else data[at:]


def take_out(rng: random.Random, data: bytearray, _: Mapping[str, bytes]) -> bytearray:
    """Leave a piece out."""
    del data[_piece(rng, data)]
    return data


def repeat(rng: random.Random, data: bytearray, _: Mapping[str, bytes]) -> bytearray:
    """Put a piece in again, some times."""
    piece = bytes(data[_piece(rng, data)])
    at = _place(rng, data)
    data[at:at] = piece * rng.choice((1, 2, 5, 50))
    return data


def splice(rng: random.Random, data: bytearray, corpus: Mapping[str, bytes]) -> bytearray:
    """Go on with the rest of another file."""
    other = corpus[rng.choice(sorted(corpus))]
    return data[: _place(rng, data)] + other[rng.randrange(max(1, len(other))) :]


def swap_head(rng: random.Random, data: bytearray, corpus: Mapping[str, bytes]) -> bytearray:
    """Begin as another file does."""
    size = rng.choice((4, 8, 16, 64, 512, 4096))
    return bytearray(corpus[rng.choice(sorted(corpus))][:size]) + data[size:]


def rewrite_number(rng: random.Random, data: bytearray, _: Mapping[str, bytes]) -> bytearray:
    """Put an extreme number somewhere."""
    size = rng.choice("BHIQ")
    order = rng.choice("<>")
    value = rng.choice((*EXTREMES, rng.getrandbits(32))) % 256 ** struct.calcsize(size)
    at = _place(rng, data)
    number = struct.pack(order + size, value)
    data[at : at + len(number)] = number
    return data


def rewrite_box(rng: random.Random, data: bytearray, corpus: Mapping[str, bytes]) -> bytearray:
    """Rewrite the size of a box or chunk, or a number in it; repeat it, or leave it out."""
    found = [match.start() for match in BOXES.finditer(data)]
    if not found:
        return rewrite_number(rng, data, corpus)
    at = rng.choice(found)
    size = struct.unpack_from(">I", data, at - 4)[0] if at >= 4 else 0
    box = slice(max(0, at - 4), max(0, at - 4) + min(max(size, 8), len(data)))
    how = rng.randrange(5)
    if how == 0:
        data[box.start : box.start + 4] = struct.pack(">I", rng.choice((*EXTREMES, size + 1)))
    elif how == 1:
        data[box.stop : box.stop] = bytes(data[box]) * rng.choice((1, 3, 100))
    elif how == 2:
        del data[box]
    else:
        inside = at + 4 + 4 * rng.randrange(8)
        value = rng.choice((*EXTREMES, rng.getrandbits(32), rng.randrange(1000)))
        data[inside : inside + 4] = struct.pack(rng.choice("<>") + "I", value)
    return data


def rewrite_element(rng: random.Random, data: bytearray, corpus: Mapping[str, bytes]) -> bytearray:
    """Rewrite the size or the number in an element of Matroska."""
    found = [match.end() for match in ELEMENTS.finditer(data, 0, HEAD)]
    if not found or data[:4] != b"\x1a\x45\xdf\xa3":
        return rewrite_box(rng, data, corpus)
    at = rng.choice(found)
    if rng.random() < 0.4:
        data[at : at + 1] = rng.choice((b"\x01", b"\x80", b"\x84", b"\x88", b"\xff", b"\x10"))
    else:
        value = rng.choice((*EXTREMES, rng.getrandbits(32)))
        size = rng.choice((1, 2, 4, 8))
        data[at + 1 : at + 1 + size] = (value % 256**size).to_bytes(size, "big")
    return data


def rewrite_packets(rng: random.Random, data: bytearray, corpus: Mapping[str, bytes]) -> bytearray:
    """Move, drop or repeat packets of MPEG-TS, or rewrite times in headers of packets."""
    if rng.random() < 0.5 and data[:1] == b"\x47":
        packets = [bytes(data[i : i + PACKET]) for i in range(0, len(data), PACKET)]
        at, to = rng.randrange(len(packets)), rng.randrange(len(packets))
        size = rng.choice((1, 3, 20))
        some = packets[at : at + size]
        if rng.random() < 0.5:
            del packets[at : at + size]
        packets[to:to] = some * rng.choice((0, 1, 4))
        return bytearray(b"".join(packets))
    found = [match.start() for match in re.finditer(rb"\0\0\x01[\xc0-\xef]", data)]  # PES
    if data[:3] == b"FLV":
        found = [match.start() for match in re.finditer(rb"[\x08\x09\x12](?=\0)", data)]
    if not found:
        return rewrite_number(rng, data, corpus)
    for _ in range(rng.choice((1, 2, 20))):
        at = rng.choice(found) + rng.randrange(1, 16)
        data[at : at + 4] = rng.randbytes(4) if rng.random() < 0.7 else b"\x7f\xff\xff\x7f"
    return data


def write_text(rng: random.Random, _: bytearray, __: Mapping[str, bytes]) -> bytearray:
    """Be a text, under the name of a film."""
    return bytearray(rng.choice(sorted(TEXTS.values())).encode())


MUTATORS: tuple[Mutator, ...] = (
    flip_bits,
    flip_bits,
    overwrite,
    cut,
    take_out,
    repeat,
    splice,
    swap_head,
    rewrite_number,
    rewrite_number,
    rewrite_box,
    rewrite_box,
    rewrite_box,
    rewrite_element,
    rewrite_element,
    rewrite_packets,
    rewrite_packets,
    write_text,
)
