"""`kerascnn course`: the notebooks of the course, copied to a folder of the user's."""

from pathlib import Path

from kerascnn.errors import UsageError, counted

NOTEBOOKS = Path(__file__).parents[1] / "course"


def course(folder: Path, /):
    """Copy the notebooks of the course into a folder.

    Each asks a question and answers it with a few lines of code, pictures and three exercises, in 10 to 15 minutes.

    Parameters
    ----------
    folder
        a folder, new or not; if it holds notebooks of these names that differ, nothing is copied
    """
    notebooks = {folder / source.name: source.read_bytes() for source in sorted(NOTEBOOKS.glob("*.ipynb"))}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder. Name a new or an existing folder: kerascnn course DIR")
    different = [path.name for path, text in notebooks.items() if _there(path) and not _is(path, text)]
    if different:
        raise UsageError(
            f"{folder} already holds {', '.join(different)}, with other content; nothing was copied. Name another "
            "folder, or rename yours first."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in notebooks.items():
        if not _there(path):
            with open(path, "xb") as file:
                file.write(text)
    print(f"{counted(len(notebooks), 'notebook')} in {folder}")
    print(f"Open the first with Jupyter (pip install jupyterlab): jupyter lab {next(iter(notebooks))}")


def _there(path):
    """True if there is anything of that name, even a link to nothing."""
    return path.exists() or path.is_symlink()


def _is(path, text):
    return path.is_file() and path.read_bytes() == text
