"""Benchmarks: ratios between two ways of doing the same work, taken in one run on one machine."""
