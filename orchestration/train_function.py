"""What Ray Train runs on every worker, in a module that is light.

Ray's controller imports the module too: a second more to start a run if torch's models came along.
"""

from __future__ import annotations

from typing import Any


def train_fn(config: dict[str, Any]) -> None:
    """Run the job that `orchestration.worker.to_config` packed."""
    from orchestration.worker import work

    work(config)
