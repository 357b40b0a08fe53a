"""An explanation of the same images, epoch by epoch."""

import numpy as np
from matplotlib.figure import Figure

from kerascnn.callbacks import register
from kerascnn.callbacks.watching import Watch, spread
from kerascnn.explain import EXPLANATIONS, cautions, maps
from kerascnn.explain.answers import class_answers
from kerascnn.explain.sheets import PAGE, caption, check_drawable, colour_bars, draw_image, draw_map, what_is_drawn


class ExplainEachEpoch(Watch):
    """Writes the maps of a few images by one method every so often (NPZ, `maps`), and epochs.png: a row an image, a
    column a look, with the class explained and its probability over each map.

    Args:
        method: name of an explanation method (`kerascnn.explain.EXPLANATIONS`).
        images: float (N, H, W, C) as the model takes them; four or so.
        target: what is explained, as for the method; None: the top class of each image at the time.
        every, unit: see `Watch`.
        folder: the files go to <folder>/<method>; of a second one of the fit to <method>-<target>.
        class_names: what the classes are called; None: their numbers.
        labels: int (N,), the true classes, where known.
        bands: one or three channels of the images to draw; None: of other than one or three channels the mean.
        **options: further arguments of the method.
    Raises:
        UsageError: unknown method; at the start of training, where images, target or bands do not fit.
    Example:
        looks = [kerascnn.callbacks.ExplainEachEpoch("grad_cam", images[:2], 3)]
        model.fit(images, labels, epochs=2, callbacks=looks)  # writes to watch/
    """

    def __init__(
        self,
        method,
        images,
        target=None,
        every=1,
        unit="epochs",
        folder="watch",
        *,
        class_names=None,
        labels=None,
        bands=None,
        **options,
    ):
        EXPLANATIONS.facts(method)
        super().__init__(method, folder, every, unit)
        self.method, self.images, self.target, self.options = method, np.asarray(images), target, options
        self.class_names, self.labels, self.bands = class_names, labels, bands

    def check(self):
        check_drawable(self.images, self.bands)
        looks = {0: self._look()}
        self._sheet(looks)  # which fails now rather than after an epoch

    def subject(self):
        return {"target": [] if self.target is None else [str(self.target)]}

    def _look(self):
        named = {} if self.class_names is None else {"class_names": self.class_names}
        look = {"maps": maps(self.method, self.model, self.images, self.target, **named, **self.options)}
        classes, probabilities = class_answers(self.model, self.images, self.target, self.class_names)
        return look if classes is None else {**look, "class": classes, "probability": probabilities}

    def look(self, at):
        self.keep(at, **self._look())
        self.draw("epochs", self._sheet(self.kept(most=9)))

    def _sheet(self, looks):
        title = "\n".join([f"{self.method}, {self.model.name}", *cautions(self.method, self.model)])
        names = None if self.labels is None else [self._name(label) for label in self.labels]
        words = {"names": names, "name_of": self._name, "bands": self.bands}
        return epochs_sheet(self.images, looks, title, self.counts, method=self.method, **words)

    def _name(self, number):
        return str(number) if self.class_names is None else str(self.class_names[int(number)])


def epochs_sheet(images, looks, title, unit="epochs", *, method="", names=None, name_of=str, bands=None):
    """The figure of looks beside the images, with a colour bar; each map has limits of its own.

    Args:
        images: (N, H, W, C).
        looks: {number: {"maps": (N, H, W, C) or (N, H, W), and where known "class" and "probability" (N,)}}.
        unit: what the numbers of the looks count.
        method: name of the method: heat maps are blended over the image.
        names: N texts over the images, such as the true classes.
        name_of: function from a class's number to its name.
        bands: as of `kerascnn.explain.sheets.to_colours`.
    """
    columns, kinds = len(looks) + 1, set()
    cell = min(1.5, PAGE[0] / columns)
    figure = Figure(figsize=(max(5.2, cell * columns), (cell + 0.35) * len(images) + 1.1), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, (image, line) in enumerate(zip(images, axes, strict=True)):
        draw_image(line[0], image, bands)
        over = [f"true class {names[row]}" if names is not None else "", what_is_drawn(image, bands)]
        line[0].set_title("\n".join(filter(None, over)), fontsize=6)
        for ax, (at, look) in zip(line[1:], looks.items(), strict=True):
            signed, reach = draw_map(ax, image, look["maps"][row], method, bands)
            kinds.add(signed)
            over = [str(at)] if row == 0 else []
            if "class" in look:
                over.append(f"{name_of(look['class'][row])} {look['probability'][row]:.2f}")
            ax.set_title("\n".join([*over, reach]), fontsize=6)
    colour_bars(figure, axes, kinds)
    caption(figure, f"{title}\n{unit}, class explained and its probability, limits of the map", 8)
    return figure


@register()
def explain(data, prepared):
    """Guided backpropagation of six test images."""
    few = spread(data.test, 6)
    options = {"class_names": data.class_names, "labels": few.labels}
    return [ExplainEachEpoch("guided_backprop", prepared(few.images[:]), **options)]
