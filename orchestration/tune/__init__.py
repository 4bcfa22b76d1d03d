"""Searches: Ray Tune tries settings of a recipe, Optuna proposes them."""

LENGTHS, OVERLAPS, INPUT_S = "0.16,0.32,0.64,1.28", "0,0.5", 5.12
"""What a search for segment lengths tries unless told otherwise."""
