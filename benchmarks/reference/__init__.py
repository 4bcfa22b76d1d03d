"""The published method written plainly, to compare with: for the benchmarks only.

Attention as separate einsums with explicit copies of CLS, whole clips decoded and then cropped,
features computed for every sample.  tests/unit/test_performance.py holds it to the same numbers as
the modules and readers it is compared with.
"""
