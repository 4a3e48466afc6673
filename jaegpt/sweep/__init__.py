"""The search for the settings of the lowest loss; each trial is a DVC experiment."""
