"""The rules of the steps: one small file per kind of step, forward and back, `keras.ops` alone."""
