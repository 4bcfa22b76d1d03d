"""CAV-MAE (arXiv 2210.07839): both modalities by themselves, then together."""

import zoo
from plugins.cavmae.config import CavMaeConfig
from zoo.timeline import SegmentLayout


def _build(config: CavMaeConfig) -> "zoo.Encoder":
    from plugins.cavmae.model import CavMae

    return CavMae(config)
