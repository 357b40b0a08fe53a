"""The rules of the reverse walk: one small file per kind of primitive step, forward and back, `keras.ops` alone."""
