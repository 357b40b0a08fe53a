"""What a notebook shows where a name stands alone in a cell: small HTML without styles of its own page's.

Names are text: nothing of the user's is taken for HTML.
"""

import base64
import html
import io

TILE = 64  # pixels of a picture in a row of pictures


def card(title, rows=(), pictures=()):
    """A title, a table of (name, value) pairs, and pictures, as HTML.

    Args:
        rows: pairs; those whose value is None are left out.
        pictures: HTML of `picture` or `drawn`.
    """
    cell = "padding:0 1em 0 0;text-align:left;vertical-align:top;border:0"
    lines = [
        f'<tr><td style="{cell};opacity:.7">{html.escape(str(name))}</td>'
        f'<td style="{cell}">{html.escape(str(value))}</td></tr>'
        for name, value in rows
        if value is not None
    ]
    table = f'<table style="margin:.3em 0">{"".join(lines)}</table>' if lines else ""
    return f"<div><b>{html.escape(title)}</b>{table}<div>{''.join(pictures)}</div></div>"


def picture(pixels, caption=""):
    """A uint8 image (H, W, 1 or 3) as a tile with its caption beneath."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    image.thumbnail((2 * TILE, 2 * TILE))
    words = html.escape(caption if len(caption) <= 12 else caption[:11] + "…")
    return (
        '<span style="display:inline-block;margin:0 4px 4px 0;text-align:center;font-size:small">'
        f'<img alt="{html.escape(caption)}" title="{html.escape(caption)}" src="{_uri(image)}" '
        f'style="width:{TILE}px;height:{TILE}px;object-fit:contain;image-rendering:pixelated"><br>{words}</span>'
    )


def drawn(figure):
    """A matplotlib Figure as an <img>."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    content = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="figure" style="max-width:100%" src="data:image/png;base64,{content}">'


def shown(path):
    """A PNG file as an <img>."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.stem)}" style="max-width:45%" src="data:image/png;base64,{content}">'


def as_bytes(pixels):
    """uint8 of pixels in any range: uint8 as they are, others from their least to their largest number."""
    import numpy as np

    pixels = np.asarray(pixels)
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    return np.round(255 * (pixels - low) / ((high - low) or 1)).astype("uint8")


def _uri(image):
    file = io.BytesIO()
    image.save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
