"""Runs -> answers: the plots page."""
