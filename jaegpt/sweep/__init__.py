"""The search for the settings of the lowest loss: space, study, snapshot, trials, results."""
