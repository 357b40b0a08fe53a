import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest

import kerascnn
from kerascnn import runs
from kerascnn.experiments.asked import Asked, usual
from kerascnn.recipes import Recipe


def test_invariance_of_a_run(call, trained, tmp_path):
    code, out, err = call(
        "experiment",
        "invariance",
        trained.folder,
        "--change",
        "rotation",
        "--amounts",
        0,
        45,
        "--images",
        6,
        "--out",
        tmp_path,
    )
    assert (code, err) == (0, "")
    assert "Under rotation (border: zeros) the features of c1 move" in out
    table = pandas.read_csv(tmp_path / "invariance-rotation.csv")
    assert set(table["layer"]) == {"c1", "c3", "f6", "probability"}
    assert (tmp_path / "invariance-rotation.png").exists()
    assert "invariance" in call("experiments")[1]
    assert call("experiment", "invariance", trained.folder, "--images", 0)[0] == 2
    assert '"shear"' in call("experiment", "invariance", trained.folder, "--change", "shear")[2]


def test_invariance_on_images_of_classes_that_the_network_does_not_know(call, trained, make_folder, tmp_path):
    photos = make_folder({"cat": 3, "dog": 3}, size=(20, 20))
    asked = "experiment", "invariance", trained.folder, photos, "--amounts", 0, 2, "--images", 4, "--out", tmp_path
    code, out, err = call(*asked)
    assert (code, err) == (0, "")
    assert "does not know the classes of these images: the class that it predicts is followed" in out
    table = pandas.read_csv(tmp_path / "invariance-translation.csv").set_index(["layer", "amount"])
    assert table.loc[("probability", 0), "relative"] > 1 / 3  # of the class that is predicted


