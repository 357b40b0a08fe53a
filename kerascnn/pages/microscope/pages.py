"""The pages themselves: facts in, HTML out; every name is escaped, every link is relative."""

import dataclasses
import json
import math
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from kerascnn import anatomy
from kerascnn.dataset_scan.scanning import checksum
from kerascnn.errors import counted
from kerascnn.pages.microscope import pictures
from kerascnn.pages.microscope.book import strongest_units
from kerascnn.pages.microscope.collect import PROFILE
from kerascnn.pages.microscope.features import file_of
from kerascnn.pages.microscope.looks import BEST as MOST
from kerascnn.pages.microscope.looks import TILE
from kerascnn.pages.microscope.numbers import bars as drawn_bars
from kerascnn.pages.microscope.numbers import digits, number, percent
from kerascnn.pages.microscope.relations import Wiring, most_alike, unit_map

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("kerascnn.pages.microscope"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
STYLE = Path(__file__).parents[1] / "templates" / "style.css"  # of the report; the site's own adds to it
PIXELATED = 64  # pixels: what is smaller is enlarged in squares
BEST = 8  # units of a layer listed on the page of a class, and images
VIEWS = ("guided backprop", "deconvnet")


TEMPLATES.filters |= {"number": number, "percent": percent, "counted": counted}


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The pictures of a site, and what its pages tell of them.

    Attributes:
        maps: {address: "" or why its units have no maps}.
        features: {address: [largest activation of each unit on its feature image]}; see `features.optimised`.
        activated, explained: of images; see `looks`.
        recorded: {(address, unit): [Strip, ...]}; see that module.
    """

    maps: dict
    features: dict
    activated: dict
    explained: dict
    recorded: dict


class Pages:
    """Writes the pages of a site.

    Args:
        site, subject, facts, collected: see those modules; `facts` in the network's order.
        labels: {(address, unit): (label, note)}.
        shown: numbers of the images that have pictures.
        everything: all SiteLayers of the network.
        drawn: Drawn.
    """

    def __init__(self, site, subject, facts, collected, labels, shown, everything, drawn):
        self.site, self.subject, self.facts, self.collected = site, subject, facts, collected
        self.labels, self.shown, self.everything, self.drawn = labels, set(shown), everything, drawn
        self.by_address = {layer.each.address: layer for layer in facts}
        self.wiring = Wiring(subject.model, [layer.each for layer in facts])
        self.alike = most_alike({address: layer.height for address, layer in self.by_address.items()})
        self.names = {each.address: each.layer for each in everything}
        self.height, self.width = subject.pixels([0]).shape[1:3]

    def write(self):
        """Write every page whose bytes have changed."""
        self._assets()
        for layer in self.facts:
            self._layer(layer)
        self._classes()
        self._images()
        self._put("compare.html", "compare.html")
        self._put("404.html", "missing.html")  # servers show it where there is no page
        self._index()

    def _put(self, name, template, /, **values):
        root = "../" * name.count("/")
        common = {
            "root": root,
            "model": self.subject.model.name,
            "side": (self.width, self.height),
            "label_of": self.label_of,
            "names": self.names,
            "class_names": self.subject.class_names,
            "pixelated": max(self.width, self.height) <= PIXELATED,
        }
        self.site.put(name, TEMPLATES.get_template(template).render(**common, **values))

    def label_of(self, address, unit):
        """The label of a unit in labels.csv."""
        return self.labels.get((address, unit), ("", ""))[0]

    def _labelled(self):
        """The labels of units that have pages here, sorted."""
        return sorted((key, text) for key, text in self.labels.items() if key[0] in self.by_address)

    def _assets(self):
        style = TEMPLATES.from_string(STYLE.read_text(encoding="utf-8")).render()
        microscope = TEMPLATES.get_template("microscope.css").render()
        self.site.put("assets/style.css", f"{style}\n{microscope}\n")
        source = TEMPLATES.loader.get_source(TEMPLATES, "microscope.js")[0]
        self.site.put("assets/microscope.js", source)
        index = {
            "model": self.subject.model.name,
            "network": checksum(self.subject.model.weights)[:16],  # labels in the browser belong to it
            "layers": [[layer.each.address, layer.each.layer, layer.preferred.tolist()] for layer in self.facts],
            "classes": list(self.subject.class_names),
            "labels": [[address, unit, *text] for (address, unit), text in self._labelled()],
        }
        text = json.dumps(index, ensure_ascii=True, separators=(",", ":"))
        self.site.put("assets/search.js", f"window.SITE = {text};\n")

    # --- a layer and its units ---

    def _layer(self, layer):
        address = layer.each.address
        places = unit_map(layer.height)
        columns = min(pictures.COLUMNS, layer.units)
        dots = [
            (unit, round(10 + 380 * (1 + x) / 2, 1), round(10 + 380 * (1 - y) / 2, 1))
            for unit, (x, y) in enumerate(places)
            if not math.isnan(x)
        ]
        neighbours = self._beside(self.facts, layer)
        self._put(
            f"layers/{address}.html",
            "layer.html",
            layer=layer,
            each=layer.each,
            stats=layer.rows,
            columns=columns,
            lines=-(-layer.units // columns),
            dots=dots,
            dead=np.flatnonzero(layer.dead).tolist(),
            before=neighbours[0],
            after=neighbours[1],
            images=len(self.subject),
            has_classes=layer.classes is not None,
        )
        self._facts(layer, columns)
        kernel, out = self.wiring.filters(layer.each), self.wiring.out_of(address)
        for unit in range(layer.units):
            self._unit(layer, unit, kernel, out)

    def _facts(self, layer, columns):
        """Write a layer's numbers as a script, for the page that compares units."""
        address = layer.each.address
        units = [
            {
                **{name: digits(row[name]) for name in ("mean", "max", "zeros")},
                "index": digits(layer.index[unit]),
                "classes": [[label, digits(mean)] for label, mean, _ in layer.profile(unit, most=5)],
                "feature": self._feature(layer, unit)["feature"],
            }
            for unit, row in enumerate(layer.rows)
        ]
        told = json.dumps({"columns": columns, "units": units}, separators=(",", ":"))
        name = json.dumps(address)
        self.site.put(f"layers/{address}.js", f"(window.UNITS = window.UNITS || {{}})[{name}] = {told};\n")

    @staticmethod
    def _beside(items, item):
        place = items.index(item)
        return (items[place - 1] if place else None), (items[place + 1] if place + 1 < len(items) else None)

    def _unit(self, layer, unit, kernel, out):
        address = layer.each.address
        top, row = layer.top_patches(unit), layer.rows[unit]
        bars, low, high, zeros = layer.histogram(unit)
        sheet = self.site.folder / f"units/{address}/{unit:04d}.webp"
        count = self._maps_of(sheet, layer, top)
        label, note = self.labels.get((address, unit), ("", ""))
        self._put(
            f"units/{address}/{unit:04d}.html",
            "unit.html",
            layer=layer,
            each=layer.each,
            unit=unit,
            label=label,
            note=note,
            row=row,
            dead=bool(row["dead"]),
            top=[self._patch(layer, patch) for patch in top],
            lower=[self._patch(layer, patch) for patch in layer.lower_patches(unit)],
            maps=count,
            no_maps=self.drawn.maps.get(address, ""),
            **self._feature(layer, unit),
            strips=self.drawn.recorded.get((address, unit), []),
            bars=drawn_bars(bars),
            low=low,
            high=high,
            sampled_zeros=zeros,
            profile=layer.profile(unit),
            largest=max([row[1] for row in layer.profile(unit)], default=0),
            counted=int(layer.counted[unit]),
            most=PROFILE,
            filter=pictures.filter_picture(kernel[..., unit]) if kernel is not None else "",
            into=self.wiring.into(address, unit),
            out=out.get(unit, []),
            alike=self.alike[address][unit],
            sample=len(self.collected.sample),
        )

    def _maps_of(self, sheet, layer, top):
        """What the page needs to know about a unit's sheet of maps, or None if there is none."""
        if self.drawn.maps.get(layer.each.address, "none") or not sheet.exists() or not top:
            return None
        height, width = pictures.tile_size(layer.geometry.size)
        with Image.open(sheet) as picture:
            across, down = picture.size
        rows = [f"{name}, signed" for name in VIEWS]
        if down // height == 4:
            rows = [f"{name}{end}" for name in VIEWS for end in ("", ", signed")]
        return {"tile": (width, height), "size": (across, down), "columns": across // width, "rows": rows}

    def _feature(self, layer, unit):
        """The unit's feature image and the largest activation on it, if it has one."""
        largest = self.drawn.features.get(layer.each.address, [])
        if unit >= len(largest) or math.isnan(largest[unit]):
            return {"feature": "", "on_feature": 0.0}
        return {"feature": Path(file_of(layer.each.address, unit)).name, "on_feature": largest[unit]}

    def _patch(self, layer, patch):
        """What a page shows of a Patch."""
        geometry = layer.geometry
        top, left, bottom, right = geometry.boxes[patch.place].tolist()
        y, x = geometry.starts[patch.place].tolist()
        row, col = divmod(patch.place, geometry.cols)
        return {
            "image": f"{patch.image:06d}",
            "file": self.subject.file(patch.image),
            "label": self.subject.label(patch.image),
            "class": int(self.subject.labels[patch.image]),
            "value": patch.value,
            "words": patch.words,
            "where": f"row {row}, column {col}" if geometry.rows * geometry.cols > 1 else "",
            "crop": (x, y, geometry.size[1], geometry.size[0]),
            "box": (left, top, right - left, bottom - top),
            "small": max(geometry.size) <= PIXELATED,
            "whole": (right - left, bottom - top) == (self.width, self.height),
        }

    # --- classes ---

    def _classes(self):
        names = self.subject.class_names
        for label, name in enumerate(names):
            self._put(
                f"classes/{label:04d}.html",
                "class.html",
                name=name,
                label=label,
                count=int((self.subject.labels == label).sum()),
                units=[(layer, self._units_of(layer, label)) for layer in self.facts],
                served=self._served(label),
                images=self._images_of(label),
                answered=self.collected.answers is not None and name in self.subject.answer_names,
                before=label - 1 if label else None,
                after=label + 1 if label + 1 < len(names) else None,
            )
        self.site.remove_others("classes", {f"{label:04d}.html" for label in range(len(names))})

    def _units_of(self, layer, label):
        """[(unit, index, mean)] of the units whose mean is largest for a class, the most selective first."""
        if layer.classes is None or label not in layer.present:
            return []
        preferring = np.flatnonzero(layer.preferred == label)
        order = preferring[np.argsort(-np.round(layer.index[preferring], 9), kind="stable")][:BEST]
        means = layer.classes[layer.present.tolist().index(label)]
        return [(int(unit), float(layer.index[unit]), float(means[unit])) for unit in order]

    def _served(self, label):
        """[(part, address, unit)]: weight times mean activity over the class's images, into the class's own output."""
        last, answers = self.facts[-1], self.subject.answer_names
        name = self.subject.class_names[label]
        if last.units != len(answers) or name not in answers or last.each.address not in self.wiring.weights:
            return []
        sources, sums, _ = self.wiring.weights[last.each.address]
        output, parts = answers.index(name), []
        for row, source in enumerate(sources):
            layer = self.by_address[source[0]] if source else None
            if layer is None or layer.classes is None or label not in layer.present:
                return []
            mean = layer.classes[layer.present.tolist().index(label), source[1]]
            parts.append((float(sums[row, output] * mean), *source))
        return sorted(parts, key=lambda part: (-round(part[0], 9), part[1:]))[: 2 * BEST]

    def _images_of(self, label):
        """[(number, file, probability or None)] of a class's images that have pages, the most probable first."""
        numbers = [number for number in sorted(self.shown) if self.subject.labels[number] == label]
        rows = [(number, self.subject.file(number), self._probability(number, label)) for number in numbers]
        return sorted(rows, key=lambda row: (-(row[2] or 0), row[0]))[: 6 * BEST]

    def _probability(self, number, label):
        """The probability of a class where it is among the most probable of an image."""
        for name, probability in self._answers(number):
            if name == self.subject.class_names[label]:
                return probability
        return None

    def _answers(self, number):
        """[(class, probability)] of an image's most probable classes."""
        if self.collected.answers is None:
            return []
        classes, probabilities = (array[number].tolist() for array in self.collected.answers)
        names = self.subject.answer_names
        return [
            (names[c] if c < len(names) else f"output {c}", float(p))
            for c, p in zip(classes, probabilities, strict=True)
        ]

    # --- images ---

    def _images(self):
        among, strongest = self._among_strongest(), strongest_units(self.facts)
        numbers = {name: label for label, name in enumerate(self.subject.class_names)}
        order = sorted(self.shown)
        for place, image in enumerate(order):
            self._put(
                f"images/{image:06d}.html",
                "image.html",
                image=f"{image:06d}",
                file=self.subject.file(image),
                label=self.subject.label(image),
                class_number=int(self.subject.labels[image]),
                answers=self._answers(image),
                numbers=numbers,
                among=among.get(image, []),
                strongest=strongest.get(image, []),
                activated=self.drawn.activated.get(image, []),
                tile=TILE,
                best=MOST,
                **self._looks(image),
                before=f"{order[place - 1]:06d}" if place else "",
                after=f"{order[place + 1]:06d}" if place + 1 < len(order) else "",
            )
        kept = {f"{image:06d}{end}" for image in order for end in (".html", ".webp")}
        kept |= {f"{image:06d}-looks.webp" for image in self.drawn.explained}
        kept |= {f"{image:06d}-maps.webp" for image in self.drawn.activated}
        self.site.remove_others("images", kept)

    def _looks(self, image):
        """What an image's page tells of the explanation methods."""
        rows = self.drawn.explained.get(image)
        if not rows:
            return {"looks": []}
        *methods, noise = rows
        names = self.subject.answer_names
        target = names[noise["target"]] if noise["target"] < len(names) else f"output {noise['target']}"
        drawn = sum("why" not in row for row in methods)
        return {"looks": methods, "noise": noise, "target": target, "drawn": drawn}

    def _among_strongest(self):
        """{image: [(address, [(unit, rank from 1), ...])]} of the patches shown at the top of units' pages."""
        shown = {}
        for layer in self.facts:
            units_of = {}
            for unit in range(layer.units):
                for rank, patch in enumerate(layer.top_patches(unit), 1):
                    units_of.setdefault(patch.image, []).append((unit, rank))
            for image, units in units_of.items():
                shown.setdefault(image, []).append((layer.each.address, units))
        return shown

    # --- the network ---

    def _index(self):
        links = {layer.each.layer: f"layers/{layer.each.address}.html" for layer in self.facts}
        links |= {layer.each.scanned.output: f"layers/{layer.each.address}.html" for layer in self.facts}
        picture = anatomy.drawing(self.subject.model, links=links)
        table = anatomy.layer_table(self.subject.model).to_dict("records")
        labelled = [(address, unit, *text) for (address, unit), text in self._labelled()]
        self._put(
            "index.html",
            "index.html",
            facts=self.facts,
            table=table,
            links=links,
            picture=Markup(picture),
            subject=self.subject,
            images=len(self.subject),
            labelled=labelled,
            missing=len(self.everything) - len(self.facts),
        )
