"""How much do layers and their sizes matter? (Zeiler and Fergus 2013, section 5.1 and table 3)

The paper removes layers from the network of Krizhevsky et al., or changes their sizes, trains each variant again and
compares the errors. Here every variant is trained with the same recipe and several seeds, so the spread is also known.
"""

import numpy as np
import pandas
from matplotlib.ticker import FuncFormatter

from kerascnn import runs
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.experiments import register
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.models import MODELS, is_file
from kerascnn.plots import BLUE, GREEN, ORANGE, panel, shortened
from kerascnn.progress import Progress
from kerascnn.recipes import Recipe
from kerascnn.training.build import ALTERED, network
from kerascnn.training.prepare import anchored
from kerascnn.training.reading import image_size, load_data
from kerascnn.training.suited import recipe_for
from kerascnn.training.train import train

WHOLE = "as it is"
PARTS = ("train", "validation", "test")


@register(source="Zeiler and Fergus 2013, table 3")
def architecture(recipe, folder, *, without=(), widths=(), seeds=(0, 1, 2), say=None):
    """Errors of a network and of its variants, each trained with one recipe and several seeds.

    Args:
        recipe: Recipe; its seed is replaced.
        folder: Path; each training run has its own folder below it. Finished runs there are not repeated, and one that
            was stopped continues.
        without: texts that name layers to leave out, such as "conv3,conv4"; each text is a variant.
        widths: texts that change sizes, such as "conv3..conv5 x1.33"; each text is a variant
            (`kerascnn.models.variants`).
        seeds: seeds of the training runs.
        say: called with lines of progress.
    Returns:
        Outcome. Table: variant, parameters, and train_error, validation_error and test_error (means over the seeds, of
        the weights that are kept) with their standard deviations train_spread, validation_spread and test_spread,
        seeds. Arrays: "errors" (variants, seeds, 3).
    Raises:
        UsageError: there is no variant, a variant cannot be built, or the folder holds runs of another recipe.
    """
    say = say or (lambda line: None)
    variants = {WHOLE: {}}
    variants |= {f"without {text}": {"without": text} for text in without}
    variants |= {text: {"widths": text} for text in widths}
    if len(variants) < 2 or not seeds:
        raise UsageError("There is nothing to compare: name layers, without='conv3,conv4' or widths='conv3 x2'.")
    recipe = anchored(recipe)
    recipes = {name: _changed(recipe, options) for name, options in variants.items()}
    _built(recipes, say)  # what cannot be is told before the first training
    errors, parameters = np.zeros((len(variants), len(seeds), 3)), []
    progress = Progress("training", len(variants) * len(seeds), say)
    for row, (name, of_variant) in enumerate(recipes.items()):
        for column, seed in enumerate(seeds):
            place = folder / f"{runs.plain(name)}-seed{seed}"
            run, worked = run_of(of_variant.replace(seed=seed), place, say, f"{name}, seed {seed}")
            errors[row, column] = errors_of(run)
            told = ", ".join(f"{part} {error:.2%}" for part, error in zip(PARTS, errors[row, column], strict=True))
            progress.step(f"{name}, seed {seed}: errors {told}", worked=worked)
        parameters.append(run.read("run")["parameters"])
    table = _table(list(variants), parameters, errors)
    title = f"{recipe.model} on {recipe.data.rpartition('/')[2]}, {counted(len(seeds), 'seed')} each"
    return Outcome("architecture", table, _findings(table, errors), lambda: _figure(table, title), {"errors": errors})


def _changed(recipe, options):
    """The recipe with more changes to its network's layers, in addition to those that it has."""
    had = recipe.model_options
    more = {name: f"{had[name]},{text}" if had.get(name) else text for name, text in options.items()}
    return recipe.replace(model_options={**had, **more})


def errors_of(run):
    """(training, validation, test error) of the weights that a finished run keeps; nan if it was not measured."""
    result = run.read("run")["result"]
    kept = result["best" if result["kept_epoch"] == result["best_epoch"] else "last"]
    accuracies = kept.get("accuracy"), kept.get("val_accuracy"), result.get("accuracy")
    return [np.nan if accuracy is None else 1 - accuracy for accuracy in accuracies]


def _built(recipes, say):
    """Build each variant once, and say what was done."""
    from kerascnn.models.variants import altered

    data = load_data(next(iter(recipes.values())))
    shape, classes = None, len(data.class_names)
    for name, recipe in recipes.items():
        options = {key: value for key, value in recipe.model_options.items() if key not in ALTERED}
        shape = shape or input_shape(recipe, data)
        plain = network(recipe.replace(model_options=options), shape, classes)
        changes = {key: recipe.model_options[key] for key in recipe.model_options.keys() - options.keys()}
        if changes:
            for sentence in altered(plain, **changes)[1]:
                say(f"{name}: {sentence}")


def input_shape(recipe, data):
    """(height, width, channels) of the images that a recipe's network sees."""
    return (*image_size(recipe), data.train.images.shape[-1])


def run_of(recipe, folder, say, name):
    """(the finished Run of a recipe in a folder, True if it was trained or continued now); says the name if it was."""
    if not (folder / "recipe.json").exists():
        say(name)
        return train(recipe, out=folder, say=say), True
    run = runs.as_run(folder)
    if Recipe.from_dict(run.read("recipe")) != recipe:
        raise UsageError(
            f"{folder} holds a training by another recipe. Give another folder for this experiment: out=FOLDER"
        )
    try:
        finished = run.read("run").get("status") == "finished"
    except DataError:
        finished = False
    if finished:
        return run, False
    say(f"{name}, continued")
    return train(resume=folder, say=say), True


