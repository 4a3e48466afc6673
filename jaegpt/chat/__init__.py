"""model -> conversation."""
