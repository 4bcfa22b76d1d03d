"""Contract tests for plugin authors, one line per component.

    from zoo.testing import check_extractor

    def test_melcnn():
        check_extractor("melcnn")

Every check builds the ``tiny`` preset on the CPU, takes about a second, and raises AssertionError
with a sentence that says which promise is broken.
"""

from collections.abc import Callable

from zoo.testing.components import (
    check_aggregator,
    check_dataset,
    check_extractor,
    check_head,
    check_objective,
)
from zoo.testing.fakes import any_tower, fake_segments
from zoo.testing.specs import check_spec, heavy_imports
from zoo.testing.wholes import check_format, check_pair

CHECKS: dict[str, Callable[[str], None]] = {
    "extractors": check_extractor,
    "pairs": check_pair,
    "aggregators": check_aggregator,
    "heads": check_head,
    "objectives": check_objective,
    "datasets": check_dataset,
    "formats": check_format,
}
"""The check of every kind of component."""

__all__ = [
    "CHECKS",
    "any_tower",
    "check_aggregator",
    "check_dataset",
    "check_extractor",
    "check_format",
    "check_head",
    "check_objective",
    "check_pair",
    "check_spec",
    "fake_segments",
    "heavy_imports",
]
