"""Tokens -> model: packing, double heads, devices, the training loop."""
