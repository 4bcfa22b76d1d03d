"""Mutated media files: each must be answered, or refused in one clear sentence."""
