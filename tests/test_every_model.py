"""Every command on every kind of model: it works, or one clear sentence says why not."""

import shutil

import keras
import pytest

import kerascnn

pytestmark = pytest.mark.slow

# What is typed after the command and MODEL; networks that are named have other classes than the photographs.
COMMANDS = {
    "predict": ["PHOTO"],
    "evaluate": ["PHOTOS"],
    "suspects": ["PHOTOS"],
    "explain": ["PHOTO", "--method", "saliency"],
    "activations": ["PHOTO", "--layers", "c1"],
    "scan": ["PHOTOS", "--layers", "c1"],
    "report": ["PHOTOS"],
    "features": ["PHOTOS", "--layer", "c3"],
    "table": [],
    "cost": [],
    "receptive-field": ["c3"],
    "draw": ["drawing.svg"],
}


@pytest.fixture(scope="module")
def named(trained, tmp_path_factory):
    """{kind: what is typed}; one network as a run, the run's own file, an adopted .keras and .h5 file, and by name."""
    folder = tmp_path_factory.mktemp("named")
    shutil.copy(trained / "best.keras", folder / "mine.keras")
    keras.models.load_model(trained / "best.keras").save(folder / "mine.h5")
    for name in ("mine.keras", "mine.h5"):
        kerascnn.using.classifier.keep(folder / name, labels=trained.read("labels"), preprocess="0-1")
    return {
        "run": trained.folder,
        "best.keras": trained / "best.keras",
        ".keras": folder / "mine.keras",
        ".h5": folder / "mine.h5",
        "name": "lenet5",
    }


@pytest.mark.parametrize("kind", ["run", "best.keras", ".keras", ".h5", "name"])
def test_every_command_takes_it(named, trained, call, kind, tmp_path):
    photos = trained.folder.parent / "photos"
    typed = {"PHOTO": str(photos / "grass" / "0.png"), "PHOTOS": str(photos)}
    for command, arguments in COMMANDS.items():
        code, out, err = call(command, str(named[kind]), *(typed.get(each, each) for each in arguments))
        refused = kind == "name" and command in ("evaluate", "suspects", "report")
        assert "Traceback" not in err, command
        assert "This was not foreseen" not in err, (command, err)
        if refused:
            assert code in (1, 2), (command, out)
            assert err.startswith("kerascnn:") or "Type" in err or "no run" in err, (command, err)
            assert len(err.strip().splitlines()) <= 3, (command, err)
        else:
            assert code == 0, (command, err)


@pytest.mark.parametrize("kind", ["run", "best.keras", ".keras", ".h5", "name"])
def test_it_can_be_exported(named, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = kerascnn.export(named[kind], fresh=False)
    assert exported.path.is_dir()
    assert exported.kind == ("sample images" if kind in ("run", "best.keras") else "images of noise")
