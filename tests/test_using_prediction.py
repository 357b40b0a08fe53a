import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn import layers as our
from kerascnn import runs
from kerascnn.errors import DataError, UsageError
from kerascnn.recipes import Recipe
from kerascnn.training.prepare import fingerprint
from kerascnn.training.reading import load_data
from kerascnn.using.classifier import subject


def photos(run):
    return run.folder.parent / "photos"


def test_load_takes_a_run_a_folder_and_a_file(trained):
    expected = kerascnn.load(trained).get_weights()
    for name in (trained.folder, str(trained.folder), trained / "best.keras", str(trained / "best.keras")):
        for a, b in zip(kerascnn.load(name).get_weights(), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_load_says_what_is_missing(trained, tmp_path):
    with pytest.raises(UsageError, match=r"There is no file .*none\.keras"):
        kerascnn.load(tmp_path / "none.keras")
    (tmp_path / "broken.keras").write_bytes(b"not a network")
    with pytest.raises(DataError, match=r"broken\.keras is cut short or not a \.keras file: its 13 bytes"):
        kerascnn.load(tmp_path / "broken.keras")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("a.txt", "")
    with pytest.raises(DataError, match=r"empty\.keras is no \.keras file: it is a zip archive without config\.json"):
        kerascnn.load(tmp_path / "empty.keras")
    unfinished = runs.create(tmp_path / "r", model="m", data="d")
    unfinished.write("recipe", {})
    unfinished.update(status="running")
    with pytest.raises(DataError, match=r"no best\.keras; its status is 'running'.*--resume"):
        kerascnn.load(unfinished)


def test_a_fresh_process_loads_networks_with_our_own_layers(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            our.PatchWhitening(2),
            our.GroupedConv2D(4, 3, groups=2, activation=our.scaled_tanh, kernel_initializer=our.IdentityFirst()),
            our.LocalResponseNormalization(),
        ]
    )
    model.save(tmp_path / "own.keras")
    config = model.to_json()
    registered = [name for name in keras.saving.get_custom_objects() if name.startswith("kerascnn>")]
    assert all(name in config for name in registered)
    script = "import sys, kerascnn; print(kerascnn.load(sys.argv[1]).output_shape)"
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "own.keras"], capture_output=True, text=True)
    assert done.stdout == f"{model.output_shape}\n", done.stderr[-500:]


def test_predict_finds_the_colour_and_ranks_the_classes(trained):
    table = kerascnn.predict(trained, photos(trained) / "grass", top=2)
    assert list(table.columns) == ["image", "rank", "index", "probability", "label"]
    assert len(table) == 24 * 2
    first = table[table["rank"] == 1]
    assert (first["label"] == "grass").mean() > 0.9
    assert (first["index"] == 1).mean() > 0.9
    both = table.pivot(index="image", columns="rank", values="probability")
    assert (both[1] >= both[2]).all()
    every = kerascnn.predict(trained, photos(trained) / "grass" / "0.png", top=99)
    assert len(every) == 3
    np.testing.assert_allclose(every["probability"].sum(), 1, atol=1e-5)


def test_files_patterns_folders_and_arrays_agree(trained):
    folder = photos(trained) / "tomato"
    from_folder = kerascnn.predict(trained, folder)
    from_pattern = kerascnn.predict(trained, [str(folder / "*.png")])
    arrays = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    from_arrays = kerascnn.predict(trained, arrays)
    assert list(from_folder["image"]) == list(from_pattern["image"])
    np.testing.assert_array_equal(from_folder["probability"], from_pattern["probability"])
    np.testing.assert_allclose(from_folder["probability"], from_arrays["probability"], atol=1e-6)


def test_memory_does_not_grow_with_the_number_of_images(trained):
    """What the network sees of these 4,096 images would take 12 MB."""
    images, classifier, peaks = np.zeros((4096, 16, 16, 3), "uint8"), subject(trained), []
    few = kerascnn.predict(classifier, images[:256], top=1)
    tracemalloc.start()
    try:
        for count in (256, 4096):
            tracemalloc.reset_peak()
            table = kerascnn.predict(classifier, images[:count], top=1)
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2e6
    assert table["image"].tolist() == list(range(4096))
    np.testing.assert_allclose(table["probability"], few["probability"][0], atol=1e-6)


