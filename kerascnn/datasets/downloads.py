"""Files of well-known data sets: found in the cache folder, or fetched once with their checksum.

The cache folder is $KERASCNN_DATA, or kerascnn's folder among the user's caches; each data set has a folder of its own
name in it. A file that lies there already is used as it is, without network: its reader says so if it is not what it
should be. The checksum guards what is fetched.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from kerascnn.errors import DataError


def cache_folder(name):
    """The folder where the files of data set `name` are kept. It may not exist yet."""
    root = os.environ.get("KERASCNN_DATA")
    if root:
        return Path(root).expanduser() / name
    import pooch

    return Path(pooch.os_cache("kerascnn")) / name


def fetch(name, files):
    """The folder of data set `name`, with these files in it.

    Args:
        name: of the data set.
        files: {file name: (checksum "md5:..." or "sha256:...", (URL, ...))}; URLs are tried in turn.
    Raises:
        DataError: a file is missing and cannot be downloaded; one sentence says where to put it.
    """
    folder = cache_folder(name)
    for file, (checksum, urls) in files.items():
        if not (folder / file).exists():
            missing = [f for f in files if not (folder / f).exists()]
            _fetch_one(name, folder, file, checksum, urls, missing)
    return folder


def _fetch_one(name, folder, file, checksum, urls, missing):
    import pooch

    logger = pooch.get_logger()
    level, reason = logger.level, None
    logger.setLevel("CRITICAL")
    try:
        for url in urls:
            downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30)
            try:
                pooch.retrieve(url, known_hash=checksum, fname=file, path=folder, downloader=downloader)
                return
            except ValueError as error:  # pooch's word for a wrong checksum
                sent = f"what {urlsplit(url).netloc} sent is not the original (its checksum differs)"
                reason = reason or (sent, error)
            except OSError as error:  # requests' errors are OSErrors too
                reason = reason or (_words(error, url, folder), error)
    finally:
        logger.setLevel(level)
    raise DataError(
        f"The data set {name!r} is not on this machine and {reason[0]}: put {_listed(missing)} into {folder}, or give "
        f"the path of the folder that holds {'it' if len(missing) == 1 else 'them'} instead of {name!r}."
    ) from reason[1]


def _words(error, url, folder):
    if getattr(error, "response", None) is not None:
        error.response.close()  # pooch leaves it open
        return f"{urlsplit(url).netloc} answered {error.response.status_code} for {urlsplit(url).path}"
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in (28, 30):
        return f"nothing can be written to {folder} ({error.strerror})"
    return f"{urlsplit(url).netloc} cannot be reached"


def _listed(names):
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
