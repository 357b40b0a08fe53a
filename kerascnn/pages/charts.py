"""Line and bar charts as inline SVG: colours come from the page's style, so they suit light mode, dark mode and
print."""

import math

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 300  # of the drawing's own units; it is scaled to the page
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 42  # room for the axes, units
DIGIT = 7  # units, the width of a digit
MAP = 640  # side of a map of points, units
COLOURS = 10  # --c0 to --c9 of style.css
MOST_DOTS = 10  # points of a line that are marked as well
MOST_POINTS = 600  # of one line; more are thinned evenly


def lines(series, x_label, y_label, *, y_range=None, counts=False, diagonal=False, label=""):
    """A line chart.

    Args:
        series: {name: (x, y)}, arrays of equal length; NaN breaks a line.
        x_label, y_label: names of the axes, with units.
        y_range: (low, high); None: the range of the values.
        counts: True if x holds whole numbers, so the axis marks only whole numbers.
        diagonal: True draws the line from the lower left to the upper right corner.
        label: what a screen reader says.
    Returns:
        Markup: the <svg>, with a legend if there is more than one line.
    """
    xs = np.concatenate([np.asarray(x, float) for x, _ in series.values()])
    ys = np.concatenate([np.asarray(y, float) for _, y in series.values()])
    axes = _Axes(_range(xs, None), _range(ys, y_range), counts)
    parts = [axes.drawn(x_label, y_label)]
    if diagonal:
        parts.append(f'<path class="guide" d="M{axes.x(axes.low[0])},{axes.y(0)}L{axes.x(axes.high[0])},{axes.y(1)}"/>')
    for number, (x, y) in enumerate(series.values()):
        style = f'c{number}"' if len(series) <= COLOURS else f'" style="stroke:{colour(number, len(series))}"'
        parts.append(f'<path class="line {style} d="{axes.path(x, y)}"/>')
        if len(x) <= MOST_DOTS:
            parts.append(f'<path class="line dot {style} d="{axes.path(x, y, dots=True)}"/>')
    return _svg(parts, label or f"{y_label} against {x_label}") + _legend(series)


def bars(low, high, values, x_label, y_label, *, x_range=None, y_range=(0, 1), diagonal=False, label=""):
    """A bar chart: bar i reaches from low[i] to high[i] and up to values[i]; arguments as of `lines`."""
    axes = _Axes(x_range or (float(min(low)), float(max(high))), y_range)
    parts = [axes.drawn(x_label, y_label)]
    for left, right, value in zip(low, high, values, strict=True):
        x, y, base = axes.x(left), axes.y(value), axes.y(y_range[0])
        width = max(axes.x(right) - x - 1, 1)
        parts.append(f'<rect class="bar" x="{x}" y="{y}" width="{width:.1f}" height="{max(base - y, 0.5):.1f}"/>')
    if diagonal:
        parts.append(f'<path class="guide" d="M{axes.x(0)},{axes.y(0)}L{axes.x(1)},{axes.y(1)}"/>')
    return _svg(parts, label or f"{y_label} against {x_label}")


def scatter(x, y, groups, marked, num_groups, label="map of the images"):
    """Points without axes, coloured by group; the marked ones have a ring.

    Args:
        x, y: places, each from 0 to 1.
        groups: int (N,), from 0.
        marked: bool (N,).
        num_groups: how many groups need different colours.
    Returns:
        Markup: the <svg>; point i has data-point="i" and data-group.
    """
    parts = []
    for number, (left, up, group, mark) in enumerate(zip(x, y, groups, marked, strict=True)):
        place = f'cx="{8 + (MAP - 16) * left:.1f}" cy="{8 + (MAP - 16) * (1 - up):.1f}"'
        shape = "spot ring" if mark else "spot"
        style = f"--spot:{colour(group, num_groups)}"
        parts.append(
            f'<circle class="{shape}" style="{style}" data-point="{number}" data-group="{group}" {place} r="4"/>'
        )
    inside = "".join(parts)
    return Markup(f'<svg class="map" viewBox="0 0 {MAP} {MAP}" role="img" aria-label="{escape(label)}">{inside}</svg>')


def colour(number, count):
    """A CSS colour of one of `count` groups: one of the page's ten colours if these are enough, otherwise a hue from
    the colour circle."""
    return f"var(--c{number})" if count <= COLOURS else f"hsl({360 * number / count:.0f} 65% var(--spot-light))"


class _Axes:
    """The place of numbers in the drawing; `low` and `high` are the corners' (x, y)."""

    def __init__(self, x_range, y_range, counts=False):
        self.counts = counts
        self.low, self.high = (x_range[0], y_range[0]), (x_range[1], y_range[1])

    def x(self, value):
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - self.low[0]) / (self.high[0] - self.low[0]), 1)

    def y(self, value):
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (self.high[1] - value) / (self.high[1] - self.low[1]), 1)

    def path(self, x, y, dots=False):
        """An SVG path through points, or a dot at each; NaN breaks it, and points outside are moved to the edge."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        if len(x) > MOST_POINTS:
            kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
            x, y = x[kept], y[kept]
        steps, pen = [], "M"
        for a, b in zip(x, np.clip(y, self.low[1], self.high[1]), strict=True):
            if math.isnan(a) or math.isnan(b):
                pen = "M"
                continue
            steps.append(f"{pen}{self.x(a)},{self.y(b)}" + ("h0.1" if dots else ""))  # a dot, by the line's round ends
            pen = "M" if dots else "L"
        return "".join(steps)

    def drawn(self, x_label, y_label):
        """Grid, numbers and names of the axes."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = []
        for tick in ticks(self.low[0], self.high[0], whole=self.counts):
            parts.append(f'<path class="grid" d="M{self.x(tick)},{TOP}V{bottom}"/>')
            text = f"{tick:,.0f}" if self.counts else f"{tick:g}"
            fits = self.x(tick) + DIGIT * len(text) / 2 <= WIDTH
            parts.append(_text(self.x(tick) if fits else WIDTH, bottom + 16, text, "middle" if fits else "end"))
        for tick in ticks(self.low[1], self.high[1]):
            parts.append(f'<path class="grid" d="M{LEFT},{self.y(tick)}H{right}"/>')
            parts.append(_text(LEFT - 6, self.y(tick) + 4, f"{tick:g}", "end"))
        middle = (TOP + bottom) / 2
        parts.append(_text((LEFT + right) / 2, HEIGHT - 6, x_label))
        parts.append(_text(13, middle, y_label, turn=f' transform="rotate(-90 13 {middle})"'))
        return "".join(parts)


def _text(x, y, text, anchor="middle", turn=""):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'


def ticks(low, high, about=5, *, whole=False):
    """About this many round numbers from low to high; with `whole`, only whole numbers."""
    raw = (high - low) / about
    scale = 10 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= raw * 0.999)
    step = max(step, 1) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values, given):
    if given is not None:
        return given
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return low, high


def _svg(parts, label):
    size = f"0 0 {WIDTH} {HEIGHT}"
    inside = "".join(parts)
    return Markup(f'<svg class="chart" viewBox="{size}" role="img" aria-label="{escape(label)}">{inside}</svg>')


def _legend(series):
    if len(series) < 2:
        return Markup("")
    items = "".join(
        f'<li><span class="key" style="background:{colour(i, len(series))}"></span>{escape(name)}</li>'
        for i, name in enumerate(series)
    )
    return Markup(f'<ul class="legend">{items}</ul>')
