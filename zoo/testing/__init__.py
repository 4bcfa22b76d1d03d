"""Contract tests for plugin authors, one line per component.

    from zoo.testing import check_extractor

    def test_melcnn():
        check_extractor("melcnn")

Every check builds the ``tiny`` preset on the CPU, takes about a second, and raises AssertionError
with a sentence that says which promise is broken.
"""

from zoo.testing.components import (
    CHECKS,
    any_tower,
    check_aggregator,
    check_dataset,
    check_extractor,
    check_head,
    check_objective,
    fake_segments,
)
from zoo.testing.specs import check_spec, heavy_imports

__all__ = [
    "CHECKS",
    "any_tower",
    "check_aggregator",
    "check_dataset",
    "check_extractor",
    "check_head",
    "check_objective",
    "check_spec",
    "fake_segments",
    "heavy_imports",
]
