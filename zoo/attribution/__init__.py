"""Evidence attribution: which moments of a clip its offset is read from (paper section 4.1)."""

from zoo.attribution.evidence import Attribution, Evidence
from zoo.attribution.random_masks import Options, attribute

__all__ = ["Attribution", "Evidence", "Options", "attribute"]
