"""Contract tests for plugin authors, one line per component.

    from zoo.testing import check_extractor

    def test_melcnn():
        check_extractor("melcnn")

Every check builds the ``tiny`` preset on the CPU, takes about a second, and raises AssertionError
with a sentence that says which promise is broken.
"""

from collections.abc import Callable

from zoo.registry.kinds import KINDS
from zoo.testing.datasets import check_command, check_dataset
from zoo.testing.encoders import check_encoder
from zoo.testing.extractors import check_extractor
from zoo.testing.fakes import fake_clips, fake_segments
from zoo.testing.formats import check_format
from zoo.testing.objectives import check_objective
from zoo.testing.specs import check_spec, heavy_imports
from zoo.testing.tasks import check_task
from zoo.testing.tokens import check_aggregator, check_head

CHECKS: dict[str, Callable[..., None]] = {
    kind.name: globals()[kind.check] for kind in KINDS.values()
}
"""The check of every kind of component."""

__all__ = [
    "CHECKS",
    "check_aggregator",
    "check_command",
    "check_dataset",
    "check_encoder",
    "check_extractor",
    "check_format",
    "check_head",
    "check_objective",
    "check_spec",
    "check_task",
    "fake_clips",
    "fake_segments",
    "heavy_imports",
]
