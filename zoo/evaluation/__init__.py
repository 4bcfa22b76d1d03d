"""How good a model is at its task: protocols, rounds, scores, reports."""
