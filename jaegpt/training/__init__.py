"""Token ids -> model."""
