"""One HTML file with the network inside: it classifies images that are dropped on it, in any browser and offline.

The network is an ONNX file; ONNX Runtime Web 1.30 (MIT, `kerascnn/using/web`) runs it, compiled to WebAssembly. Images
are cut and resized in JavaScript as Pillow does it. The page asks no server for anything.
"""

import base64
import html as text_in_html
import re
from pathlib import Path

from kerascnn.errors import DataError
from kerascnn.using import carried
from kerascnn.using.formats import onnx, register

WEB = Path(__file__).parents[1] / "web"


@register(
    "html",
    title="A web page",
    file="classifier.html",
    takes="image files that are dropped on the page",
    packages=("tf2onnx", "onnxruntime"),
    extra="onnx",
)
def html(classifier, path, images):
    """One HTML file that classifies images dropped on it, in a browser and offline."""
    runtime = (WEB / "ort-wasm-simd-threaded.wasm.gz").read_bytes()
    parts = {
        "name": text_in_html.escape(classifier.name),
        "count": f"{len(classifier.labels):,}",
        "about": carried.as_json(classifier).replace("<", "\\u003c"),
        "network": base64.b64encode(onnx.as_bytes("A web page", classifier)).decode(),
        "runtime": base64.b64encode(runtime).decode(),
        "pixels": (WEB / "pixels.js").read_text(encoding="utf-8"),
        "ort": _as_object((WEB / "ort.wasm.bundle.min.mjs").read_text(encoding="utf-8")),
    }
    page = (WEB / "page.html").read_text(encoding="utf-8")
    filled = re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], page)
    path.write_text(filled, encoding="utf-8")


def _as_object(module):
    """The text of an ES module that exports names at its end, as code that puts them into the constant `ort`: a page
    that is opened as a file may not import modules."""
    code, _, exported = module.rstrip().rpartition("export{")
    names = [pair.split(" as ") for pair in exported.rstrip(";}").split(",")]
    return f"{code}const ort={{{','.join(f'{public}:{local}' for local, public in names)}}};"


def opened(path):
    """A function, uint8 (N, *resize_to, C) -> probabilities, of the network in the page."""
    match = re.search(r'<script type="text/plain" id="network">([^<]*)</script>', path.read_text(encoding="utf-8"))
    if match is None:
        raise DataError(f"{path} has no network inside.")
    return onnx.answering(onnx.session(base64.b64decode(match[1]), path))
