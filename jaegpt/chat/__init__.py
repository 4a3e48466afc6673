"""Replies -> people and programs: terminal, page, server."""
