"""What things cost, measured: one module a benchmark, run by `scripts/bench`."""