@pytest.mark.slow
def test_correspondence_of_a_folder(call, trained, tmp_path):
    images = sorted((trained / "samples").glob("*.png"))[:4]
    for image in images:
        (tmp_path / "photos" / "0").mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "photos" / "0")
    rows = "".join(f"{image.name},corner,0,0,5,5\n{image.name},centre,6,6,10,10\n" for image in images)
    (tmp_path / "boxes.csv").write_text("file,part,top,left,bottom,right\n" + rows)
    code, out, err = call(
        "experiment", "correspondence", trained.folder, tmp_path / "photos", "--boxes", tmp_path / "boxes.csv",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    table = pandas.read_csv(tmp_path / "out" / "correspondence.csv")
    assert list(table["part"]) == ["corner", "centre", "random places"] * 2
    assert set(table["images"]) == {4}
    assert "f6, corner: it is treated" in out
    code, _, err = call("experiment", "correspondence", trained.folder, "--boxes", "none.csv")
    assert code == 2
    assert "There is no file none.csv" in err


@pytest.mark.parametrize(
    ("arguments", "name", "told"),
    [
        (["probes", "--images", 60, "--places", 2], "probes", "svm: the best layer is "),
        (["nearest", "--images", 20, "--top", 3], "nearest", "of the 3 nearest images are of the image's own class"),
        (["unit-ablation", "--images", 20], "unit-ablation", "matters most: without it the loss changes by"),
    ],
)
def test_experiments_of_layers_and_units(call, trained, tmp_path, arguments, name, told):
    code, out, err = call("experiment", arguments[0], trained.folder, *arguments[1:], "--out", tmp_path)
    assert (code, err) == (0, "")
    assert told in out
    assert (tmp_path / f"{name}.png").exists()
    assert len(pandas.read_csv(tmp_path / f"{name}.csv")) > 1
    assert name in call("experiments")[1]


@pytest.mark.parametrize("data", ["own", pytest.param("others", marks=pytest.mark.slow)])
def test_multiscale_of_a_run(call, trained, tmp_path, data):
    given = [trained.folder.parent / "photos"] if data == "others" else []
    code, out, err = call(
        "experiment", "multiscale", trained.folder, *given, "--scales", "16,20", "--fine-tune", 2, "--images", 40,
        "--out", tmp_path,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "Network as it is: the mean of 16,20 is right" in out
    assert "The fine-tuned network (scales " in out
    table = pandas.read_csv(tmp_path / "multiscale.csv")
    assert table["aggregate"].tolist() == ["one", "one", "mean", "stack"] * 2
    assert table["features"].tolist() == [84, 84, 84, 168] * 2
    code, _, err = call("experiment", "multiscale", trained.folder, *given, "--scales", "12")
    assert code == 2
    assert "--scales 12 is smaller than lenet5 takes" in err


def test_an_ensemble_of_a_run_and_its_own_file(call, trained, tmp_path):
    """The same network twice answers as one."""
    code, out, err = call(
        "experiment", "ensemble", trained.folder, trained / "best.keras", "--images", 20, "--out", tmp_path,
        "--export", tmp_path / "saved",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert f"{tmp_path / 'saved'}: SavedModel of 2 networks; loaded again, it differs by at most" in out
    assert (tmp_path / "saved" / "saved_model.pb").exists()
    assert "Together the 2 networks are not measurably different from the best of them" in out
    table = pandas.read_csv(tmp_path / "ensemble.csv")
    assert table["count"].tolist() == [1, 1, 2]
    assert table["error"].nunique() == 1
    code, _, err = call("experiment", "ensemble", trained.folder, trained.folder, "--export", tmp_path, "--images", 5)
    assert code == 2
    assert f"--export {tmp_path} is not allowed: it holds something else." in err
    code, _, err = call("ensemble", trained.folder)
    assert code == 2
    assert "two or more networks; 1 given. Type RUN RUN ..." in err


@pytest.mark.slow
def test_networks_with_other_test_images_do_not_answer_together(call, tmp_path, make_folder):
    """Another seed has other test images: what one run was tested on, the other was trained on."""
    folder = make_folder({"grass": 40, "tomato": 40})
    for seed in (0, 1):
        options = {"model": "lenet5", "image_size": 16, "epochs": 1, "batch_size": 16, "seed": seed}
        kerascnn.train(data=str(folder), out=tmp_path / f"run{seed}", say=lambda line: None, **options)
    runs = tmp_path / "run0", tmp_path / "run1"
    code, _, err = call("experiment", "ensemble", *runs, "--out", tmp_path / "out")
    assert code == 2
    assert "run1 has other test images than run0, and may have been trained on these." in err
    assert "Name images that none of them has seen: --data FOLDER" in err
    assert "run1 has other test images" in call("ensemble", *runs, folder)[2]  # their own, so split as theirs
    assert not (tmp_path / "out").exists()
    fresh = make_folder({"grass": 20, "tomato": 20}, "fresh", (9, 9))
    code, out, err = call("ensemble", *runs, fresh, "--images", 30, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "Together the 2 networks are" in out
    for name in ("probes", "unit-ablation"):
        flat = tmp_path / "flat"
        flat.mkdir(exist_ok=True)
        shutil.copy(folder / "grass" / "0.png", flat)
        code, _, err = call("experiment", name, runs[0], flat)
        assert code == 2
        assert "Give a folder of class folders" in err


def test_an_experiment_without_a_command_of_its_own_gets_test_images(trained):
    asked = Asked([trained.folder])
    assert usual(lambda model, images: images.shape)(asked, images=3) == (3, 16, 16, 3)
    images, labels = usual(lambda model, images, labels: (images, labels))(asked, images=3, seed=1)
    expected = asked.some(3, 1)
    np.testing.assert_array_equal(images, asked.classifier.preprocessing(expected.images[:]))
    assert labels.tolist() == expected.labels.tolist()


def test_experiments_that_train(call, trained, tmp_path):
    photos = trained.folder.parent / "photos"
    code, out, err = call(
        "experiment", "generalisation", trained.folder, photos, "--counts", "4", "--repeats", 1, "--steps", 2,
        "--out", tmp_path,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "4 images a class: frozen features" in out
    assert (tmp_path / "generalisation.png").exists()
    code, _, err = call("experiment", "generalisation", trained.folder, photos, "--counts", "40")
    assert code == 2
    assert "--counts 40 is not allowed: class 0 has 18 training images" in err
    code, _, err = call("experiment", "architecture", trained.folder, "--without", "c9")
    assert code == 2
    assert "no layer 'c9'" in err
    code, _, err = call("experiment", "architecture", trained.folder, "--without", "c1,c3")
    assert code == 2
    assert "--without 'c1,c3' removes every convolution of lenet5. Keep one." in err


def test_the_architecture_of_a_file(call, trained, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu", name="first", trainable=False),
            keras.layers.Conv2D(4, 3, activation="relu", name="second"),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )
    path, photos = tmp_path / "plain.keras", trained.folder.parent / "photos"
    model.save(path)
    assert "Name the images after it" in call("experiment", "architecture", path, "--without", "second")[2]
    asked = "experiment", "architecture", path, photos, "--without", "second", "--epochs", 1, "--seeds", 1
    code, out, err = call(*asked, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    table = pandas.read_csv(tmp_path / "out" / "architecture.csv").set_index("variant")
    # first 112, second 148, the new head of 3 classes
    assert table["parameters"].tolist() == [112 + 148 + 12 * 12 * 4 * 3 + 3, 112 + 14 * 14 * 4 * 3 + 3]
    run = runs.as_run(tmp_path / "out" / "architecture" / "as-it-is-seed0")
    first = keras.saving.load_model(run / "best.keras").get_layer("first")
    np.testing.assert_array_equal(first.get_weights()[0], model.get_layer("first").get_weights()[0])
    assert "logistic regression" not in out
    model.save(tmp_path / "plain.h5")
    code, _, err = call("experiment", "architecture", tmp_path / "plain.h5", photos, "--without", "second")
    assert (code, "Save it as a .keras file" in err) == (2, True)


@pytest.mark.slow
def test_evolution_of_a_run_goes_on_where_it_was(call, trained, tmp_path):
    options = "experiment", "evolution", trained.folder, "--epochs", "1,2", "--images", 20, "--out", tmp_path
    code, out, err = call(*options)
    assert (code, err) == (0, "")
    assert "c1 " in out
    code, again, err = call(*options)
    assert (code, err) == (0, "")
    assert "Reading" not in again  # it is trained once
    assert pandas.read_csv(tmp_path / "evolution.csv")["epochs"].unique().tolist() == [0, 1, 2]
    code, _, err = call(*options[:4], "1,3", *options[5:])
    assert code == 2
    assert "was trained without looking at epoch 3; there are 0, 1, 2." in err
    assert "Give another folder for this experiment: --out FOLDER" in err
    before = sorted(path.name for path in (tmp_path / "evolution").iterdir())
    other = Recipe.from_dict(trained.read("recipe")).replace(learning_rate=0.004)
    kerascnn.train(other, out=tmp_path / "other", say=lambda line: None)
    code, _, err = call(*options[:2], tmp_path / "other", *options[3:])
    assert (code, "evolution holds a training by another recipe" in err) == (2, True)
    assert sorted(path.name for path in (tmp_path / "evolution").iterdir()) == before
    for wrong, message in (
        (("--epochs", "1"), "give two or more different epochs"),
        (("--layers", "c9"), "'c9'"),
        (("--channels", "c1:99"), "--channels 99 is not allowed"),
    ):
        code, _, err = call(*options[:3], *wrong, "--out", tmp_path / "none")
        assert (code, message in err) == (2, True), err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_what_an_experiment_of_a_run_says_while_it_goes_on(call, trained, tmp_path):
    """Kept networks, by name; parts of shapes; a command that is given again measures nothing."""
    for epochs in (1, 2):
        (tmp_path / "epochs").mkdir(exist_ok=True)
        shutil.copy(trained.folder / "best.keras", tmp_path / "epochs" / f"{epochs}.keras")
    options = "--epochs", tmp_path / "epochs", "--amounts", 0, 2, "--images", 8, "--out", tmp_path
    code, out, err = call("experiment", "invariance-epochs", trained.folder, *options)
    assert (code, err) == (0, "")
    assert "network 1/2  epoch 1: " in out
    assert "does not measurably change from epoch 1 to epoch 2" in out
    assert "network" not in call("experiment", "invariance-epochs", trained.folder, *options)[1]
    code, _, err = call("experiment", "invariance-epochs", trained.folder)
    assert code == 2
    assert "holds 0 networks named after epochs, such as 5.keras; two or more are needed" in err
    code, out, err = call("experiment", "correspondence", trained.folder, "shapes", "--images", 6, "--out", tmp_path)
    assert (code, err) == (0, "")
    assert pandas.read_csv(tmp_path / "correspondence.csv")["part"].tolist()[:3] == [
        "centre",
        "corner",
        "random places",
    ]
    code, _, err = call("experiment", "correspondence", trained.folder)
    assert code == 2
    assert "Give a table of them: --boxes FILE.csv" in err


def test_the_run_s_own_data_are_split_as_the_run_s_even_if_they_are_named(trained, tmp_path):
    """Also under another path; no training image is among the test images."""
    photos = Path(trained.read("recipe")["data"])
    shutil.copytree(photos, tmp_path / "copy")
    expected = Asked([trained.folder]).loaded
    for named in (photos, os.path.relpath(photos), tmp_path / "copy"):
        loaded = Asked([trained.folder], str(named)).loaded
        assert loaded.test.files == expected.test.files
        assert not set(loaded.test.files) & set(loaded.train.files)
    larger = Asked([trained.folder], str(tmp_path / "copy"), side=24).loaded
    assert larger.test.files == expected.test.files
    assert larger.image_shape == (24, 24, 3)


def test_images_of_an_array_are_told_apart_by_their_pixels(call, trained, tmp_path):
    """In a file sorted by class, every seed holds out the same sequence of classes, but other images."""
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), "uint8")
    np.savez(tmp_path / "sorted.npz", x_train=images, y_train=np.repeat([0, 1], 30))
    options = {"model": "lenet5", "data": str(tmp_path / "sorted.npz"), "epochs": 1, "batch_size": 16, "image_size": 16}
    for seed in (0, 1):
        kerascnn.train(out=tmp_path / f"run{seed}", seed=seed, say=lambda line: None, **options)
    code, _, err = call("experiment", "ensemble", tmp_path / "run0", tmp_path / "run1", "--out", tmp_path / "out")
    assert code == 2
    assert "run1 has other test images than run0" in err


@pytest.mark.slow
def test_evolution_of_a_run_that_counts_steps_and_stops_early(call, trained, tmp_path):
    """Its epochs are its evaluations, up to the last, whatever the patience."""
    options = {"model": "lenet5", "image_size": 16, "steps": 9, "eval_every": 3, "stop_patience": 1, "batch_size": 8}
    data = trained.read("recipe")["data"]
    kerascnn.train(data=data, out=tmp_path / "run", say=lambda line: None, learning_rate=1e-9, **options)
    code, _, err = call("experiment", "evolution", tmp_path / "run", "--images", 8, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert pandas.read_csv(tmp_path / "out" / "evolution.csv")["epochs"].unique().tolist() == [0, 1, 2, 3]
    assert runs.Run(tmp_path / "out" / "evolution").read("recipe")["steps"] == 9
