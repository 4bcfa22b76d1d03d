"""Plugins: hooks, the manager, and everything that is registered."""
