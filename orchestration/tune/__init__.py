"""Searches: Ray Tune tries settings of a recipe, Optuna proposes them."""
