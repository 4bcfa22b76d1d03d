"""An engine that breaks off, as a run does that somebody interrupts."""

from pathlib import Path
from typing import Any

from zoo.training.engine import LocalEngine


class StopsEarly(LocalEngine):
    """Breaks off after a number of checkpoints."""

    def __init__(self, checkpoints: Path, num: int = 1) -> None:
        super().__init__(checkpoints)
        self.num = num

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        super().report(metrics, checkpoint)
        if len(self.reports) == self.num:
            raise KeyboardInterrupt
