"""Models for use without this package: torch.export programs and ONNX files, checked first.

>>> from zoo.export import export
>>> export("tiny-synthetic", "model.onnx", format="onnx").differences

How to use the files is described in docs/export.md.
"""

from zoo.export.formats import METADATA
from zoo.export.write_export import Exported, export

__all__ = ["METADATA", "Exported", "export"]