def _table(names, parameters, errors):
    columns = {"variant": names, "parameters": parameters}
    for number, part in enumerate(PARTS):
        columns[f"{part}_error"] = errors[:, :, number].mean(1)
        columns[f"{part}_spread"] = errors[:, :, number].std(1, ddof=1) if errors.shape[1] > 1 else np.nan
    return pandas.DataFrame({**columns, "seeds": errors.shape[1]})


def _findings(table, errors):
    said = []
    base, seeds = table.iloc[0], errors.shape[1]
    for number, row in enumerate(table[1:].itertuples(), start=1):
        mean, low, high = 100 * np.array(mean_interval(errors[number, :, 2] - errors[0, :, 2]))
        verdict = "more" if low > 0 else "fewer" if high < 0 else "not measurably other"
        interval = told_interval(low, high, seeds, "seed") + (f": {verdict}" if seeds > 1 else "")
        share = row.parameters / base["parameters"]
        said.append(
            f"{row.variant}: {row.test_error:.2%} test errors against {base['test_error']:.2%}, {mean:+.2f} points"
            f" {interval}; {share:.0%} of the parameters."
        )
    return tuple(said)


def _figure(table, title):
    figure, axes = error_panel(7.5, 1.6 + 0.75 * len(table), title)
    for number, (part, colour) in enumerate(zip(PARTS, (BLUE, ORANGE, GREEN), strict=True)):
        places = np.arange(len(table)) + (number - 1) * 0.26
        spread = 100 * table[f"{part}_spread"].fillna(0)
        style = {"color": colour, "label": part.replace("train", "training")}
        style["error_kw"] = {"linewidth": 1, "capsize": 2}
        axes.barh(places, 100 * table[f"{part}_error"], 0.24, xerr=spread, **style)
    labels = [f"{shortened(row.variant, 36)}\n{row.parameters:,} parameters" for row in table.itertuples()]
    axes.set_yticks(range(len(table)), labels, fontsize="small")
    axes.set_xlim(left=0)
    axes.set_xlabel("errors; whiskers: standard deviation over the seeds")
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def error_panel(width, height, title):
    """(Figure, Axes) for bars of errors in percent, the first on top."""
    figure, axes = panel(width, height, title, "x", axisbelow=True)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
    return figure, axes


def asked_recipe(asked, name, epochs, seeds):
    """The Recipe of the run, or the network's name, that was asked for, on the data asked for; if no folder for the
    results was, it becomes the run's, or `name` of the network."""
    if seeds < 1:
        raise UsageError(f"seeds={seeds} is not allowed: it must be at least 1.")
    named = str(asked.runs[0])
    if named in MODELS:
        recipe, folder = Recipe(model=named), runs.ROOT / f"{name}-{runs.plain(named)}"
    elif is_file(named):
        if asked.data is None:
            raise UsageError(f"{named} does not say what to train on. Name the images after it.")
        suited = {name: getattr(recipe_for(asked.data), name) for name in ("batch_size", "epochs")}
        recipe = Recipe(model=named, model_options={"fresh": True}, **suited)
        folder = asked.classifier.folder / "experiments"
    elif named.endswith(".h5") or named.startswith("applications:"):
        raise UsageError(
            f"{named} cannot be trained anew. Save it as a .keras file, or type a run or a network's name (kerascnn "
            "models)."
        )
    else:
        run = runs.find(named)
        recipe, folder = Recipe.from_dict(run.read("recipe")), run.folder / "experiments"
    asked.out = asked.out or folder
    recipe = recipe if asked.data is None else recipe.replace(data=asked.data)
    return recipe if epochs is None else with_epochs(recipe, epochs)


def with_epochs(recipe, epochs, images=None):
    """The recipe with another number of epochs; where it counts steps, with the steps of so many evaluation periods.

    Args:
        images: number of training images; None: not known.
    """
    if not recipe.steps:
        return recipe.replace(epochs=epochs)
    period = recipe.eval_every or (images and -(-images // recipe.batch_size))
    if not period:
        raise UsageError(
            f"epochs={epochs} is not allowed: this recipe trains for {recipe.steps} steps, whatever its epochs. Leave "
            f"epochs={epochs} out."
        )
    return recipe.replace(steps=epochs * period)


def command(
    asked,
    *,
    without: tuple[str, ...] = (),
    widths: tuple[str, ...] = (),
    seeds: int = 3,
    epochs: int | None = None,
):
    """Train a network without some of its layers, or with wider or narrower layers, and compare the errors.

    Parameters
    ----------
    run
        a run, whose recipe trains every variant; a network's name; or a .keras file, whose layers get fresh weights
        and a new head, all but those that are frozen in the file
    without
        layers to leave out, such as conv3,conv4; several groups, separated by spaces, are separate variants
    widths
        changed sizes, such as 'conv3..conv5 x1.33' or 'fc1 =512'; each is a variant
    seeds
        how many times to train each variant, each with its own seed
    epochs
        epochs of each training run [default: the recipe's]
    """
    recipe = asked_recipe(asked, "architecture", epochs, seeds)
    given = {"without": without, "widths": widths, "seeds": range(seeds), "say": asked.say}
    return architecture(recipe, asked.out / "architecture", **given)
