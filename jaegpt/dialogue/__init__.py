"""Messages -> turns -> sessions -> examples -> token ids."""
