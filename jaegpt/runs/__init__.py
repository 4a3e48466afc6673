"""Runs -> answers: DVC's records of them, the table, the report and its pictures, the plots page."""
