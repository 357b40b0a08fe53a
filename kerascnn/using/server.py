"""A classifier as a small HTTP service on this machine.

GET  /          a page to drop an image on
GET  /labels    the class names, in the order of the outputs
POST /predict   the contents of one image file -> [{"rank", "index", "probability", "label"}, ...]; `?top=3`
"""

import html
import io
import threading

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from kerascnn.datasets.decoding import BrokenImage, read_image
from kerascnn.using.classifier import subject
from kerascnn.using.prediction import predict

LARGEST = 32 * 2**20  # bytes of one image file that are read

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>kerascnn: NAME</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; color: #222 }
img { max-width: 16rem; max-height: 16rem; display: block; margin: 1rem 0; image-rendering: pixelated }
td { padding: .1rem 1rem .1rem 0; font-variant-numeric: tabular-nums }
</style>
<h1>NAME</h1>
<p><label>An image: <input type="file" accept="image/*" id="file"></label></p>
<img id="image" alt="" hidden>
<table id="answer" aria-live="polite"></table>
<script>
file.onchange = async () => {
  const chosen = file.files[0];
  if (!chosen) return;
  image.src = URL.createObjectURL(chosen);
  image.alt = chosen.name;
  image.hidden = false;
  const response = await fetch("predict", { method: "POST", body: chosen });
  const rows = await response.json();
  answer.replaceChildren(...(response.ok ? rows : [rows]).map(row => {
    const line = document.createElement("tr");
    const cells = response.ok ? [row.label, (100 * row.probability).toFixed(2) + " %"] : [row.error];
    line.append(...cells.map(text => { const c = document.createElement("td"); c.textContent = text; return c }));
    return line;
  }));
};
</script>
"""


def service(run):
    """The Starlette application of a run, or of whatever else `kerascnn.using.subject` takes."""
    classifier = subject(run)
    prepared, labels = classifier.preprocessing, list(classifier.labels)
    trained_on = f" on {classifier.run.read('data')['name']}" if classifier.run else ""
    page = PAGE.replace("NAME", html.escape(classifier.name + trained_on))

    one_at_a_time = threading.Lock()  # Keras on JAX takes the weights out of the model while it predicts

    def answer(content, top):
        try:
            pixels = read_image(io.BytesIO(content), prepared.resize_to, prepared.channels)
        except BrokenImage as error:
            return {"error": f"This is not an image that can be read: {error.reason}."}, 400
        with one_at_a_time:
            table = predict(classifier, np.asarray(pixels)[None], top=top)
        return table.drop(columns="image").to_dict("records"), 200

    async def on_predict(request):
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > LARGEST:
                return JSONResponse({"error": f"The file is larger than {LARGEST:,} bytes."}, 413)
        top = request.query_params.get("top", "5")
        if not top.isdecimal() or len(top) > 9 or int(top) < 1:
            return JSONResponse({"error": f"top={top} is not allowed: it must be a whole number from 1 up."}, 400)
        return JSONResponse(*await run_in_threadpool(answer, bytes(content), int(top)))

    return Starlette(
        routes=[
            Route("/", lambda request: HTMLResponse(page)),
            Route("/labels", lambda request: JSONResponse(labels)),
            Route("/predict", on_predict, methods=["POST"]),
        ]
    )
