"""Times that start again, jump or are wild, put on one clock: what the packets of a clip say.

Recordings that were joined begin at their own time each, and a bit that fell over makes one packet
24 days late.  All packets are read once, none is decoded.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import av

from zoo.media.through import reading_through
from zoo.media.untrusted import demuxed, open_container
from zoo.timeline import clock_tenths

Reach = Callable[[int | None], None]
BACK_S = 1.0  # packets of a stream may go back so far: frames are stored before those they refer to
JUMP_S = 10.0  # what is sent or joined does not stand still for longer
PAUSE_S = 3600.0  # nor does what was recorded with times of its own, such as a screen
MAY_JUMP = {"mpegts", "mpeg", "flv"}
STEP_S = 1.0  # from here on, a step is looked at: do the packets behind it come back?
AHEAD = 64  # so many packets are asked
FEW = 16  # so many packets of one stream are outliers, more are a stretch of their own
LATEST = 8  # stretches to which a packet may belong


class Packet(NamedTuple):
    """A packet, with times on the container's own clock.

    Attributes:
        stream: its index.
        number: within its stream, from 0.
        order_s: time by which packets of a stream are stored; the decoding time where there is one.
        shown_s: presentation time.
        length_s: of what is in it.
    """

    stream: int
    number: int
    order_s: float
    shown_s: float
    length_s: float


@dataclass(frozen=True)
class Times:
    """What is known of a clip once all packets were read.

    Attributes:
        spans_s: first time and end of every stream by its index, on the clock that is read.
        moves: by the index of a stream, where packets begin to be moved: (number of the packet
            from 0, by how much later, seconds). Empty where all times can be taken as they are.
        notes: what was assumed.
        is_timed: whether packets have times at all.
    """

    spans_s: dict[int, tuple[float, float]]
    moves: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_timed: bool = True


def times_in_order(
    container: Any, streams: Sequence[Any], reach: Reach = lambda _: None
) -> Times | None:
    """Read all packets of some streams; None if steps back, or long ones ahead, are to be settled.

    Args:
        container: as it was opened.
        streams: of it.
        reach: is told the place of each packet in the file.
    """
    spans_s: dict[int, tuple[float, float]] = {}
    last: dict[int, float] = {}
    first_s: float | None = None
    counted: Counter[int] = Counter()
    for packet in _packets(container, streams, counted, reach):
        first_s = packet.order_s if first_s is None else first_s
        before_s = last.get(packet.stream)
        if before_s is None and abs(packet.order_s - first_s) > JUMP_S:
            return None
        if before_s is not None and not before_s - BACK_S <= packet.order_s <= before_s + STEP_S:
            return None
        last[packet.stream] = packet.order_s
        _widen(spans_s, packet)
    if not spans_s:
        ends_s = {
            s.index: counted[s.index] * frame_length_s(s) for s in streams if s.type == "video"
        }
        return Times({i: (0.0, end_s) for i, end_s in ends_s.items() if end_s}, is_timed=False)
    return Times(spans_s)


def settled_times(container: Any, streams: Sequence[Any], reach: Reach = lambda _: None) -> Times:
    """Read all packets of some streams, and put them on one clock; see `settle`.

    Arguments are those of `times_in_order`.
    """
    packets = list(_packets(container, streams, Counter(), reach))
    kinds = {s.index: s.type for s in streams}
    video = next((index for index, kind in kinds.items() if kind == "video"), None)
    by_s = settle(packets, video, JUMP_S if container.format.name in MAY_JUMP else PAUSE_S)
    spans_s: dict[int, tuple[float, float]] = {}
    moves: dict[int, list[tuple[int, float]]] = {s.index: [(0, 0.0)] for s in streams}
    for packet, by in zip(packets, by_s, strict=True):
        _widen(spans_s, packet, by)
        if by != moves[packet.stream][-1][1]:
            moves[packet.stream].append((packet.number, by))
    return Times(
        spans_s=spans_s,
        moves=moves if any(by_s) else {},
        notes=tuple(_notes(packets, by_s, kinds)),
    )


@lru_cache(maxsize=4096)  # a clip is opened for every window of it that training reads
def times_of(
    path: Path, identity: tuple[int, ...], indices: tuple[int | None, int | None]
) -> Times:
    """Read all packets of some streams of a file; the identity tells whether it has changed."""
    found: Times | None = None
    for read in (times_in_order, settled_times):
        if found is None:
            with open_container(path) as container, reading_through(path, container.size) as reach:
                streams = [container.streams[index] for index in indices if index is not None]
                found = read(container, streams, reach)
    assert found is not None
    return found


def _packets(
    container: Any, streams: Sequence[Any], counted: Counter[int], reach: Reach
) -> Iterator[Packet]:
    """Yield the packets that have times, up to the end or an error; all are counted."""
    has_dts = container.format.name != "matroska,webm"  # where FFmpeg makes them up
    ticks_s = {s.index: float(s.time_base) for s in streams}
    demuxer = demuxed(container, *streams)
    while True:
        try:
            packet = next(demuxer)
        except (StopIteration, av.FFmpegError):
            return
        if not packet.size:
            continue
        reach(packet.pos)
        index = packet.stream.index
        counted[index] += 1
        if packet.pts is None:
            continue
        tick_s = ticks_s[index]
        order = packet.dts if has_dts and packet.dts is not None else packet.pts
        length_s = (packet.duration or 0) * tick_s
        yield Packet(index, counted[index] - 1, order * tick_s, packet.pts * tick_s, length_s)


def frame_length_s(stream: Any) -> float:
    """Return how long a frame of video lasts as far as its container says, seconds."""
    return float(1 / (stream.average_rate or stream.guessed_rate or 25))


def _widen(spans_s: dict[int, tuple[float, float]], packet: Packet, by_s: float = 0.0) -> None:
    start_s = round(packet.shown_s + by_s, 6)
    first_s, end_s = spans_s.get(packet.stream, (start_s, start_s))
    end_s = max(end_s, round(start_s + packet.length_s, 6))
    spans_s[packet.stream] = min(first_s, start_s), end_s


def settle(packets: Sequence[Packet], video: int | None, jump_s: float = JUMP_S) -> list[float]:
    """Say for every packet by how much later it is to be taken, seconds.

    A packet that goes on neither in its own stretch nor in one of the others begins a new stretch,
    right behind the packet before it.  Sound and picture of a stretch move alike.

    Args:
        packets: in the order they are stored.
        video: index of the video stream, whose frames go on without a gap or on their lattice.
        jump_s: longer pauses of all streams are no pauses.
    """
    ahead: dict[int, list[float]] = defaultdict(list)
    for packet in reversed(packets):
        ahead[packet.stream].append(packet.order_s)
    begin = [packet.order_s for packet in packets[: 2 * FEW]]
    usual_s = statistics.median_low(begin)
    first_s = min(t for t in begin if abs(t - usual_s) <= JUMP_S)
    latest_s = first_s
    moves, numbers = [0.0], []
    own: dict[int, int] = {}
    last: dict[int, float] = {}
    recent = [0]

    def fits(packet: Packet, by_s: float) -> bool:
        time_s, end_s = packet.order_s + by_s, last.get(packet.stream)
        lowest_s = first_s - jump_s if end_s is None else end_s - BACK_S
        expected_s = first_s if end_s is None else end_s
        if not lowest_s <= time_s <= max(latest_s, expected_s) + jump_s:
            return False
        following = ahead[packet.stream][-1 : -1 - AHEAD : -1]
        return time_s <= expected_s + STEP_S or not any(
            lowest_s <= other + by_s < time_s - BACK_S for other in following
        )

    def begins_s(packet: Packet) -> float:
        near = (t for t in reversed(ahead[packet.stream]) if abs(t - first_s) <= jump_s)
        return next(near, first_s) - packet.length_s

    for packet in packets:
        index = packet.stream
        ahead[index].pop()
        mine = own.get(index, 0)
        expected_s = last[index] if index in last else begins_s(packet)
        apart_s = {
            n: abs(packet.order_s + moves[n] - expected_s)
            for n in (mine, *recent)
            if fits(packet, moves[n])
        }
        number = min(apart_s, key=lambda n: apart_s[n], default=len(moves))
        if apart_s.get(mine, jump_s) <= STEP_S:
            number = mine
        if number == len(moves):
            moves.append(expected_s - packet.order_s)
        elif number not in (mine, 0) and index == video and packet.length_s:
            off_s = expected_s - (packet.order_s + moves[number])
            gap_s = round(off_s / packet.length_s) * packet.length_s
            moves[number] += off_s if abs(off_s) <= STEP_S else off_s - gap_s
        recent = [number, *(n for n in recent if n != number)][:LATEST]
        own[index] = number
        end_s = packet.order_s + moves[number] + packet.length_s
        last[index] = max(last.get(index, end_s), end_s)
        latest_s = max(latest_s, end_s)
        numbers.append(number)
    return [moves[number] for number in numbers]


def _notes(
    packets: Sequence[Packet], by_s: Sequence[float], kinds: dict[int, str]
) -> Iterator[str]:
    """Say where times start again, and how many are wild."""
    first_s = min(packet.shown_s + by for packet, by in zip(packets, by_s, strict=True))
    wild: Counter[str] = Counter()
    furthest_s = 0.0
    breaks: dict[float, set[str]] = defaultdict(set)
    where: dict[float, str] = {}
    for index, kind in kinds.items():
        mine = [(p, by) for p, by in zip(packets, by_s, strict=True) if p.stream == index]
        before: Packet | None = None
        usual = 0.0
        for by, run in groupby(mine, key=lambda pair: pair[1]):
            stretch = [packet for packet, _ in run]
            if by == usual:
                before = stretch[-1]
                continue
            if len(stretch) <= FEW:
                wild[kind] += len(stretch)
                furthest_s = max(furthest_s, abs(by - usual))
                continue
            breaks[by].add(kind)
            start_s = stretch[0].shown_s
            is_again = before is not None and start_s < before.shown_s
            how = "start again" if is_again else "jump"
            where.setdefault(by, f"{how} at {clock_tenths(start_s + by - first_s)}")
            usual, before = by, stretch[-1]
    if where:
        shown = ", ".join(islice(where.values(), 3)) + (", ..." if len(where) > 3 else "")
        yield (
            f"the times of the file {shown}, as where recordings were joined; "
            "what follows is taken to come right behind"
        )
    alone = {kind for sharing in breaks.values() if len(sharing) < len(kinds) for kind in sharing}
    if alone:
        yield (
            f"only those of the {' and '.join(sorted(alone))} do so: sound and picture may not "
            "belong together from there on"
        )
    for kind, count in wild.items():
        off = f"{_span(furthest_s)} off"
        what = f"timestamp of the {kind} is {off} and was replaced"
        several = f"timestamps of the {kind} are up to {off} and were replaced"
        yield f"{count} {what if count == 1 else several}"


def _span(seconds: float) -> str:
    """Say how long in a unit that suits."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
