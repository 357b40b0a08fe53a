"""`kerascnn scan`: one pass over a data set with a network."""

import hashlib
import itertools
import re
from pathlib import Path

from kerascnn import runs
from kerascnn.commands.sharding import check_absent, merge_hint, shard_file
from kerascnn.commands.terminal import (
    Subject,
    check_split,
    check_split_name,
    check_subject,
    computing,
    print_table,
    saying_warnings,
)
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.progress import counting
from kerascnn.shards import parse_shard

NEW = "scan-new.npz"  # until a scan is whole
MOST_CLASSES = 96  # in a sheet of classes
MOST_AT_ONCE = 128  # images, by default
TABLES, SHEETS = "top stats stats-by-class selectivity filters", "stats patches filters explained classes"
SHEETS += " filters-one filters-red filters-green filters-blue"
ENDINGS = re.compile(rf".+-(({TABLES.replace(' ', '|')})\.csv|({SHEETS.replace(' ', '|')})(-[0-9]+)?\.png)")


def scan(
    run: Subject,
    data: str | None = None,
    /,
    *,
    layers: str | None = None,
    channels: str | None = None,
    top: int | None = None,
    per_image: int = 1,
    split: str | None = None,
    batch_size: int | None = None,
    shard: str | None = None,
    out: Path | None = None,
):
    """Find what excites every channel of chosen layers most, and compute statistics of the activations.

    It takes one pass over the images. If a scan is killed, the same command continues where it stopped. A scan of other
    layers into the same folder adds its layers to the existing scan.

    Parameters
    ----------
    data
        a data set's name, a folder or a file [default: what the run was trained on]
    layers
        names of layers, separated by commas, for their own output; or, such as "conv1 (after relu)", for what the next
        layer sees [default: every convolution, after its normalisation and activation]
    channels
        numbers of the channels to draw in the sheets, separated by commas, such as 9,82,140 [default: the most
        informative]
    top
        activations kept for each channel [default: 9, or as many as there are images]
    per_image
        how many of them may come from one image
    split
        train, validation or test [default: train, or a split that the data has]
    batch_size
        images computed at once [default: 128, or fewer above 64x64 pixels]
    shard
        scan only this part of the images, such as 3/16, and write no tables or sheets; kerascnn merge combines all
        parts into one scan
    out
        folder for the tables, the sheets and the scan itself, or for the file of the shard [default: a folder in scan/
        in the run, one for each data set and split]
    """
    check_subject(run)
    part = None if shard is None else parse_shard(shard)
    if part and channels is not None:
        raise UsageError("--channels are drawn in sheets, and a shard has none. Leave out --channels or --shard.")
    check_split_name(split)
    drawn = None if channels is None else channel_list(channels)
    with computing() as (say, _):
        from kerascnn import using
        from kerascnn.dataset_scan import scan
        from kerascnn.dataset_scan.scanned_layers import scanned_layers
        from kerascnn.training.evaluate import images_at_once
        from kerascnn.using.classifier import subject

        classifier = subject(run)
        model, prepared = classifier.model, classifier.preprocessing
        images = using.data_of(classifier, data, some=part is not None)
        check_split(split, images)
        split = split or next(name for name in ("train", "test", "validation") if name in images.splits)
        folder = out or classifier.folder / "scan" / "-".join([*_name(data), split])
        target = folder / NEW if part is None else check_absent(folder / shard_file("scan", part))
        with saying_warnings(say):
            chosen = scanned_layers(model, layers)
        _check_channels(drawn, chosen)
        result = scan(
            model,
            images,
            [each.name for each in chosen],
            top if top is not None else max(1, min(9, len(images.splits[split]) * per_image)),
            split=split,
            preprocessing=prepared,
            per_image=per_image,
            batch_size=min(MOST_AT_ONCE, images_at_once(prepared.image_size)) if batch_size is None else batch_size,
            out=target,
            shard=part,
            say=counting(say),
        )
        if part:
            say(merge_hint(target, part))
            return
        others = _keep(result, folder, say)
        for each in chosen:
            _write_layer(result, model, each, drawn, folder)
        _write_deepest(result, model, prepared, drawn, folder, say)
        _report(result, chosen, say)
        earlier = ", ".join(others) if len(others) < 5 else counted(len(others), "layer")
        kept = f" (with {earlier} of earlier scans)" if others else ""
        count = counted(result.manifest["images"], "image")
        say(f"\n{count} of {images.name} ({split}); tables, sheets and scan.npz{kept} in {folder}")


