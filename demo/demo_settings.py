"""What whoever starts the demo may choose."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import ConfigError

SWEEP_S = 30  # between two looks for files that nobody needs any more


@dataclass(frozen=True)
class Settings:
    """Bounds of one server; all of them hold for the page and for the API alike.

    Attributes:
        model: the model that is chosen at first.
        device: where models compute.
        max_mb: largest upload, megabytes.
        max_minutes: longest clip, minutes.
        max_waiting: requests that may wait; the next one is told to come back later.
        parallel: requests that are worked on at the same time.
        keep_minutes: how long uploads and results are kept, minutes.
        allows_pull: whether visitors may have published models downloaded.
    """

    model: str = "tiny-synthetic"
    device: str = "cpu"
    max_mb: int = 200
    max_minutes: float = 10.0
    max_waiting: int = 20
    parallel: int = 1
    keep_minutes: float = 60.0
    allows_pull: bool = True

    def __post_init__(self) -> None:
        """Refuse bounds that would keep everybody out.

        Raises:
            ConfigError: if a bound is not above zero.
        """
        for name in ("max_mb", "max_minutes", "max_waiting", "parallel", "keep_minutes"):
            if getattr(self, name) <= 0:
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"{option} {getattr(self, name)} is not above 0")
