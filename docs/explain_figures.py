"""The figures of docs/explain.md: python docs/explain_figures.py RUN DATA [--out docs/figures/explain]

RUN is a run folder of kerascnn, DATA what its network was trained on. One sheet per method, one with all of them, the
activations of the first and the last convolution, each with its numbers (.npz) beside it.
"""

import argparse
from pathlib import Path

import numpy as np

import kerascnn
from kerascnn import datasets, explain
from kerascnn.explain import activation_sheets, sheets
from kerascnn.explain.answers import class_probabilities
from kerascnn.explain.subjects import subject
from kerascnn.network.find import convolutions

OCCLUSION = {"patch": 8, "stride": 2}


def make_figures(model, images, labels, class_names, folder, caption=""):
    """Writes every figure; returns the paths.

    Args:
        model: keras.Model.
        images: float32 (N, H, W, C) as the model takes them; the first is drawn alone, all in the comparison.
        labels: int (N,), the classes explained.
        class_names: their names.
        folder: where to write.
        caption: what every title says besides method and class: the run, its accuracy, the data.
    """
    folder, paths, found = Path(folder), [], {}
    folder.mkdir(parents=True, exist_ok=True)
    chances = np.asarray(class_probabilities(model, model.predict_on_batch(images)))[range(len(labels)), labels]
    names = [class_names[label] for label in labels]
    for method in explain.EXPLANATIONS.names():
        found[method] = explain.maps(method, model, images, labels, **(OCCLUSION if method == "occlusion" else {}))
        title = f"{method}: class {names[0]!r}, probability {chances[0]:.3f}; true class {names[0]!r}"
        signed = sheets.is_signed(method, found[method][0])
        figure = sheets.explanation_sheet(
            images[0], found[method][0], f"{title}\n{model.name}. {caption}", signed=signed
        )
        paths.append(_save([figure], folder / method, image=images[0], map=found[method][0]))
    over = [f"{name} {chance:.2f}" for name, chance in zip(names, chances, strict=True)]
    title = f"{model.name}: true class with its probability over each image. {caption}"
    paths.append(_save([sheets.comparison_sheet(images, found, over, title)], folder / "all", images=images, **found))
    layers = convolutions(subject(model, images[:1])[0])
    for layer in dict.fromkeys((layers[0], layers[-1])):
        maps = explain.activations(model, images[:1], layer)[0]
        figures = activation_sheets.activation_grids(maps, f"{layer} of {model.name}. {caption}")
        paths.append(_save(figures, folder / f"activations_{layer.replace('/', '_')}", maps=maps))
    return paths


def _save(figures, path, **numbers):
    for number, figure in enumerate(figures, 1):
        figure.savefig(path.with_name(f"{path.name}{'' if number == 1 else f'-{number}'}.png"), dpi=110)
    np.savez_compressed(path.with_suffix(".npz"), **numbers)
    return path.with_suffix(".png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--out", default="docs/figures/explain")
    parser.add_argument("--caption", default="")
    arguments = parser.parse_args()
    model = kerascnn.load(arguments.run)
    data = datasets.load(arguments.data, image_size=model.input_shape[1])
    labels = np.arange(min(arguments.images, len(data.class_names)))
    pixels = np.stack([data.test.images[int(np.flatnonzero(data.test.labels == c)[0])] for c in labels])
    images = kerascnn.using.preprocessing(arguments.run)(pixels)
    for path in make_figures(model, images, labels, data.class_names, arguments.out, arguments.caption):
        print(path)


if __name__ == "__main__":
    main()
