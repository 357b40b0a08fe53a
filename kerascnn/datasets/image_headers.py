"""What stands in an image file beside its pixels, read byte by byte: orientation, number of scans, TIFF tags.

Photographs carry tags and profiles of many programs, some of them odd. A reader that stumbles over one of these calls
whole pixels broken, so JPEG and PNG files are handed on without them, and TIFF files if they cannot be read otherwise.

Every function takes `read(start, length)`, which gives bytes of the file: fewer at its end, none beyond it.
"""

import re
import struct

ORIENTATION = 0x0112  # EXIF and TIFF tag; 5 to 8 exchange height and width
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # of JPEG; others stand within the pixels of a scan
SOI, EOI, SOS, EXIF, NO_LENGTH = 0xD8, 0xD9, 0xDA, 0xE1, (0x01, 0xD8)
JPEG_KEPT = (0xE0, 0xEE)  # of the APP segments: JFIF and Adobe, which say how colours are to be read
# The number of scans that JPEG files may have. Encoders write about ten; each costs a pass over all pixels.
FEW_SCANS, MOST_SCANS, MOST_SCAN_PIXELS = 24, 100, 1_000_000_000

BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, LARGEST, EXTRA, SAMPLE_FORMAT = 258, 259, 262, 277, 281, 338, 339
# The tags that say where and how the pixels of a TIFF file are stored
TIFF_KEPT = {254, 256, 257, 258, 259, 262, 266, 273, ORIENTATION, 277, 278, 279, 281, 284, 292, 293, 317, 320}
TIFF_KEPT |= {322, 323, 324, 325, 338, 339, 347, *range(512, 522), 529, 530, 531, 532}
UNKNOWN_TAG = 65000
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # types of TIFF values; struct's letters


def exif_orientation(exif):
    """The orientation, 1 to 8, in a block of EXIF (bytes); 1 where there is none or one that means nothing."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    table = struct.unpack_from(order + "I", exif, 4)[0] if order and len(exif) >= 8 else len(exif)
    count = struct.unpack_from(order + "H", exif, table)[0] if table + 2 <= len(exif) else 0
    for at in range(table + 2, min(table + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, at)
        if tag == ORIENTATION:
            value = struct.unpack_from(order + INTEGERS[kind], exif, at + 8)[0] if kind in INTEGERS else 1
            return value if 1 <= value <= 8 else 1
    return 1


def jpeg_header(read):
    """(the segments that matter for pixels, as bytes, where the first scan starts, orientation) of a JPEG file."""
    kept, at, orientation, seen = [b"\xff\xd8"], 2, None, set()
    while True:
        head = read(at, 4)
        if head[:2] == b"\xff\xff":  # padding
            at += 1
            continue
        if len(head) < 4 or head[0] != 0xFF or head[1] in (SOS, EOI):
            return b"".join(kept), at, orientation or 1
        length = 2 if head[1] in NO_LENGTH else 2 + int.from_bytes(head[2:], "big")
        if head[1] == EXIF and orientation is None and read(at + 4, 6) == b"Exif\0\0":
            orientation = exif_orientation(read(at + 10, length - 10))
        if not (0xE0 <= head[1] <= 0xEF or head[1] == 0xFE) or (head[1] in JPEG_KEPT and head[1] not in seen):
            kept.append(read(at, length))
            seen.add(head[1])
        at += length


def num_scans(jpeg, start=2):
    """The number of scans of a JPEG file (bytes) from the segment at `start` on, counted to MOST_SCANS + 1 at most."""
    scans = 0
    while scans <= MOST_SCANS and (match := MARKER.search(jpeg, start)):
        start, kind = match.start(), jpeg[match.start() + 1]
        if kind == EOI:
            break
        scans += kind == SOS
        start += 2 if kind in NO_LENGTH else 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
    return scans


def too_many_scans(scans, pixels):
    """True if decoding would take so many passes over so many pixels that the file is an attack, not a photograph."""
    return scans > MOST_SCANS or (scans > FEW_SCANS and scans * pixels > MOST_SCAN_PIXELS)


def png_chunks(read):
    """(kind, start, length of the content) of each chunk of a PNG file; a chunk starts 8 bytes before its content."""
    chunks, at = [], 8
    while len(head := read(at, 8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        chunks.append((kind, at, length))
        if kind == b"IEND":
            break
        at += 12 + length
    return chunks


def png_without_metadata(read, header_only=False):
    """(a PNG file of the chunks that matter for pixels, orientation, significant bits or None)."""
    parts, orientation, bits = [read(0, 8)], None, None
    for kind, at, length in png_chunks(read):
        if kind == b"eXIf" and orientation is None:
            orientation = exif_orientation(read(at + 8, length))
        elif kind == b"sBIT" and length:
            bits = max(read(at + 8, min(length, 3)))
        elif header_only and kind in (b"IDAT", b"IEND"):
            continue
        elif kind == b"tRNS" or not kind[0] & 0x20:  # a small letter: not needed for the pixels
            parts.append(read(at, 12 + length))
    if header_only:
        parts.append(b"\0\0\0\0IDAT\0\0\0\0")
    return b"".join(parts), orientation or 1, bits


def tiff_entries(read):
    """({tag: (place of its entry, numbers or None)}, byte order "<" or ">") of a TIFF file's first image."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(read(0, 4))
    if order is None or len(read(0, 8)) < 8:
        return {}, "<"
    (table,) = struct.unpack(order + "I", read(4, 4))
    count = int.from_bytes(read(table, 2), "little" if order == "<" else "big")
    entries = {}
    for at in range(table + 2, table + 2 + 12 * count, 12):
        entry = read(at, 12)
        if len(entry) < 12:
            break
        tag, kind, number = struct.unpack_from(order + "HHI", entry)
        values = None
        if kind in INTEGERS and number <= 1024:
            form = f"{order}{number}{INTEGERS[kind]}"
            size = struct.calcsize(form)
            place = entry[8:] if size <= 4 else read(struct.unpack_from(order + "I", entry, 8)[0], size)
            values = struct.unpack_from(form, place) if len(place) >= size else None
        entries[tag] = at, values
    return entries, order


def tiff_without_metadata(read):
    """A TIFF file (bytes) whose first image has only the tags that matter for pixels; the others are given a tag that
    nobody knows."""
    entries, order = tiff_entries(read)
    content = bytearray(read(0, None))
    for tag, (at, _) in entries.items():
        if tag not in TIFF_KEPT:
            struct.pack_into(order + "H", content, at, UNKNOWN_TAG)
    return bytes(content)


def tiff_numbers(read):
    """(bits of a number, kind of number as in TIFF's SampleFormat: 1 is unsigned, numbers a pixel) of a TIFF file; None
    if its tags cannot be read."""
    tags = {tag: values for tag, (_, values) in tiff_entries(read)[0].items() if values}
    bits = tags.get(BITS, (1,))
    return (bits[0], tags.get(SAMPLE_FORMAT, (1,))[0], tags.get(SAMPLES, (len(bits),))[0]) if tags else None
