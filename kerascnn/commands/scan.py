"""`kerascnn scan`: one pass over a data set with a run's network."""

import hashlib
from pathlib import Path

from kerascnn import runs
from kerascnn.commands.terminal import RunName, computing, print_table, saying_warnings
from kerascnn.errors import UsageError, counted


def scan(
    run: RunName,
    data: str | None = None,
    /,
    *,
    layers: str | None = None,
    top: int = 9,
    per_image: int = 1,
    split: str | None = None,
    batch_size: int = 128,
    out: Path | None = None,
):
    """Find what excites every channel of chosen layers most, and the statistics of their activations.

    One pass over the images. A scan that was killed goes on where it was when the same command is typed again.

    Parameters
    ----------
    data
        a data set's name, a folder or a file [default: what the run was trained on]
    layers
        names of layers, separated by commas [default: every convolution]
    top
        activations kept for each channel
    per_image
        how many places of one image may be among them
    split
        train, validation or test [default: train, or what the data has]
    batch_size
        images computed at once
    out
        folder for the tables, sheets and the scan itself [default: in the run, one in scan/ for each data and split]
    """
    found = runs.find(run)
    if split not in (None, "train", "validation", "test"):
        raise UsageError(f"--split {split!r} is not allowed. Allowed: train, validation, test.")
    with computing() as (say, _):
        from kerascnn import inference
        from kerascnn.callbacks.filters import filter_sheet, filters_of, measured, model_layer
        from kerascnn.dataset_scan import explained, scan, sheets

        model, prepared = inference.load(found), inference.preprocessing(found)
        images = inference.data_of(found, data)
        split = split or next(name for name in ("train", "test", "validation") if name in images.splits)
        folder = out or found / "scan" / "-".join([*_name(data), split])
        names = None if layers is None else [name.strip() for name in layers.split(",")]
        lines = _Lines(say)
        with saying_warnings(say):
            result = scan(
                model,
                images,
                names,
                top,
                split=split,
                preprocessing=prepared,
                per_image=per_image,
                batch_size=batch_size,
                out=folder / "scan.npz",
                say=lines,
            )
        rows = []
        for layer in result.layers:
            stem = folder / runs.plain(layer.replace("/", "-"))
            table = result.stats(layer)
            _write(result.top(layer).join(result.boxes(layer)[["top", "left", "bottom", "right"]]), f"{stem}-top.csv")
            _write(table, f"{stem}-stats.csv")
            if result.class_names:
                _write(result.stats(layer, by_class=True), f"{stem}-stats-by-class.csv")
                _write(result.selectivity(layer), f"{stem}-selectivity.csv")
            _save(sheets.statistics_sheet(result, layer), f"{stem}-stats.png")
            _save(sheets.patch_sheet(result, layer), f"{stem}-patches.png")
            if getattr(getattr(model_layer(model, layer), "kernel", None), "ndim", 0) == 4:
                filters = filters_of(model, layer)
                _save(
                    filter_sheet(filters, f"{layer} of {model.name}: {counted(len(filters), 'filter')}"),
                    f"{stem}-filters.png",
                )
                _write(measured(filters), f"{stem}-filters.csv")
            best = result.interesting(layer, 1) if result.class_names else ()
            telling = f"{best['channel'][0]} ({best['class'][0]}, {best['share'][0]:.0%})" if len(best) else ""
            zeros = f"{table['zeros'].mean():.0%}"
            rows.append((layer, str(len(table)), str(int(table["dead"].sum())), zeros, telling))
        deepest = result.layers[-1]
        channels = sheets.default_channels(result, deepest)
        stem = folder / runs.plain(deepest.replace("/", "-"))
        try:
            with saying_warnings(say):
                maps = explained.patch_maps(result, model, deepest, channels, preprocessing=prepared)
            _save(sheets.patch_sheet(result, deepest, channels, maps=maps), f"{stem}-explained.png")
        except UsageError as error:  # a layer without a rule
            say(f"No {stem.name}-explained.png: {error}")
        if result.class_names:
            _save(sheets.class_sheet(result, deepest), f"{stem}-classes.png")
        print_table(("layer", "channels", "never above 0", "zeros", "most telling channel"), rows, "lrrrl")
        count = result.manifest["images"]
        say(f"\n{counted(count, 'image')} of {images.name} ({split}); tables, sheets and scan.npz in {folder}")


def _name(data):
    """What a scan's folder says of named data: what the path ends with, and six digits that tell paths apart."""
    if data is None:
        return []
    path = Path(data).expanduser().resolve()
    return [runs.plain(path.name), *([hashlib.sha256(bytes(path)).hexdigest()[:6]] if path.exists() else [])]


class _Lines:
    """Says how far a scan is, at most every ten seconds."""

    def __init__(self, say):
        import time

        self._say, self._clock = say, time.monotonic
        self._last = self._clock()

    def __call__(self, done, count):
        if self._clock() - self._last >= 10:
            self._last = self._clock()
            self._say(f"{done:,} of {counted(count, 'image')}")


def _write(table, path):
    with runs.replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def _save(figure, path):
    with runs.replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
