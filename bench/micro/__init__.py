"""Benchmarks of the parts of the hot path: `python -m pytest bench/micro`. See ../README.md."""
