"""Benchmarks: what looking, recording and passing on cost. Not part of the package."""
