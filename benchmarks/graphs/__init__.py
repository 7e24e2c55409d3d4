"""Graphs that benchmarks read: Planetoid's citation networks, TU's collections, NAS-Bench-Graph's table."""
