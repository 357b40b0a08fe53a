"""The report of a check of data (`kerascnn.datasets.check`) as lines of text."""

import numpy as np

from kerascnn.datasets.jpeg_damage import is_heard
from kerascnn.datasets.near_duplicates import MOST, SMALLEST
from kerascnn.errors import counted
from kerascnn.text_table import text_table


def lines(report, most=10, network="", sees=None):
    """The report as lines of text for a terminal.

    Args:
        most: largest number of broken files and duplicate groups to list.
        network: the name of the network for whose training the images were sized, if any.
        sees: (height, width) of the part that it sees.
    """
    splits = list(report.counts)
    rows = [[name, *(f"{report.counts[s][name]:,}" for s in splits)] for name in report.class_names]
    rows.append(["all", *(f"{sum(report.counts[s].values()):,}" for s in splits)])
    out = [f"{report.name}: {counted(len(report.class_names), 'class', 'classes')}, {report.source}", ""]
    out += text_table(["class", *splits], rows, "l" + "r" * len(splits)).splitlines()
    out += ["", f"Sizes (height x width): {_sizes(report.sizes)}"]
    out.append(f"Mean of the channels {_numbers(report.mean)}, standard deviation {_numbers(report.std)} (0 to 1)")
    out.append(f"Broken files: {len(report.broken):,}")
    out += [f"  {file}: {reason}" for file, reason in report.broken[:most]] + _more(report.broken, most)
    if report.damaged:
        out.append(f"Damaged JPEG files: {len(report.damaged):,}")
        out += [f"  {file}: {warning}" for file, warning in report.damaged[:most]] + _more(report.damaged, most)
    if not is_heard():
        out.append("The inside of JPEG files was not checked: that takes simplejpeg. Type: pip install simplejpeg")
    again = sum(len(group["images"]) - 1 for group in report.duplicates)
    out.append(f"Duplicate images: {again:,}" + (f", in {counted(len(report.duplicates), 'group')}" if again else ""))
    for group in report.duplicates[:most]:
        how = "same file" if group["same_bytes"] else "same pixels"
        out.append(f"  {how}: {', '.join(group['images'][:4])}{' ...' if len(group['images']) > 4 else ''}")
    out += _more(report.duplicates, most)
    out += _near_lines(report, most)
    height, width, channels = report.image_shape
    how = "in memory" if report.in_memory else "each decoded when it is needed"
    size = f"{height}x{width} pixels, {counted(channels, 'channel')}"
    bring = f"Training {network} resizes them to {size}, where they take" if network else f"At {size}, they take"
    crop = f"; the network sees crops of {sees[0]}x{sees[1]}" if sees not in (None, (height, width)) else ""
    out.append(f"{bring} {report.memory_bytes / 1e6:,.1f} MB, {how}{crop}")
    right = f"is right for {100 * report.balance['baseline']:.1f}% of the training images"
    out.append(f"Always predicting the most frequent class, '{report.balance['commonest']}', {right}")
    out += [f"  {note}" for note in report.notes]
    out += [f"Problem: {problem}" for problem in report.problems] or ["No problem found."]
    return out


def _near_lines(report, most):
    near = report.near
    if near is None:
        small = all(min(height, width) < SMALLEST for height, width, _ in report.sizes)
        why = f"no image has {SMALLEST} pixels on each side" if small else f"there are more than {MOST:,} images"
        return [f"Near duplicates were not searched for, because {why}"]
    out = [f"Near duplicates: {counted(len(near), 'pair')}"] if near else []
    for pair in near[:most]:
        mirrored = ", mirrored" if pair["mirrored"] else ""
        out.append(f"  {pair['similarity']:.2f}{mirrored}: {' and '.join(pair['images'])}")
    return out + _more(near, most)


def _sizes(sizes):
    if len(sizes) <= 6:
        return ", ".join(f"{h}x{w} ({n:,})" for h, w, n in sizes)
    pairs = np.array([(h, w) for h, w, _ in sizes])
    each = np.repeat(pairs, [n for _, _, n in sizes], axis=0)
    low, middle, high = each.min(0), np.median(each, axis=0).astype(int), each.max(0)
    return (
        f"{len(sizes)} different; heights {low[0]} to {high[0]} (median {middle[0]}), "
        f"widths {low[1]} to {high[1]} (median {middle[1]})"
    )


def _numbers(values):
    return " ".join(f"{value:.4f}" for value in values)


def _more(items, most):
    return [f"  and {len(items) - most:,} more"] if len(items) > most else []
