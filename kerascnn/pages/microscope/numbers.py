"""Numbers as the pages write and draw them."""

import math

from kerascnn.pages.microscope.book import BARS


def number(value):
    """Four digits of a number, without a power of ten where that is short."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e7 else f"{value:.4g}"


def percent(share):
    """A share as a percentage; small ones keep a digit."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.{0 if share in (0, 1) else 1}f}%"


def digits(value):
    """Five digits of a number; None for one that is not known."""
    return None if math.isnan(value) else float(f"{value:.5g}")


def bars(shares, width=300, height=80):
    """The path of a histogram's bars in a drawing of that size; "" for none."""
    if shares is None:
        return ""
    steps = [f"M0 {height}"]
    for place, bar in enumerate(shares):
        top = height - round(height * float(bar), 1)
        steps.append(f"V{top:g}H{(place + 1) * width // BARS}")
    return "".join([*steps, f"V{height}Z"])
