"""What `kerascnn train photos/` chooses by what the folder holds."""

import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn.commands.train import Fields, _asked, asked_recipe
from kerascnn.datasets import image_folder
from kerascnn.errors import DataError
from kerascnn.recipes import RECIPES
from kerascnn.training import suited


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of {class: (number, (height, width))} images."""

    def make(classes, name="photos"):
        for kind, (count, shape) in classes.items():
            (tmp_path / name / kind).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.zeros((*shape, 3), "uint8")).save(tmp_path / name / kind / f"{number}.png")
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    ("shape", "size"),
    [((20, 20), 32), ((32, 32), 32), ((63, 99), 32), ((64, 64), 64), ((100, 80), 64), ((600, 400), 64)],
)
def test_the_size_is_the_largest_below_the_usual_shorter_side(folder, shape, size):
    assert kerascnn.recipe_for(folder({"a": (5, shape), "b": (5, shape)})).image_size == size


def test_the_median_side_decides_and_a_broken_file_does_not_count(folder):
    photos = folder({"a": (4, (64, 64)), "b": (3, (40, 40))})
    (photos / "b" / "broken.png").write_bytes(b"no image")
    assert kerascnn.recipe_for(photos).image_size == 64


def test_a_lent_network_is_trained_in_batches_that_the_folder_has(folder, tmp_path):
    """Of 60 images 9 and 6 are held out; of 12 and 60 the classes are uneven. What is typed stays."""
    import keras

    image = keras.Input((8, 8, 3), name="image")
    scores = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(image))
    keras.Model(image, scores).save(tmp_path / "lent.keras")
    lent = str(tmp_path / "lent.keras")
    even = str(folder({"a": (30, (8, 8)), "b": (30, (8, 8))}))
    recipe = asked_recipe(even, None, None, Fields(start_from=lent))
    assert (recipe.model, recipe.batch_size, recipe.class_weights) == (lent, 16, "none")
    uneven = str(folder({"a": (12, (8, 8)), "b": (60, (8, 8))}, "uneven"))
    assert asked_recipe(uneven, None, None, Fields(start_from=lent)).class_weights == "balanced"
    typed = asked_recipe(uneven, None, None, Fields(start_from=lent, batch_size=5, class_weights="none"))
    assert (typed.batch_size, typed.class_weights) == (5, "none")
    assert asked_recipe(even, "transfer", None, Fields(start_from=lent)).batch_size == 16


def test_the_size_is_free_unless_it_is_typed(folder):
    photos = str(folder({"a": (5, (64, 64)), "b": (5, (64, 64))}))
    recipe, free = _asked(photos, None, None, Fields())
    assert (recipe.image_size, free) == (64, True)
    recipe, free = _asked(photos, None, None, Fields(image_size=64))
    assert (recipe.image_size, free) == (64, False)
    assert not _asked(photos, "default", None, Fields())[1]


def test_the_batch_is_small_enough_for_many_steps_and_passes_are_bounded(folder, monkeypatch):
    """Of 400 images a tenth and 15% are held out: 300 are left, and batches of 32 make nine steps."""
    photos = folder({"a": (200, (8, 8)), "b": (200, (8, 8))})
    recipe = kerascnn.recipe_for(photos)
    assert (recipe.batch_size, recipe.epochs, recipe.learning_rate) == (32, 40, 0.0424)
    assert kerascnn.recipe_for(photos, validation=0, test=100, monitor="loss").batch_size == 32
    monkeypatch.setattr("kerascnn.training.suited.IMAGES_SEEN", 6000)
    monkeypatch.setattr("kerascnn.training.suited.STEPS_IN_ALL", 1)
    assert kerascnn.recipe_for(photos).epochs == 20
    assert kerascnn.recipe_for(photos, image_size=64).epochs == 10


def test_batches_are_no_larger_than_256(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((4000, 32, 32, 3), "uint8"), y_train=np.arange(4000) % 2)
    recipe = kerascnn.recipe_for(tmp_path / "a.npz", test=0, validation=0)
    assert (recipe.batch_size, recipe.learning_rate) == (256, 0.12)


@pytest.mark.parametrize(
    ("count", "batch", "epochs"),
    [(1, 1, 125), (10, 16, 125), (50, 16, 40), (60, 16, 40)],  # 16 + 4, 6 x 16 + 4 and 7 x 16 + 8 images a pass
)
def test_small_folders_get_250_steps_and_no_batch_of_few_images(folder, count, batch, epochs):
    photos = folder({"a": (count, (8, 8)), "b": (count, (8, 8))})
    recipe = kerascnn.recipe_for(photos, test=0, validation=0)
    assert (recipe.batch_size, recipe.epochs) == (batch, epochs)


@pytest.mark.parametrize(("count", "batch"), [(17, 6), (270, 32), (1800, 256), (1793, 248), (10_243, 248)])
def test_the_last_batch_has_four_images_or_more_and_devices_can_share_large_ones(count, batch):
    assert suited._batch(count) == batch
    assert count % batch == 0 or count % batch >= 4


@pytest.mark.parametrize(("classes", "broken"), [({"a": 3, "b": 2}, 0), ({"a": 11, "b": 10}, 1), ({"a": 4, "b": 4}, 1)])
def test_no_batch_is_larger_than_what_is_trained_on(folder, classes, broken):
    """Whatever is held out, and though some files turn out to be broken."""
    photos = folder({name: (count, (8, 8)) for name, count in classes.items()})
    for number in range(broken):
        path = photos / "a" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:-30])
    recipe = kerascnn.recipe_for(photos)
    assert recipe.batch_size <= len(kerascnn.datasets.load(photos, image_size=8).train)


def test_a_period_of_steps_changes_how_often_is_looked_and_not_the_length(folder):
    photos = folder({"a": (100, (8, 8)), "b": (100, (8, 8))})
    whole, often = kerascnn.recipe_for(photos), kerascnn.recipe_for(photos, eval_every=5)
    assert (whole.batch_size, whole.epochs) == (16, 40)  # 150 images, 10 steps a pass
    assert (often.batch_size, often.epochs) == (16, 80)


def test_images_are_not_cropped_to_more_than_they_are_resized_to(folder):
    photos = folder({"a": (5, (80, 80)), "b": (5, (80, 80))})
    assert kerascnn.recipe_for(photos, resize_to=48).image_size == 32
    assert kerascnn.recipe_for(photos, resize_to=64).image_size == 64


def test_uneven_classes_are_weighted(folder):
    uneven = folder({"a": (8, (32, 32)), "b": (2, (32, 32))}, "uneven")
    even = folder({"a": (7, (32, 32)), "b": (2, (32, 32))}, "even")
    assert kerascnn.recipe_for(uneven).class_weights == "balanced"
    assert kerascnn.recipe_for(even).class_weights == "none"


def test_what_is_given_wins(folder):
    photos = folder({"a": (8, (64, 64)), "b": (2, (64, 64))})
    given = {"image_size": 48, "batch_size": 2, "epochs": 3, "class_weights": "none", "augment": ()}
    recipe = kerascnn.recipe_for(photos, **given)
    assert {name: getattr(recipe, name) for name in given} == given
    assert recipe.model == RECIPES.get("photos")().model


def test_the_command_uses_it_for_a_path_unless_it_says_how_to_train(folder, monkeypatch):
    photos = folder({"a": (20, (64, 64)), "b": (20, (64, 64))})
    chosen = kerascnn.recipe_for(str(photos))
    assert asked_recipe(str(photos), None, None, Fields()) == chosen
    assert asked_recipe(str(photos), "photos", None, Fields()) == chosen
    assert asked_recipe(str(photos), None, None, Fields(epochs=2, seed=1)) == chosen.replace(epochs=2, seed=1)
    plain = RECIPES.get("default")().replace(data=str(photos))
    assert asked_recipe(str(photos), "default", None, Fields()) == plain
    assert asked_recipe(str(photos), None, None, Fields(model="lenet5")) == plain.replace(model="lenet5")
    assert asked_recipe(str(photos), None, None, Fields(learning_rate=0.1)) == plain.replace(learning_rate=0.1)
    assert asked_recipe("shapes", None, None, Fields()) == RECIPES.get("default")().replace(data="shapes")


def test_data_that_cannot_be_trained_on_are_refused_in_python(folder):
    photos = folder({"a": (3, (8, 8))})
    with pytest.raises(DataError, match="one class"):
        kerascnn.recipe_for(photos)
    with pytest.raises(DataError) as told:
        image_folder.image_folder(photos)
    assert "one class" in str(told.value)


@pytest.mark.slow
def test_a_small_folder_is_trained_on_without_a_word_of_configuration(tmp_path):
    """Red and blue images of no common size, forty of one and ten of the other."""
    photos = tmp_path / "photos"
    for kind, colour, count in (("blue", (0, 0, 200), 40), ("red", (200, 0, 0), 10)):
        (photos / kind).mkdir(parents=True)
        for number in range(count):
            noise = np.random.default_rng(number).integers(0, 40, (40 + number, 50, 3)) + colour
            Image.fromarray(noise.astype("uint8")).save(photos / kind / f"{number}.png")
    recipe = kerascnn.recipe_for(photos, precision="float32")  # which all processors compute alike
    run = kerascnn.train(recipe, out=tmp_path / "run", say=lambda line: None)
    assert run.read("recipe")["class_weights"] == "balanced"
    assert run.read("run")["result"]["accuracy"] == 1


def test_smaller_images_than_it_takes_are_left_to_the_default_recipe(folder):
    photos = str(folder({"a": (20, (64, 64)), "b": (20, (64, 64))}))
    plain = RECIPES.get("default")().replace(data=photos, image_size=16)
    assert asked_recipe(photos, None, None, Fields(image_size=16)) == plain
    assert asked_recipe(photos, None, None, Fields(image_size=32)).model == RECIPES.get("photos")().model
