"""`kerascnn data pack`: image files in a few large tar files."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerascnn.errors import command, counted


def pack(
    data: str,
    /,
    *,
    shards: int,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    classes: Literal["leaves"] | None = None,
):
    """Copy the image files of a data set into a few tar files, which every command reads as it reads the folder.

    The format is WebDataset's. The files keep their bytes, order, names, classes and splits, and training holds out the
    same images.

    Parameters
    ----------
    data
        a folder of class folders
    shards
        how many tar files; 100 MB to 1 GB each is usual
    out
        new folder for them
    classes
        leaves makes every folder that holds images a class, as in training
    """
    from kerascnn.datasets.packing import pack as write

    images, size = write(data, shards, out, classes=classes)
    print(f"{out}: {counted(images, 'image')}, {size / 1e6:,.1f} MB, in {counted(shards, 'shard')}")
    chosen = ["--classes", classes] if classes else []
    print(f"Use it like the folder: {command('train', out, *chosen)}")
