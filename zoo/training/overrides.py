"""``--set``: single numbers of a recipe, and what follows from the length of a segment."""

from __future__ import annotations

import json

from pydantic import JsonValue

from zoo.models.settings import assign, read_value, split_assignment
from zoo.timeline import LATTICE_TOLERANCE, count_steps
from zoo.training.recipe import Recipe, parse_recipe

_SEGMENT_KEYS = ("layout.segment_s", "model.layout.segment_s")


def override(recipe: Recipe, assignments: list[str]) -> Recipe:
    """Apply ``a.b=c`` assignments; values are read as YAML.

    ``layout.segment_s`` moves what follows from it unless that is set too: the segments of both
    extractors, or the lengths of the encoder that are as long (``..._s``), the step (the overlap
    stays), and the number of segments of both stages (what they cover stays).

    Raises:
        ConfigError: for an unknown key (with a suggestion) or a value of the wrong type.
    """
    data = json.loads(recipe.model_dump_json())
    pairs = [(key, read_value(text)) for key, text in map(split_assignment, assignments)]
    segment_s = next((value for key, value in reversed(pairs) if key in _SEGMENT_KEYS), None)
    if segment_s is not None:
        for key, value in _follow(recipe, segment_s).items():
            assign(data, key, value)
    for key, value in pairs:
        assign(data, key, value)
    return parse_recipe(data)


def _follow(recipe: Recipe, segment_s: JsonValue) -> dict[str, JsonValue]:
    """Return the settings that follow from the length of a segment."""
    follows: dict[str, JsonValue] = {}
    pair = recipe.model.two_tower()
    if pair is not None:
        for name, part in (("audio", pair.audio), ("vision", pair.vision)):
            if part.extractor_config().segment_s == recipe.model.layout.segment_s:
                follows[f"{name}.segment_s"] = segment_s
    else:
        for key, value in recipe.model.encoder.config.items():
            if key.endswith("_s") and value == recipe.model.layout.segment_s:
                follows[f"encoder.{key}"] = segment_s
    if not isinstance(segment_s, int | float) or isinstance(segment_s, bool) or segment_s <= 0:
        return follows  # refused where it is validated
    layout = recipe.model.layout
    step_s = layout.step_s * segment_s / layout.segment_s
    fps = recipe.model.vision_fps
    if abs(step_s * fps - round(step_s * fps)) > LATTICE_TOLERANCE or layout.num_segments == 1:
        return follows
    step_s = round(step_s, 9)
    covered_s = layout.covered_s
    follows["layout.step_s"] = step_s
    follows["layout.num_segments"] = max(1, count_steps(covered_s, segment_s, step_s))
    stage1_s = recipe.stage1_layout.covered_s
    follows["stage1.num_segments"] = max(1, count_steps(stage1_s, segment_s, segment_s))
    return follows
