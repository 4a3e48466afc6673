"""The run's own training step, compiled for TPU slices without a TPU."""
