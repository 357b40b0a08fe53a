"""`kerascnn microscope`: a static site with a page for every unit of a network."""

from pathlib import Path

from kerascnn.commands.sharding import check_absent, merge_hint, shard_file
from kerascnn.commands.terminal import (
    Subject,
    check_split,
    check_split_name,
    check_subject,
    computing,
    let_interrupts_through,
    saying_warnings,
)
from kerascnn.errors import UsageError, disk_full
from kerascnn.shards import parse_shard


def microscope(
    run: Subject,
    data: str | None = None,
    /,
    *,
    layers: str = "all",
    images: int | None = None,
    out: Path | None = None,
    top: int = 9,
    maps: int = 3,
    looks: int = 10,
    feature_images: bool = False,
    split: str | None = None,
    batch_size: int = 32,
    shard: str | None = None,
):
    """Build a site with a page for every unit: what excites it, its statistics, classes, weights and nearest units.

    The pages open from the disk, without a server or a network. If a build is killed, the same command continues where
    it stopped. Another build into the same folder rewrites only what has changed. Labels that you put into labels.csv
    in the folder appear on the pages after the next build.

    Parameters
    ----------
    data
        a data set's name, a folder or a file [default: what the run was trained on]
    layers
        all convolutions and dense layers, or names, patterns and ranges, such as conv*,fc1 or conv2..conv4
    images
        how many images of the data to use, evenly spread [default: all]
    out
        folder of the site [default: microscope/ in the run]
    top
        patches shown for each unit
    maps
        for how many of these patches to draw guided backpropagation and deconvnet; 0 draws none
    looks
        for how many images to draw every explanation method with its scores, and the maps of every layer; 0 draws none
    feature_images
        make an image for each unit that excites it, by optimisation; this takes long, and a build that is stopped
        continues where it was; images of earlier builds stay
    split
        train, validation or test [default: test, or a split that the data has]
    batch_size
        images computed at once
    shard
        look only at this part of the images, such as 3/16, and write a file (--out FILE.npz) instead of a site;
        kerascnn merge combines all parts into the beginning of a site, and the same command without --shard draws its
        pages
    """
    part, out = _part(shard, out, feature_images)
    check_subject(run)
    check_split_name(split)
    with computing() as (say, _):
        from kerascnn import using
        from kerascnn.pages.microscope.build import microscope
        from kerascnn.using.classifier import subject

        classifier = subject(run)
        available = using.data_of(classifier, data, some=part is not None)
        check_split(split, available)
        let_interrupts_through()
        if part:
            from kerascnn.pages.microscope.shards import write_shard

            settings = {"layers": layers, "images": images, "split": split, "batch_size": batch_size, "say": say}
            write_shard(classifier, available, part, out, **settings)
            say(merge_hint(out, part))
            return
        out = out or classifier.folder / "microscope"
        try:
            with saying_warnings(say):
                page = microscope(
                    classifier,
                    available,
                    layers=layers,
                    images=images,
                    out=out,
                    split=split,
                    top=top,
                    maps=maps,
                    looks=looks,
                    feature_images=feature_images,
                    batch_size=batch_size,
                    say=say,
                )
        except Exception as error:
            if disk_full(error):
                say(f"What is done is kept in {out}. Make room, and type the same command again.")
            raise
        say(str(page))


def _part(shard, out, feature_images):
    """((i, n) or None, what is written) of what was typed."""
    if shard is None:
        return None, out
    part = parse_shard(shard)
    out = out or Path(shard_file("microscope", part))
    if out.suffix != ".npz" or feature_images:
        wrong = "--feature-images" if feature_images else f"--out {out}"
        raise UsageError(
            f"{wrong} is not allowed for a shard, which is one .npz file. A folder and --feature-images go with the "
            "site, which the same command without --shard draws."
        )
    return part, check_absent(out)
