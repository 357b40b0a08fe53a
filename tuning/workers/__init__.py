"""Who runs the trials: the service that lends them, workers on this and other machines, a process for each trial."""
