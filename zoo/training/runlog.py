"""What a run leaves to read: metrics as JSONL and TensorBoard, and the clips left out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from zoo.files import append_line, write_whole

METRICS = "metrics.jsonl"
QUARANTINE = "quarantine.jsonl"


class RunLog:
    """Writes on rank 0 and is silent elsewhere."""

    def __init__(self, run: Path, rank: int) -> None:
        self.run, self.active = run, rank == 0
        self.writer: Any = None
        if self.active:
            from torch.utils.tensorboard import SummaryWriter

            run.mkdir(parents=True, exist_ok=True)
            self.writer = SummaryWriter(str(run / "tensorboard"))

    def write(self, stage: int, step: int, kind: str, **values: float | str) -> None:
        """Append one record; ``kind`` is train, valid, sliding, features, damaged or done.

        ``cpu_s`` is the processor time of this process so far: what a run costs, however busy the
        machine is.
        """
        if not self.active:
            return
        clocks = {"time": time.time(), "cpu_s": time.process_time()}
        record = {"stage": stage, "step": step, "kind": kind, **clocks, **values}
        append_line(self.run / METRICS, json.dumps(record))
        numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
        for name, value in numbers.items():
            self.writer.add_scalar(f"stage{stage}/{kind}/{name}", value, step)

    def rewind(self, stage: int, step: int) -> None:
        """Forget what was logged after a checkpoint that the run resumes from, and its end."""
        file = self.run / METRICS
        if not self.active or not file.exists():
            return
        kept = [
            record
            for record in read_metrics(self.run)
            if (record["stage"], record["step"]) <= (stage, step) and record["kind"] != "done"
        ]
        write_whole(file, "".join(json.dumps(record) + "\n" for record in kept))

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self.writer is not None:
            self.writer.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read all records of a run; a half-written last line is left out."""
    return _read_lines(run / METRICS)


def _read_lines(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    records = []
    for line in file.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def quarantine(run: Path, path: Path, reason: str) -> None:
    """Record a clip that training could not read, once."""
    if str(path) in read_quarantine(run):
        return
    append_line(run / QUARANTINE, json.dumps({"path": str(path), "reason": reason}))


def read_quarantine(run: Path) -> dict[str, str]:
    """Return the clips left out and why."""
    file = run / QUARANTINE
    return {record["path"]: record["reason"] for record in _read_lines(file)}