def channel_list(text):
    """ "9,82,140" as [9, 82, 140], each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]+", part) for part in parts):
        raise UsageError(f"--channels {text!r} is not a list of channels. Type for example --channels 9,82,140")
    return list(dict.fromkeys(map(int, parts)))


def _check_channels(drawn, chosen):
    for each in chosen if drawn else ():
        if max(drawn) >= each.channels:
            raise UsageError(
                f"Layer {each.name!r} has no channel {max(drawn)}: it has {each.channels}, 0 to {each.channels - 1}. "
                "Choose layers that have these --channels with --layers."
            )


def _keep(result, folder, say):
    """Make scan.npz of a new scan, with the layers of an earlier one in the folder, or put that one aside and say so;
    returns the names of the layers that are not of the new scan."""
    from kerascnn.dataset_scan import load

    whole, new = folder / "scan.npz", folder / NEW
    others = []
    try:
        earlier = load(whole) if whole.exists() else None
        merged = result.merged(earlier) if earlier else result
        others = [name for name in merged.layers if name not in result.layers]
    except (UsageError, DataError) as error:
        say(f"{_put_aside(folder)} holds the scan that was in {folder}. {error}")
    if others:
        merged.save(whole)
        new.unlink()
    else:
        new.replace(whole)
    return others


def _put_aside(folder):
    """Move scan.npz and the tables and sheets beside it into a new folder in this one."""
    aside = next(path for n in itertools.count(1) if not (path := folder / f"earlier-{n}").exists())
    aside.mkdir()
    for path in sorted(folder.iterdir()):
        if path.name == "scan.npz" or ENDINGS.fullmatch(path.name):
            path.rename(aside / path.name)
    return aside


def _stem(folder, layer):
    return folder / runs.plain(layer.replace("/", "-"))


def _write_layer(result, model, each, drawn, folder):
    """Write the tables and sheets of one layer, and of its filters."""
    from kerascnn import plots
    from kerascnn.callbacks.filters import filter_sheets, filters_of, measured
    from kerascnn.network.find import layers_of

    write_layer(result, each.name, drawn, folder)
    if getattr(getattr(layers_of(model).get(each.layer.partition("#")[0]), "kernel", None), "ndim", 0) == 4:
        filters, stem = filters_of(model, each.layer), _stem(folder, each.name)
        title = f"{each.layer} of {model.name}: {counted(len(filters), 'filter')}"
        for ending, figure in filter_sheets(filters, title).items():
            plots.write(figure, f"{stem}-filters{ending}.png")
        runs.write_table(f"{stem}-filters.csv", measured(filters))


def write_layer(result, layer, drawn, folder):
    """Write the tables and sheets of what a ScanResult holds of one layer.

    Args:
        drawn: channels in the sheet of patches; None: the most informative.
    """
    from kerascnn import plots
    from kerascnn.dataset_scan import sheets

    stem = _stem(folder, layer)
    runs.write_table(f"{stem}-top.csv", result.top(layer).join(result.boxes(layer)[["top", "left", "bottom", "right"]]))
    runs.write_table(f"{stem}-stats.csv", result.stats(layer))
    if result.class_names:
        runs.write_table(f"{stem}-stats-by-class.csv", result.stats(layer, by_class=True))
        runs.write_table(f"{stem}-selectivity.csv", result.selectivity(layer))
    plots.write(sheets.statistics_sheet(result, layer), f"{stem}-stats.png")
    channels = drawn or sheets.default_channels(result, layer)
    parts = sheets.pages(len(channels), result.manifest["k"])
    patches = (sheets.patch_sheet(result, layer, channels[rows], ranks=ranks) for rows, ranks in parts)
    _save_pages(patches, f"{stem}-patches")


def _write_deepest(result, model, prepared, drawn, folder, say):
    """Write the sheets of the deepest layer: patches beside maps, and a row per class."""
    from kerascnn.dataset_scan import explained, sheets

    deepest = result.layers[-1]
    stem, channels = _stem(folder, deepest), drawn or sheets.default_channels(result, deepest)
    try:
        with saying_warnings(say):
            maps = explained.patch_maps(result, model, deepest, channels, preprocessing=prepared)
        parts = (channels[rows] for rows, _ in sheets.pages(len(channels), 1))
        _save_pages((sheets.patch_sheet(result, deepest, part, maps=maps) for part in parts), f"{stem}-explained")
    except UsageError as error:  # a layer without a rule
        say(f"No {stem.name}-explained.png: {error}")
    write_classes(result, folder, say)


def write_classes(result, folder, say):
    """Write the sheet of the deepest layer with a row per class."""
    from kerascnn.dataset_scan import sheets

    deepest, classes = result.layers[-1], result.class_names
    stem = _stem(folder, deepest)
    if not classes:
        return
    if len(classes) > MOST_CLASSES:
        classes = tuple(sheets.class_channels(result, deepest))[:MOST_CLASSES]
        say(f"{stem.name}-classes.png shows {len(classes)} of {len(result.class_names):,} classes.")
    parts = (classes[rows] for rows, _ in sheets.pages(len(classes), 1))
    _save_pages((sheets.class_sheet(result, deepest, classes=part) for part in parts), f"{stem}-classes")


def _save_pages(figures, stem):
    """Write figures as stem.png, stem-2.png ...; those of an earlier scan that had more go."""
    from kerascnn import plots

    for path in Path(stem).parent.glob(f"{Path(stem).name}-[0-9]*.png"):
        path.unlink()
    for number, figure in enumerate(figures, 1):
        plots.write(figure, f"{stem}.png" if number == 1 else f"{stem}-{number}.png")


def _report(result, chosen, say):
    """Print a line for each layer, and for each that the next layer sees in another form."""
    report_layers(result)
    for each in chosen:
        if each.seen != each.name:
            say(f"{each.name} is scanned as it is; the next layer sees it as {each.seen!r}.")


def report_layers(result):
    """Print a line for each layer."""
    rows = []
    for layer in result.layers:
        table, best = result.stats(layer), result.interesting(layer, 1) if result.class_names else ()
        telling = f"{best['channel'][0]} ({best['class'][0]}, {best['share'][0]:.0%})" if len(best) else ""
        dead, zeros = str(int(table["dead"].sum())), f"{table['zeros'].mean():.0%}"
        rows.append((layer, str(len(table)), dead, zeros, telling))
    print_table(("layer", "channels", "never above 0", "zeros", "most informative channel"), rows, "lrrrl")


def _name(data):
    """The parts of a scan's folder name that identify the data: the end of the path and six digits of its checksum."""
    if data is None:
        return []
    path = Path(data).expanduser().resolve()
    return [runs.plain(path.name), *([hashlib.sha256(bytes(path)).hexdigest()[:6]] if path.exists() else [])]