def test_one_image_alone_is_as_in_a_batch(trained):
    names = sorted((photos(trained) / "grass").iterdir())[:5]
    together = kerascnn.predict(trained, names, top=1)["probability"]
    alone = [kerascnn.predict(trained, [name], top=1)["probability"][0] for name in names]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_what_systems_put_beside_images_is_passed_over(trained, tmp_path):
    picture = (photos(trained) / "grass" / "0.png").read_bytes()
    for name in ("a.png", "._a.png", "@eaDir/a.png/SYNOPHOTO.png", "deeper/a.png"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    table = kerascnn.predict(trained, tmp_path / "mine", top=1)
    assert table["image"].tolist() == [str(tmp_path / "mine" / name) for name in ("a.png", "deeper/a.png")]
    assert not table.attrs["broken"]


def test_a_broken_file_is_named_and_the_others_are_answered(trained, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    table = kerascnn.predict(trained, [tmp_path / "broken.jpg", photos(trained) / "grass" / "0.png"], top=1)
    assert len(table) == 1
    assert [name for name, reason in table.attrs["broken"]] == [str(tmp_path / "broken.jpg")]


def test_what_cannot_be_predicted(trained, tmp_path):
    with pytest.raises(UsageError, match=r"There is no image 'nowhere\.png'"):
        kerascnn.predict(trained, ["nowhere.png"])
    with pytest.raises(UsageError, match="holds no images"):
        kerascnn.predict(trained, tmp_path)
    with pytest.raises(UsageError, match="top=0 is not allowed"):
        kerascnn.predict(trained, photos(trained), top=0)
    with pytest.raises(UsageError, match=r"shape \(2, 4, 4, 4\) and dtype uint8; .* with 1 or 3 channels"):
        kerascnn.predict(trained, np.zeros((2, 4, 4, 4), "uint8"))
    with pytest.raises(UsageError, match=r"shape \(2, 4, 4\) and dtype float64"):
        kerascnn.predict(trained, np.zeros((2, 4, 4)))


def test_evaluate_repeats_the_runs_own_test_and_takes_other_data(trained, tmp_path):
    usual = kerascnn.evaluate(trained)
    result = trained.read("run")["result"]
    assert usual.images == result["images"]
    assert usual.accuracy == result["accuracy"]
    assert usual.loss == pytest.approx(result["loss"], rel=1e-5)
    named = kerascnn.evaluate(trained, photos(trained))  # not all 72: most of them were trained on
    assert (named.images, named.accuracy) == (usual.images, usual.accuracy)
    for name in ("tomato", "grass"):  # two of the three classes, so other numbers than the run's
        (tmp_path / "few" / name).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "few" / name / f"{i}.png").write_bytes((photos(trained) / name / f"{i}.png").read_bytes())
    few = kerascnn.evaluate(trained, tmp_path / "few")
    assert few.per_class["images"].tolist() == [0, 4, 4]
    assert few.accuracy > 0.8


def test_a_folder_may_be_called_as_a_data_set_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = kerascnn.train(epochs=1, out="run", say=lambda line: None)
    for name in run.read("labels"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "digits" / name / "0.png")
    assert kerascnn.evaluate(run, "./digits").images == 10
    assert kerascnn.evaluate(run, "digits").images == run.read("run")["result"]["images"]


def test_a_run_whose_data_have_changed_has_no_test_images_of_its_own(trained, tmp_path):
    shutil.copytree(photos(trained), tmp_path / "photos")
    shutil.copytree(trained.folder, tmp_path / "run")
    run = kerascnn.runs.Run(tmp_path / "run")
    run.write("recipe", {**run.read("recipe"), "data": str(tmp_path / "photos")})
    result = trained.read("run")["result"]
    assert kerascnn.evaluate(run).accuracy == result["accuracy"]
    shutil.copytree(photos(trained), tmp_path / "moved")  # the same files elsewhere, most of which it was trained on
    assert kerascnn.evaluate(run, tmp_path / "moved").images == result["images"]
    shutil.copy(photos(trained) / "grass" / "0.png", tmp_path / "photos" / "grass" / "new.png")
    for data in (None, tmp_path / "photos"):
        with pytest.raises(DataError, match=r"The data at .*photos have changed since .*run was trained on them"):
            kerascnn.evaluate(run, data)
    (tmp_path / "photos").rename(tmp_path / "others")
    assert kerascnn.evaluate(run, tmp_path / "others").images == 73


def test_evaluate_refuses_classes_that_the_run_does_not_know(trained, make_folder):
    with pytest.raises(
        UsageError,
        match=r"classes that the network does not know: moon \(1 of 2 match\)\. It knows blue sky, grass, tomato",
    ):
        kerascnn.evaluate(trained, make_folder({"grass": 2, "moon": 2}))


class Mine(keras.layers.Layer):
    def call(self, x):
        return x


def test_a_file_with_a_layer_that_is_not_registered(tmp_path):
    keras.Sequential([keras.Input((2,)), Mine()]).save(tmp_path / "mine.keras")
    with pytest.raises(
        DataError, match=r"mine\.keras cannot be loaded: Could not locate class 'Mine'.*register_keras_serializable\(\)"
    ):
        kerascnn.load(tmp_path / "mine.keras")


def test_evaluate_takes_one_class_test_images_alone_and_other_spellings(trained, tmp_path):
    for place in ("one/grass", "tests/test/grass", "tests/test/tomato", "val/val/tomato"):
        shutil.copytree(photos(trained) / place.rpartition("/")[2], tmp_path / place)
    one = kerascnn.evaluate(trained, tmp_path / "one")
    assert (one.images, one.per_class["images"].tolist()) == (24, [0, 24, 0])
    answers = kerascnn.predict(trained, tmp_path / "one", top=1)
    assert one.accuracy == (answers["label"] == "grass").mean()
    tests = kerascnn.evaluate(trained, tmp_path / "tests")
    assert (tests.images, tests.per_class["images"].tolist()) == (48, [0, 24, 24])
    assert kerascnn.evaluate(trained, tmp_path / "val").images == 24
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "one/grass").iterdir())])
    np.savez(tmp_path / "one.npz", x_test=pixels, y_test=np.full(24, "grass"))
    assert kerascnn.evaluate(trained, tmp_path / "one.npz").loss == pytest.approx(one.loss)


