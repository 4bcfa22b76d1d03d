"""How many GPU-hours would both stages take on VGGSound?  Counted, not measured.

    python benchmarks/projection.py

Counts the operations of the paper's sizes and divides them by an assumed share of a GPU's bf16
peak.  Nothing is timed: decoding, communication and memory are left out, and a share of the peak is
an assumption until somebody measures it (benchmarks/extractor.py --device cuda).  Takes seconds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import results
from benchmarks.extractor import STAGE1_EPOCHS, STAGE2_EPOCHS, TRAINING, VGGSOUND_CLIPS
from zoo.models.cost import model_cost
from zoo.models.model import Model
from zoo.timeline import count_steps
from zoo.training.recipe_builder import build_recipe

PEAK_FLOPS = {"MI250": 362e12, "H100": 989e12}  # dense bf16, of their data sheets
SHARES = (0.1, 0.2, 0.4)
PAPER_HOURS = {"stage1": 500, "stage2": 2100}  # MI250-hours, Table 1 of the paper
CLIP_S, SEGMENTS = 10.0, 14


def main() -> None:
    options = results.parser(__doc__, "projection").parse_args()
    recipe = build_recipe(extractor="ast_motionformer", head="sync", preset="paper")
    layout = recipe.model.layout
    with torch.device("meta"), torch.no_grad():
        model = Model(recipe.model).eval()
        segment_flops = {}
        for part in (model.separable.audio, model.separable.vision):
            shape = model.io.modality(part.modality).segment_shape
            with FlopCounterMode(display=False) as counted:
                part(torch.empty(1, *shape))
            segment_flops[part.modality] = counted.get_total_flops()
    both = sum(segment_flops.values())
    stored = {
        "vision": count_steps(CLIP_S, layout.segment_s, layout.step_s),
        "audio": count_steps(CLIP_S, layout.segment_s, 1 / model.vision_frontend.fps),
    }
    head = TRAINING * model_cost(recipe.model).head_flops * VGGSOUND_CLIPS * STAGE2_EPOCHS
    epochs = VGGSOUND_CLIPS * SEGMENTS * both
    work = {
        "stage1": TRAINING * STAGE1_EPOCHS * epochs,
        "stage2_online": STAGE2_EPOCHS * epochs + head,
        "stage2_store": VGGSOUND_CLIPS * sum(segment_flops[m] * n for m, n in stored.items())
        + head,
    }
    result: dict[str, Any] = {
        "segment_flops": segment_flops,
        "segments_stored_of_a_clip": stored,
        "flops": work,
        "paper_hours": PAPER_HOURS,
        "paper_share": {
            stage: work[name] / (hours * 3600 * PEAK_FLOPS["MI250"])
            for stage, name, hours in (
                ("stage1", "stage1", PAPER_HOURS["stage1"]),
                ("stage2", "stage2_online", PAPER_HOURS["stage2"]),
            )
        },
        "hours": {
            gpu: {
                str(share): {name: flops / (peak * share * 3600) for name, flops in work.items()}
                for share in SHARES
            }
            for gpu, peak in PEAK_FLOPS.items()
        },
    }
    results.write(options.out, torch.device("cpu"), result)


if __name__ == "__main__":
    main()
