"""Messages -> examples: language, turns, sessions, examples, encoding."""
