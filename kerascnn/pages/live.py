"""A classifier as a service on this machine: a live page to try images on, and the forms that other servers speak.

GET  /             the live page: images dropped, pasted, drawn, photographed or from the run's samples; looks, maps of
                   every layer, and units switched off
GET  /labels       the class names, in the order of the outputs
GET  /layers       the layers whose maps can be seen: [{"name", "layer", "channels"}, ...]
GET  /samples      names of sample images; /samples/NAME is one
POST /predict      an image file -> [{"rank", "index", "probability", "label"}, ...]; `?top=3`
POST /look         an image file -> a map over it; `?method=grad_cam`
POST /maps         an image file -> all maps of a layer; `?layer=conv1`, and `&largest=8` for what is white
POST /ablate       an image file -> answers with and without units of a layer; `?layer=conv1&units=0,3`
POST /v1/models/NAME:predict     TensorFlow Serving's REST form
POST /v2/models/NAME/infer       the Open Inference Protocol; GET /v2/health/live and /v2/health/ready
GET  /metrics      requests, errors and seconds, as Prometheus reads them

All images of one moment are answered as one batch; what waits is bounded.
"""

import asyncio
import base64
import io
import json
import logging
import math
import time
from collections import Counter

import jinja2
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from kerascnn.anatomy import drawing
from kerascnn.dataset_scan.scanning import checksum
from kerascnn.datasets.decoding import BrokenImage, probe, read_image
from kerascnn.datasets.resize import resize_batch
from kerascnn.errors import DataError, UsageError, unknown
from kerascnn.explain import EXPLANATIONS
from kerascnn.files import read_json
from kerascnn.pages.engine import Busy, Engine, Refused
from kerascnn.pages.guard import Guard
from kerascnn.pages.microscope.layers import all_layers
from kerascnn.pages.microscope.site import MANIFEST
from kerascnn.pages.report import TEMPLATES
from kerascnn.using.classifier import subject

LARGEST = 32 * 2**20  # bytes of a request
SMALL = 2**16  # bytes and pixels of an image that is read at once
SECONDS = 60  # that a request may take to arrive


