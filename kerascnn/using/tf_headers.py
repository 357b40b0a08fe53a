"""The same as kerascnn.datasets.image_headers, which reads a file's bytes, as operations of a TensorFlow graph.

A file is a string tensor. Numbers and places are int64.
"""

import tensorflow as tf

from kerascnn.datasets.image_headers import EOI, MOST_SCANS, NO_LENGTH, ORIENTATION, SOS


def byte_values(file, at, length):
    """int64 (length,) of the bytes from a place on, 0 beyond the file's end."""
    size = tf.cast(tf.strings.length(file), tf.int64)
    start = tf.cast(tf.clip_by_value(tf.cast(at, tf.int64), 0, size), tf.int32)
    length = tf.cast(length, tf.int32)
    there = tf.cast(tf.io.decode_raw(tf.strings.substr(file, start, length), tf.uint8), tf.int64)
    return tf.pad(there, [[0, length - tf.size(there)]])


def number(digits, little=False):
    """The unsigned numbers whose bytes are int64 (..., length)."""
    powers = tf.constant([256**i for i in range(digits.shape[-1])], tf.int64)
    return tf.reduce_sum(digits * tf.where(little, powers, powers[::-1]), -1)


def number_at(file, at, length, little=False):
    """The unsigned number of `length` bytes at a place."""
    return number(tf.ensure_shape(byte_values(file, at, length), (length,)), little)


def begins(file, mark, at=0):
    """True if the file has these bytes at a place."""
    start = tf.minimum(tf.cast(at, tf.int32), tf.strings.length(file))
    return tf.strings.substr(file, start, len(mark)) == mark


