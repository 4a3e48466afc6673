"""Model -> replies: what every face of the model asks."""
