"""What the benchmarks share: timing, the machine, results, the tables of docs/performance.md."""
