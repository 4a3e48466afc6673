"""Runs -> answers: table, report, pictures."""
