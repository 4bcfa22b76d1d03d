"""Computing a feature store: clips are decoded ahead, encoded here, and written shard by shard."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.contracts import Modality
from zoo.data.clip_reader import ClipReader
from zoo.data.growing_array import GrowingArray
from zoo.data.manifest import Clip
from zoo.data.store import INDEX, StoreConfig, shard_folder, shards_of
from zoo.data.store_blocks import Block, BlockPlan, Decoded, DecodedBlocks
from zoo.errors import MediaError
from zoo.files import remove_quietly
from zoo.models.model import Model

log = logging.getLogger(__name__)
SHORT = 2  # blocks: one of audio, one of video
Load = Callable[[Dataset[Decoded], Sequence[int]], Iterator[Decoded]]


def map_items(dataset: Dataset[Decoded], items: Sequence[int]) -> Iterator[Decoded]:
    """Read items one after the other, here."""
    return (dataset[item] for item in items)


@torch.no_grad()
def build_store(
    folder: Path,
    model: Model,
    reader: ClipReader,
    clips: list[Clip],
    config: StoreConfig,
    device: torch.device,
    *,
    rank: int = 0,
    world_size: int = 1,
    load: Load = map_items,
) -> Iterator[float]:
    """Compute this worker's shards and yield the number of clips done after each clip.

    Of a long clip, which is read in several blocks, it also yields how much of it is done.
    Finished shards are kept, so an interrupted build goes on where it was.  A clip that cannot be
    read is left out and its reason is kept in the shard's index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    mine = list(enumerate(shards_of(len(clips))))[rank::world_size]
    missing = [(n, shard) for n, shard in mine if not (shard_folder(folder, n) / INDEX).exists()]
    plan = BlockPlan(model, reader, config)
    blocks = {i: plan.blocks(i, clips[i]) for _, shard in missing for i in shard}
    done = sum(len(shard) for _, shard in mine) - len(blocks)
    if done:
        yield done
    every = [block for some in blocks.values() for block in some]
    decoded = load(DecodedBlocks(clips, reader, every), range(len(every)))
    for number, shard in missing:
        with _unfinished(folder, number) as temporary:
            with closing(_ShardWriter(temporary, config.dtype)) as writer:
                for index in shard:
                    own = blocks[index]
                    given = ((block, next(decoded)) for block in own)
                    for part in _store_clip(plan, writer, clips[index], given, device):
                        if part and len(own) > SHORT:
                            yield done + part / len(own)
                    done += 1
                    yield done
                writer.finish()
            target = shard_folder(folder, number)
            remove_quietly(target)
            temporary.rename(target)


def _store_clip(
    plan: BlockPlan,
    writer: _ShardWriter,
    clip: Clip,
    given: Iterator[tuple[Block, Decoded]],
    device: torch.device,
) -> Iterator[int]:
    """Encode the blocks of a clip, or leave it out; before each, yield how many are done."""
    try:
        counts = plan.rows(clip)
        for done, (block, decoded) in enumerate(given):
            yield done
            if isinstance(decoded, str):
                raise MediaError(decoded)
            for first, rows in plan.encode(block, clip, decoded[0].numpy(), device):
                writer.add(block.modality, first, rows)
        writer.end_clip(counts)
    except MediaError as error:
        log.warning("left out of the feature store: %s", error)
        writer.skip(str(error))
        for _ in given:  # what was read ahead
            pass


@contextmanager
def _unfinished(folder: Path, number: int) -> Iterator[Path]:
    """Give a folder for a shard that is not whole yet; those of killed workers go."""
    for left in folder.glob(f".shard-{number:05d}.*"):
        remove_quietly(left)
    temporary = folder / f".shard-{number:05d}.{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        remove_quietly(temporary)


class _ShardWriter:
    """Writes the rows of a shard's clips as they come, as two arrays and an index."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder = folder
        self._arrays: dict[Modality, GrowingArray] = {
            "audio": GrowingArray(folder / "audio.npy", dtype),
            "vision": GrowingArray(folder / "vision.npy", dtype),
        }
        self._index: list[dict[str, int | str]] = []

    def add(self, modality: Modality, first: int, rows: Tensor) -> None:
        """Write rows of a clip, from its row ``first`` on."""
        self._arrays[modality].write(first, rows.numpy())

    def end_clip(self, counts: dict[Modality, int]) -> None:
        """Keep the rows of a clip that were written."""
        entry: dict[str, int | str] = {}
        for modality, array in self._arrays.items():
            entry |= {f"{modality}_first": array.num_rows, f"{modality}_rows": counts[modality]}
            array.num_rows += counts[modality]
        self._index.append(entry)

    def skip(self, reason: str) -> None:
        """Forget what was written of a clip."""
        self._index.append({"skipped": reason})

    def finish(self) -> None:
        for array in self._arrays.values():
            array.finish()
        (self.folder / INDEX).write_text(json.dumps(self._index))

    def close(self) -> None:
        for array in self._arrays.values():
            array.close()
