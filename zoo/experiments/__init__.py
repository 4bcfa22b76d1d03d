"""Trainings as processes, what they come to, how that is shown; and ablations of them."""
