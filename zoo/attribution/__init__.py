"""Evidence attribution: which moments of a clip its offset is read from (paper section 4.1)."""

from zoo.attribution.results import Attribution, Evidence
from zoo.attribution.run import Options, attribute

__all__ = ["Attribution", "Evidence", "Options", "attribute"]
