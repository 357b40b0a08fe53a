"""Hyperparameter searches with KerasTuner. Nothing is here yet."""
