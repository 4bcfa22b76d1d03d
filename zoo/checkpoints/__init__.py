"""Checkpoints of others: read without running their code, and written back."""
