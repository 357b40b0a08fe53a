"""One new file is enough: in a copy of the package it is listed, its command knows it, and common tests run on it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    "kerascnn/models/newcomers.py": '''
        """A network that was not there before."""

        from keras import Input, Model, layers

        from kerascnn.models import register


        @register(source="nobody", input_shape=(8, 8, 1), num_classes=10, parameters=26_586)
        def newcomer_net(input_shape=(8, 8, 1), num_classes=10, *, name="newcomer_net"):
            """One convolution and two dense layers.

            Args:
                input_shape: (height, width, channels), at least 4x4 pixels.
                num_classes: number of classes.
                name: the model's name.
            """
            inputs = Input(input_shape, name="image")
            x = layers.Conv2D(16, 4, activation="relu", name="conv")(inputs)
            x = layers.Flatten(name="flatten")(x)
            x = layers.Dense(64, activation="relu", name="hidden")(x)
            x = layers.Dense(num_classes, name="output")(x)
            return Model(inputs, layers.Softmax(dtype="float32", name="softmax")(x), name=name)
    ''',
    "kerascnn/datasets/newcomers.py": '''
        """Images that were not there before."""

        from kerascnn.datasets import register
        from kerascnn.errors import DataError


        def recognises(path):
            return "newcomer_data" if path.suffix == ".newcomer" else None


        @register(description="images of a format of their own", image_shape=None, num_classes=None)
        def newcomer_data(path=None):
            """Images of a format of their own."""
            raise DataError("'newcomer_data' is not on this machine.")
    ''',
    "kerascnn/explain/methods/newcomers.py": '''
        """A map that was not there before."""

        from kerascnn.explain import register
        from kerascnn.explain.reverse import unpack, walk_back


        @register(source="nobody", gradients=True)
        def newcomer_map(model, images, target=None, **options):
            """Twice the plain gradient."""
            return 2 * unpack(walk_back(model, images, target, "gradient", **options)[0])
    ''',
    "kerascnn/callbacks/newcomers.py": '''
        """A look during training that was not there before."""

        from kerascnn.callbacks import register


        @register()
        def newcomer_look(data, prepared):
            """Nothing at all."""
            return []
    ''',
    "kerascnn/experiments/newcomers.py": '''
        """An experiment that was not there before."""

        from kerascnn.experiments import register


        @register(source="nobody")
        def newcomer_law(model, images):
            """Whether anything happens."""
    ''',
    "kerascnn/studies/newcomers.py": '''
        """A report that was not there before."""

        from kerascnn.studies import register
        from kerascnn.studies.frame.study import Computed, Study, Value


        def _count(place):
            """Two and two."""
            return {"sum": 2 + 2}


        @register("newcomer-study", source="nobody")
        def newcomer_study():
            """What two and two are."""
            return Study(
                name="newcomer-study",
                title="Two and two",
                source="Nobody, 2020",
                about="A sum.",
                rows=(Computed(name="sum", compute=_count),),
                values=(Value(row="sum", what="a sum", measure="sum", published=4, where="p. 1", better="exact"),),
            )
    ''',
    "tuning/searches/newcomers.py": '''
        """A search that was not there before."""

        from kerascnn.recipes import Recipe
        from tuning import register


        @register()
        def newcomer_search(hp):
            """Two rates and two sizes."""
            return Recipe(
                learning_rate=hp.Choice("learning_rate", [0.1, 0.01]), batch_size=hp.Choice("batch_size", [8, 16, 32])
            )
    ''',
}
LISTS = """
import contextlib, io, json, sys
from kerascnn.cli import run_command
shown = {}
for words in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert run_command(words.split()) == 0, words
    shown[words] = text.getvalue()
assert "keras" not in sys.modules
print(json.dumps(shown))
"""
# What the command line prints, and which newcomer must be in it.
SHOWN = {
    "models": "newcomer_net",
    "datasets": "newcomer_data",
    "explain --help": "newcomer_map",
    "train --help": "newcomer_look",
    "experiments": "newcomer-law",
    "experiment --help": "newcomer-law",
    "experiment newcomer-law --help": "Whether anything happens",
    "searches": "newcomer_search",
    "studies": "newcomer-study",
}
# Common tests, and which newcomers they must run on.
COMMON = {
    "test_models.py": ["newcomer_net"],
    "test_anatomy_layer_table.py": ["newcomer_net"],
    "test_anatomy_cost.py": ["newcomer_net"],
    "test_datasets_common.py": ["newcomer_data"],
    "test_explain_models.py": ["newcomer_map"],
    "test_explain_caveats.py": ["newcomer_map"],
    "test_studies.py": ["newcomer-study"],
    "test_tuning_spaces.py": ["newcomer_search"],
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the packages and their tests with one file more in every room that has a registry."""
    folder = tmp_path_factory.mktemp("house")
    for part in ("kerascnn", "tuning", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    shutil.copy(ROOT / "setup.cfg", folder)
    for name, text in FILES.items():
        (folder / name).write_text(text.replace("\n        ", "\n").lstrip())
    return folder


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_listings_and_help_show_what_one_file_adds(house):
    done = run(house, "-c", LISTS, *SHOWN)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = json.loads(done.stdout)
    assert [words for words, name in SHOWN.items() if name not in shown[words]] == []


@pytest.mark.slow
def test_common_tests_run_on_what_one_file_adds(house):
    files = [f"tests/{name}" for name in COMMON]
    done = run(house, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-v", "-k", "newcomer", *files)
    assert done.returncode == 0, done.stdout[-4000:]
    passed = [line for line in done.stdout.splitlines() if " PASSED" in line]
    for file, names in COMMON.items():
        for name in names:
            assert any(file in line and name in line for line in passed), f"{file} has no test of {name}"
