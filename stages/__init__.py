"""One thin module per pipeline stage, run from the project's top folder as `python -m stages.NAME`."""
