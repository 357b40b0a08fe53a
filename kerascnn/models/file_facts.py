"""What a .keras file says of its network before Keras opens it."""

import zipfile

from kerascnn.errors import DataError, UsageError
from kerascnn.files import json_value, tables_in


def file_facts(path):
    """input_shape (height, width, channels), None where any is taken; parameters, about.

    Raises:
        UsageError: there is no such file.
        DataError: it is not a .keras file, or declares no image input.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json_value(archive.read("config.json"), f"{path}: config.json")
            stored = sum(entry.file_size for entry in archive.infolist() if entry.filename.endswith(".h5"))
    except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is cut short or not a .keras file: {error}.") from error
    shape = _input_shape(config)
    if shape is None:
        raise DataError(f"{path} declares no input of shape (height, width, channels), so it takes no images.")
    return {"input_shape": shape, "parameters": stored // 4}


def _input_shape(config):
    for shape in (table.get("batch_shape") for table in tables_in(config)):
        if isinstance(shape, list) and len(shape) == 4 and all(n is None or isinstance(n, int) for n in shape):
            return tuple(shape[1:])
    return None
