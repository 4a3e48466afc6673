"""Model -> figures: losses, fidelity, privacy."""
