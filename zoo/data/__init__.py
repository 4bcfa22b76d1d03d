"""Clips on disk: manifests, their checks, crops and the feature store."""
