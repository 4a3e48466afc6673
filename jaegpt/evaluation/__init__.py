"""Model -> figures: losses, accuracies and their intervals."""