def test_evaluate_needs_labels(trained, tmp_path):
    shutil.copytree(photos(trained) / "grass", tmp_path / "flat")
    with pytest.raises(UsageError, match=r"flat has no labels: .* a folder a class, .*type: kerascnn predict"):
        kerascnn.evaluate(trained, tmp_path / "flat")
    assert kerascnn.using.data_of(trained, tmp_path / "flat").train.labels.tolist() == [-1] * 24


def test_a_run_on_leaves_is_evaluated_on_leaves(trained, tmp_path, make_folder):
    root = make_folder({"green/grass": 24, "green/leaf": 6, "red/tomato": 6}, size=(20, 20))
    said = []
    recipe = Recipe(data=str(root), classes="leaves", image_size=16, epochs=1, batch_size=4)
    run = kerascnn.train(recipe, out=tmp_path / "run", say=said.append)
    assert run.read("labels") == ["green/grass", "green/leaf", "red/tomato"]
    told = next(
        number for number, line in enumerate(said) if line.startswith("The classes are unbalanced: 'green/grass'")
    )
    assert "Always answering 'green/grass' would be right for" in said[told]
    assert said[told + 1].endswith("class_weights='balanced'")
    assert said[told] in run.read("data")["notes"]
    assert kerascnn.evaluate(run).images == run.read("run")["result"]["images"]
    other = make_folder({"test/green/grass": 2, "test/green/leaf": 1}, size=(20, 20), name="other")
    assert kerascnn.evaluate(run, other).per_class["images"].tolist() == [2, 1, 0]


def test_classes_and_files_whose_names_are_not_utf8(trained, tmp_path):
    root = os.fsencode(tmp_path) + b"/ph\xf6tos"
    for name, label in ((b"sky\xe9", "blue sky"), ("gra\u0301s".encode(), "grass")):
        shutil.copytree(os.fsencode(photos(trained) / label), root + b"/" + name)
    (Path(os.fsdecode(root + b"/sky\xe9")) / os.fsdecode(b"br\xf6ken.png")).write_bytes(b"")
    recipe = Recipe(data=os.fsdecode(root), image_size=16, epochs=1, batch_size=8)
    run = kerascnn.train(recipe, out=tmp_path / "run", say=lambda line: None)
    assert run.read("labels") == ["gr\u00e1s", r"sky\xe9"]
    assert run.read("data")["skipped"] == [[os.fsdecode(b"sky\xe9/br\xf6ken.png"), "empty file"]]
    assert kerascnn.evaluate(run).images == run.read("run")["result"]["images"]
    shutil.copytree(photos(trained) / "grass", tmp_path / "other" / "gr\u00e1s")
    assert kerascnn.evaluate(run, tmp_path / "other").images == 24


def test_predict_names_pipes_instead_of_waiting_for_them(trained, tmp_path):
    picture = (photos(trained) / "grass" / "0.png").read_bytes()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").write_bytes(picture)
    os.mkfifo(tmp_path / "mine" / "b.png")
    os.mkfifo(tmp_path / "mine" / "c")
    table = kerascnn.predict(trained, tmp_path / "mine", top=1)
    assert table["image"].tolist() == [str(tmp_path / "mine" / "a.png")]
    assert table.attrs["broken"] == [(str(tmp_path / "mine" / "b.png"), "a named pipe, not a regular file")]


@pytest.mark.parametrize("moved", [False, True])
def test_one_changed_image_of_many_is_found_before_evaluating(tmp_path, make_folder, moved):
    """The 64 images of a fingerprint need not have it among them."""
    folder = make_folder({"grass": 90, "tomato": 90})
    options = {"model": "lenet5", "image_size": 16, "epochs": 1, "batch_size": 32, "test": 0.1}
    run = kerascnn.train(data=str(folder), out=tmp_path / "run", say=lambda line: None, **options)
    assert kerascnn.evaluate(run).images == 27
    if moved:
        folder = Path(shutil.copytree(folder, tmp_path / "copy"))
        assert kerascnn.evaluate(run, folder).images == 27
    seen = fingerprint(kerascnn.using.data_of(run))
    for path in sorted(folder.glob("grass/*.png"))[1:]:  # the first that the fingerprint does not see
        original = path.read_bytes()
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, 0] ^= 255
        Image.fromarray(pixels).save(path)
        changed = load_data(Recipe.from_dict(run.read("recipe")).replace(data=str(folder)))
        if fingerprint(changed) == seen:
            break
        path.write_bytes(original)
    with pytest.raises(DataError, match=f"What changed: 1 file with other pixels, the first grass/{path.name}"):
        kerascnn.evaluate(run, folder if moved else None)
