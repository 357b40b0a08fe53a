"""What every data set must hold, over the registry: a new file in kerascnn/datasets is tested without being named."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

from kerascnn.datasets import DATASETS, load
from kerascnn.errors import DataError, UsageError

FOLDER = Path(DATASETS.path)
SMALL = {"shapes": {"count": 80, "image_size": 16}}
EMBEDDED = ("digits", "shapes")


@pytest.mark.parametrize("name", DATASETS.names())
def test_facts(name):
    facts = DATASETS.facts(name)
    assert facts["doc"].endswith(".")
    assert 5 < len(facts["description"]) < 70
    assert facts["image_shape"] is None or len(facts["image_shape"]) == 3
    assert facts["num_classes"] is None or facts["num_classes"] >= 2


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_data(name):
    data = load(name, **SMALL.get(name, {}))
    facts = DATASETS.facts(name)
    assert len(data.class_names) == facts["num_classes"]
    if name not in SMALL:
        assert data.image_shape == facts["image_shape"]
    assert list(data.splits) == ["train", "validation", "test"]
    for split in data.splits.values():
        assert split.images.dtype == np.uint8
        assert split.images.shape == (len(split), *data.image_shape)
        assert split.labels.dtype == np.int64
        assert set(split.labels) == set(range(len(data.class_names)))
    # no image is in two splits
    seen = [image.tobytes() for split in data.splits.values() for image in split.images]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("name", DATASETS.names())
def test_by_name_without_network(name, tmp_path, monkeypatch):
    """Every name either loads or says in words what is missing."""
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path))
    if name in EMBEDDED:
        assert load(name, **SMALL.get(name, {})).name == name
    elif DATASETS.facts(name).get("needs_path"):
        with pytest.raises(UsageError, match="is read from a path: type the path itself"):
            load(name)
    else:
        with pytest.raises(DataError, match=f"{name!r} is not on this machine"):
            load(name)


@pytest.mark.parametrize("name", DATASETS.names())
def test_only_its_own_files_are_recognised(name, make_folder, tmp_path):
    """A folder of class folders is nobody's but image_folder's, and a text file nobody's at all."""
    recognises = getattr(importlib.import_module(DATASETS.get(name).__module__), "recognises", None)
    (tmp_path / "a.txt").write_text("hello")
    folder = make_folder({"train/a": 1, "train/b": 1})
    if recognises is not None:
        assert recognises(folder) == ("image_folder" if name == "image_folder" else None)
        assert not recognises(tmp_path / "a.txt")


@pytest.mark.parametrize("file", sorted(p.name for p in FOLDER.glob("*.py")))
def test_no_heavy_import_at_the_top(file):
    heavy = {"keras", "tensorflow", "pandas", "sklearn", "scipy", "PIL", "pooch", "rich", "matplotlib", "requests"}
    for node in ast.parse((FOLDER / file).read_text()).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {n.split(".")[0] for n in names} & heavy
