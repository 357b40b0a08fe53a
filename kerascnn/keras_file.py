"""The network of a run, or of a .keras file."""

import zipfile
from pathlib import Path

import keras

import kerascnn.layers  # noqa: F401  a .keras file may hold them
from kerascnn import runs
from kerascnn.errors import DataError, UsageError, command


def load(run):
    """The `keras.Model` of a run: preprocessed images float32 (N, H, W, C) -> probabilities float32 (N, num_classes).

    Args:
        run: a Run, its folder, its name, "last", or the path of a .keras file.
    """
    if isinstance(run, (str, Path)) and str(run).endswith(".keras"):
        path = Path(run)
        if not path.is_file():
            raise UsageError(f"There is no file {path}. List runs: kerascnn runs")
    else:
        run = runs.as_run(run)
        path = run / "best.keras"
        if not path.exists():
            raise DataError(
                f"{run.folder} has no best.keras; its status is {run.status!r}. "
                f"Finish it: {command('train', '--resume', run.folder)}"
            )
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path} is torn or no .keras file: its {path.stat().st_size:,} bytes are not a whole zip archive."
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except (KeyError, OSError, TypeError, ValueError) as error:  # TypeError: a custom layer that is not registered
        # Keras puts pages of configuration around what is wrong.
        reason = str(error).rpartition("Exception encountered: ")[2].partition(" Full object config")[0] or repr(error)
        raise DataError(f"{path} cannot be loaded: {reason}") from error
