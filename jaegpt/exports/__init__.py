"""Downloads -> messages."""
