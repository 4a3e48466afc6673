"""Measurements, run by hand: `make bench-data` and its like."""