class Handlers:
    """The answers to requests; see the module's own words."""

    def __init__(self, classifier):
        self.engine, self.classifier = Engine(classifier), classifier
        self.labels, self.counts, self.seconds = list(classifier.labels), Counter(), Counter()
        self.samples = {}
        if classifier.run is not None:
            self.samples = {path.stem: path for path in sorted((classifier.run / "samples").glob("*.png"))}
        self.microscope = classifier.folder / "microscope"
        self.addresses = _addresses(classifier.model, self.microscope / MANIFEST)

    async def page(self, request):
        name = self.classifier.name
        links = {layer.layer: f"#layer={layer.layer}" for layer in self.engine.layers}
        trained_on = f" on {self.classifier.run.read('data')['name']}" if self.classifier.run else ""
        page = TEMPLATES.get_template("live.html").render(
            title=f"{name}{trained_on}",
            methods=list(EXPLANATIONS.names()),
            layers=self.engine.layers,
            samples=list(self.samples),
            picture=jinja2.utils.markupsafe.Markup(drawing(self.classifier.model, links=links)),
            grey=self.classifier.preprocessing.channels == 1,
            microscope=self.addresses,
        )
        return HTMLResponse(page)

    async def on_predict(self, request):
        probabilities = await self.engine.answer(await self._image(request))
        return JSONResponse(self._ranked(probabilities, _whole(request, "top", 5)))

    async def on_look(self, request):
        method = request.query_params.get("method", "grad_cam")
        if method not in EXPLANATIONS:
            raise Refused(str(unknown("explanation method", method, EXPLANATIONS.names())))
        pixels = await self._image(request)
        return JSONResponse(await self.engine.look_at(self.engine.look, pixels, method))

    async def on_maps(self, request):
        pixels = await self._image(request)
        layer, text = request.query_params.get("layer", ""), request.query_params.get("largest", "")
        return JSONResponse(
            await self.engine.look_at(self.engine.maps_of, pixels, layer, _positive(text) if text else None)
        )

    async def on_ablate(self, request):
        text = request.query_params.get("units", "")
        parts = [part for part in text.split(",") if part]
        if not all(part.isdecimal() and len(part) < 9 for part in parts):
            raise Refused(f"units={text[:40]} is not allowed: numbers separated by commas, such as 0,3.")
        units = sorted(set(map(int, parts)))
        pixels = await self._image(request)
        before, after = await self.engine.look_at(
            self.engine.ablated, pixels, request.query_params.get("layer", ""), units
        )
        return JSONResponse({"before": self._ranked(before, 5), "after": self._ranked(after, 5)})

    async def sample(self, request):
        path = self.samples.get(request.path_params["name"])
        return FileResponse(path) if path else JSONResponse({"error": "There is no such sample."}, 404)

    async def on_serving(self, request):
        """TensorFlow Serving's form: {"instances": [pixels or {"b64": file}, ...]} -> {"predictions": [...]}."""
        body = await _json(request)
        instances = body.get("instances")
        if not isinstance(instances, list) or not instances:
            raise Refused('The body must be {"instances": [...]}, with at least one image.')
        pixels = [await run_in_threadpool(self._pixels_of, each) for each in instances]
        return JSONResponse({"predictions": (await self.engine.answers(pixels)).tolist()})

    async def on_infer(self, request):
        """The Open Inference Protocol: one input of shape (N, H, W, C), datatype UINT8."""
        body = await _json(request)
        try:
            (given,) = body["inputs"]
            shape, kind, data = given["shape"], given["datatype"], given["data"]
            images = np.array(data).reshape(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(f"The body must have one input with shape, datatype and data: {error}.") from None
        if kind != "UINT8" or images.ndim != 4 or not len(images):
            raise Refused(f"datatype {kind} of shape {shape} is not allowed: UINT8 of (N, height, width, channels).")
        pixels = [await run_in_threadpool(self._pixels_of, each) for each in images]
        rows = await self.engine.answers(pixels)
        output = {"name": "probabilities", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
        return JSONResponse({"model_name": self.classifier.name, "outputs": [output]})

    async def metrics(self, request):
        lines = ["# TYPE kerascnn_requests_total counter", "# TYPE kerascnn_request_seconds_total counter"]
        lines += [
            f'kerascnn_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self.counts.items())
        ]
        lines += [
            f'kerascnn_request_seconds_total{{path="{path}"}} {seconds:.6f}'
            for path, seconds in sorted(self.seconds.items())
        ]
        for name, count in (("batches", self.engine.batches), ("batch_images", self.engine.images)):
            lines += [f"# TYPE kerascnn_{name}_total counter", f"kerascnn_{name}_total {count}"]
        return PlainTextResponse("\n".join(lines) + "\n")

    async def _image(self, request):
        """uint8 pixels (*resize_to, C) of the image file in a request."""
        content = await _body(request)
        if _is_small(content):  # read sooner than another thread would begin
            return self._read(content)
        return await run_in_threadpool(self._read, content)

    def _read(self, content):
        prepared = self.classifier.preprocessing
        try:
            return np.asarray(read_image(io.BytesIO(content), prepared.resize_to, prepared.channels))
        except BrokenImage as error:
            raise Refused(f"This is not an image that can be read: {error.reason}.") from None

    def _pixels_of(self, instance):
        """uint8 pixels (*resize_to, C) of {"b64": file} or of numbers from 0 to 255 (height, width, channels)."""
        if isinstance(instance, dict):
            try:
                return self._read(base64.b64decode(instance["b64"], validate=True))
            except (KeyError, TypeError, ValueError):
                raise Refused('An image must be {"b64": "..."}, or numbers.') from None
        prepared = self.classifier.preprocessing
        try:
            pixels = np.array(instance, "float64")
        except (TypeError, ValueError, OverflowError):
            pixels = np.zeros(0)
        if pixels.ndim != 3 or pixels.shape[-1] != prepared.channels or not pixels.size or not _are_bytes(pixels):
            raise Refused(
                f"An image must be numbers from 0 to 255 of shape (height, width, {prepared.channels}), not "
                f"{pixels.shape}."
            )
        return np.asarray(resize_batch(pixels.astype("uint8")[None], prepared.resize_to))[0]

    def _ranked(self, probabilities, top):
        probabilities = np.asarray(probabilities)
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [
            {"rank": rank, "index": int(i), "probability": float(probabilities[i]), "label": self.labels[i]}
            for rank, i in enumerate(order, 1)
        ]

    def told(self, handler):
        """A handler whose refusals become JSON, and which is counted."""

        async def answer(request):
            began, path = time.monotonic(), request.scope["path"]
            try:
                response = await handler(request)
            except Refused as error:
                response = JSONResponse({"error": str(error)}, error.status)
            except (DataError, UsageError) as error:
                response = JSONResponse({"error": str(error)}, 400)
            except ClientDisconnect:
                response = PlainTextResponse("", 499)  # nobody reads it; /metrics counts it
            except Busy:
                response = JSONResponse({"error": "Too many images wait."}, 503, headers={"Retry-After": "1"})
            except Exception as error:  # which is not foreseen: the page can read this answer, and /metrics counts it
                logging.getLogger("uvicorn.error").exception("%s", path)
                response = JSONResponse({"error": f"The network could not answer: {type(error).__name__}."}, 500)
            path = "/samples" if path.startswith("/samples/") else path
            self.counts[path, response.status_code] += 1
            self.seconds[path] += time.monotonic() - began
            return response

        return answer


def _addresses(model, manifest):
    """{layer: its folder in units/} of the layers that a microscope shows; None if there is none of this network."""
    try:
        told = read_json(manifest)
        if told["weights"] != checksum(model.weights):
            return None
        return {each.layer: each.address for each in all_layers(model) if each.address in told["layers"]}
    except (FileNotFoundError, DataError, UsageError, KeyError, TypeError):
        return None


def _are_bytes(pixels):
    return bool(np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 255)


def _positive(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise Refused(f"largest={text[:40]} is not allowed: it must be a number above 0.")
    return number


def _whole(request, name, usual):
    text = request.query_params.get(name, str(usual))
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise Refused(f"{name}={text[:40]} is not allowed: it must be a whole number from 1 up.")
    return int(text)


def _is_small(content):
    """True if an image file takes less time to read than to hand to another thread; also if it is none."""
    if len(content) > SMALL:
        return False
    try:
        if content[:4] == b"\x89PNG":
            height, width = (int.from_bytes(content[at : at + 4], "big") for at in (20, 16))
        else:
            (height, width), _ = probe(io.BytesIO(content))
    except BrokenImage:
        return True
    return height * width <= SMALL


async def _body(request):
    content = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > LARGEST:
                    raise Refused(f"The file is larger than {LARGEST:,} bytes.", 413)
    except TimeoutError:
        raise Refused(f"The request did not arrive within {SECONDS} seconds.", 408) from None
    return bytes(content)


async def _json(request):
    try:
        body = json.loads(await _body(request))
    except (ValueError, RecursionError):
        raise Refused("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused("The body must be a JSON object.")
    return body


def service(run, *, hosts=(), token=None):
    """The Starlette application of a run, or of whatever else `kerascnn.using.subject` takes.

    Args:
        hosts: names besides the loopback ones by which the service may be called.
        token: what every request must bring as "Authorization: Bearer TOKEN" or ?token=; None: nothing.
    """
    handlers = Handlers(subject(run))
    name, post = handlers.classifier.name, {"methods": ["POST"]}
    layers = [
        {"name": layer.name, "layer": layer.layer, "channels": layer.channels} for layer in handlers.engine.layers
    ]
    told = handlers.told

    def plain(value):
        return lambda request: JSONResponse(value)

    routes = [
        Route("/", told(handlers.page)),
        Route("/labels", plain(handlers.labels)),
        Route("/layers", plain(layers)),
        Route("/samples", plain(list(handlers.samples))),
        Route("/samples/{name}", told(handlers.sample)),
        Route("/predict", told(handlers.on_predict), **post),
        Route("/look", told(handlers.on_look), **post),
        Route("/maps", told(handlers.on_maps), **post),
        Route("/ablate", told(handlers.on_ablate), **post),
        Route(f"/v1/models/{name}", plain({"model_version_status": [{"version": "1", "state": "AVAILABLE"}]})),
        Route(f"/v1/models/{name}:predict", told(handlers.on_serving), **post),
        Route("/v2/health/live", plain({"live": True})),
        Route("/v2/health/ready", plain({"ready": True})),
        Route(f"/v2/models/{name}/ready", plain({"ready": True})),
        Route(f"/v2/models/{name}/infer", told(handlers.on_infer), **post),
        Route("/metrics", handlers.metrics),
    ]
    if handlers.addresses is not None:
        routes.append(Mount("/microscope", StaticFiles(directory=handlers.microscope, html=True)))
    return Guard(Starlette(routes=routes), hosts, token)
