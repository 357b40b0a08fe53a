import numpy as np
import pandas
import pytest

from kerascnn import runs
from kerascnn.errors import UsageError
from kerascnn.experiments.architecture import _changed, architecture, errors_of, input_shape, with_epochs
from kerascnn.recipes import Recipe
from kerascnn.training.reading import load_data


@pytest.mark.slow
def test_a_variant_is_trained_by_the_same_recipe_and_found_again(make_folder, tmp_path):
    recipe = Recipe(data=str(make_folder({"a": 12, "b": 12}, size=(16, 16))), image_size=16, epochs=1, batch_size=8)
    said = []
    options = {"without": ["f6"], "seeds": (0, 1), "say": said.append}
    result = architecture(recipe, tmp_path / "out", **options)
    assert result.table["variant"].tolist() == ["as it is", "without f6"]
    assert result.table["parameters"].is_monotonic_decreasing
    assert any(line.startswith("without f6: without f6") for line in said)
    for row, name in enumerate(("as-it-is", "without-f6")):
        for seed in (0, 1):
            run = runs.as_run(tmp_path / "out" / f"{name}-seed{seed}")
            assert run.read("recipe")["seed"] == seed
            table = pandas.read_csv(run / "metrics.csv")
            expected = [
                1 - table["accuracy"][0],
                1 - table["val_accuracy"][0],
                1 - run.read("run")["result"]["accuracy"],
            ]
            np.testing.assert_allclose(result.arrays["errors"][row, seed], expected, atol=1e-6)
            np.testing.assert_allclose(errors_of(run), expected, atol=1e-6)
    started = run.read("run")["started"]
    again = architecture(recipe, tmp_path / "out", **options)
    assert run.read("run")["started"] == started  # nothing is trained twice
    pandas.testing.assert_frame_equal(again.table, result.table)
    with pytest.raises(UsageError, match="holds a training by another recipe"):
        architecture(recipe.replace(epochs=2), tmp_path / "out", **options)
    result.save(tmp_path)


def test_nothing_is_trained_before_all_variants_are_built(make_folder, tmp_path):
    recipe = Recipe(data=str(make_folder({"a": 12, "b": 12}, size=(16, 16))), image_size=16, epochs=1, batch_size=8)
    with pytest.raises(UsageError, match="no layer 'conv9'"):
        architecture(recipe, tmp_path / "out", without=["f6", "conv9"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="There is nothing to compare"):
        architecture(recipe, tmp_path / "out")


def test_a_variant_keeps_the_changes_that_the_network_has():
    recipe = Recipe(model_options={"without": "c3", "variant": "1998"})
    assert _changed(recipe, {"without": "f6"}).model_options == {"without": "c3,f6", "variant": "1998"}
    assert _changed(recipe, {"widths": "c1 x2"}).model_options == recipe.model_options | {"widths": "c1 x2"}
    assert _changed(recipe, {}) == recipe


def test_epochs_of_a_recipe_that_counts_steps():
    assert with_epochs(Recipe(epochs=9), 3) == Recipe(epochs=3)
    assert with_epochs(Recipe(steps=900, eval_every=50), 3).steps == 150
    assert with_epochs(Recipe(steps=900, batch_size=64), 3, images=65).steps == 6
    with pytest.raises(UsageError, match="epochs=3 is not allowed: this recipe trains for 900 steps"):
        with_epochs(Recipe(steps=900), 3)


def test_variants_are_built_at_the_size_that_the_network_sees(make_folder):
    recipe = Recipe(model="alexnet", data=str(make_folder({"a": 4, "b": 4})), resize_to=256)
    assert input_shape(recipe, load_data(recipe)) == (227, 227, 3)
