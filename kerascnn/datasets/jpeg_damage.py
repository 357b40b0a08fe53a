"""What libjpeg warns of while it decodes a JPEG file: Pillow, which decodes images for training, does not pass it on.

Where bytes in the middle of a JPEG file are lost, decoding goes on with wrong pixels. Most of such files are heard of
here; those whose wrong bytes happen to be a valid code are not.
"""

import importlib.util
import re


def is_heard():
    """True if simplejpeg, which passes the warnings on, is installed."""
    return importlib.util.find_spec("simplejpeg") is not None


def damage(jpeg):
    """libjpeg's warning for the contents of a JPEG file, in its words; None if there is none, or none is heard."""
    if not is_heard():
        return None
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(jpeg, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        warning = str(error).removeprefix("Corrupt JPEG data: ")
        padding = re.match(r"(\d+) extraneous bytes before marker 0xd9", warning)  # cameras write zeros there
        if warning == str(error) or (padding and bytes(int(padding[1])) + b"\xff\xd9" in jpeg):
            return None
        return warning
    return None