def exif_orientation(exif):
    """The orientation, 1 to 8, in a block of EXIF; 1 if there is none or it is not valid."""
    size = tf.cast(tf.strings.length(exif), tf.int64)
    little = begins(exif, b"II")
    table = number_at(exif, 4, 4, little)
    count = tf.clip_by_value(tf.minimum(number_at(exif, table, 2, little), (size - table - 2) // 12), 0, 65535)
    entries = tf.reshape(byte_values(exif, table + 2, 12 * count), (-1, 12))
    entries = entries[number(entries[:, :2], little) == ORIENTATION]
    kind = number(entries[:, 2:4], little)

    def of(kinds, length):
        chosen = tf.reduce_any(kind[:, None] == tf.constant(kinds, tf.int64), -1)
        return tf.where(chosen, number(entries[:, 8 : 8 + length], little), 0)

    values = tf.concat([of((1, 6), 1) + of((3, 8), 2) + of((4, 9), 4), [1]], 0)
    known = (little | begins(exif, b"MM")) & (values[0] >= 1) & (values[0] <= 8)
    return tf.where(known, values[0], 1)


def jpeg_segment(file, start, mark):
    """(place of the first segment of a JPEG file that starts with `start` and has `mark` behind its length, whether
    there is one before the pixels)."""

    def is_it(at):
        return begins(file, start, at) & begins(file, mark, at + 4)

    def another(at):
        marker = number_at(file, at, 2)
        return (marker > 0xFF00) & (marker != 0xFF00 + SOS) & (marker != 0xFF00 + EOI) & ~is_it(at)

    def after(at):
        marker = number_at(file, at, 2)
        bare = tf.reduce_any(marker - 0xFF00 == tf.constant(NO_LENGTH, tf.int64))
        length = 2 + number_at(file, at + 2, 2) * tf.cast(~bare, tf.int64)
        return (tf.where(marker == 0xFFFF, at + 1, at + length),)

    (at,) = tf.while_loop(another, after, (tf.constant(2, tf.int64),))
    return at, is_it(at)


def jpeg_orientation(file):
    """The orientation that a JPEG file's first EXIF segment names, or 1."""
    at, there = jpeg_segment(file, b"\xff\xe1", b"Exif\0\0")
    start = tf.minimum(tf.cast(at, tf.int32) + 10, tf.strings.length(file))
    exif = tf.strings.substr(file, start, tf.cast(tf.maximum(number_at(file, at + 2, 2) - 8, 0), tf.int32))
    return tf.cond(there, lambda: exif_orientation(exif), lambda: tf.constant(1, tf.int64))


def num_scans(file):
    """The number of scans of a JPEG file, counted up to MOST_SCANS + 1."""
    values = tf.io.decode_raw(file, tf.uint8)
    kinds = values[1:]
    within = (kinds == 0) | (kinds == 255) | ((kinds >= 0xD0) & (kinds <= 0xD7))  # the pixels of a scan
    places = tf.where((values[:-1] == 255) & ~within)[:, 0]
    end = tf.cast(tf.size(values), tf.int64)
    places = tf.concat([places, [end]], 0)

    def kind_at(place):
        return number_at(file, place + 1, 1)

    def next_place(at):
        return places[tf.minimum(tf.searchsorted(places, [at])[0], tf.size(places) - 1)]

    def going_on(place, scans):
        return (place < end) & (kind_at(place) != EOI) & (scans <= MOST_SCANS)

    def step(place, scans):
        kind = kind_at(place)
        bare = tf.reduce_any(kind == tf.constant(NO_LENGTH, tf.int64))
        length = 2 + number_at(file, place + 2, 2) * tf.cast(~bare, tf.int64)
        return next_place(place + length), scans + tf.cast(kind == SOS, tf.int64)

    first = next_place(tf.constant(2, tf.int64))
    return tf.while_loop(going_on, step, (first, tf.constant(0, tf.int64)))[1]


def png_metadata(file):
    """(orientation, significant bits or 0, whether a colour is transparent) of a PNG file."""
    size = tf.cast(tf.strings.length(file), tf.int64)

    def going_on(at, exif, length, bits, clear):
        return (at + 8 <= size) & ~begins(file, b"IEND", at + 4)

    def step(at, exif, length, bits, clear):
        here = number_at(file, at, 4)
        is_exif = begins(file, b"eXIf", at + 4) & (exif == 0)
        exif, length = tf.where(is_exif, at + 8, exif), tf.where(is_exif, here, length)
        named = tf.reduce_max(byte_values(file, at + 8, tf.minimum(here, 3)))
        bits = tf.where(begins(file, b"sBIT", at + 4) & (here > 0), named, bits)
        return at + 12 + here, exif, length, bits, clear | begins(file, b"tRNS", at + 4)

    zero = tf.constant(0, tf.int64)
    start = (zero + 8, zero, zero, zero, tf.constant(False))
    _, exif, length, bits, clear = tf.while_loop(going_on, step, start)
    block = tf.strings.substr(file, tf.cast(exif, tf.int32), tf.cast(tf.minimum(length, size), tf.int32))
    return exif_orientation(block), bits, clear


def gif_is_plain(file):
    """True if a GIF file's first frame covers the whole image and nothing in it is transparent."""
    flags = number_at(file, 10, 1)
    colours = tf.where(flags >= 128, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)

    def going_on(at, in_blocks, clear):
        return in_blocks | begins(file, b"\x21", at)

    def step(at, in_blocks, clear):
        here = number_at(file, at, 1)
        clear |= ~in_blocks & begins(file, b"\xf9", at + 1) & (number_at(file, at + 3, 1) % 2 == 1)
        return tf.where(in_blocks, at + 1 + here, at + 2), ~in_blocks | (here > 0), clear

    no = tf.constant(False)
    at, _, clear = tf.while_loop(going_on, step, (13 + colours, no, no))
    whole = tf.reduce_all(
        byte_values(file, at + 1, 8) == tf.concat([tf.zeros(4, tf.int64), byte_values(file, 6, 4)], 0)
    )
    return ~clear & begins(file, b"\x2c", at) & whole
