// Image files -> pixels, by the rule of kerascnn.datasets.resize: crop centrally to the target's shape, then Pillow's
// bilinear resize, in the same whole numbers: 22 bits of the weights, rounding to 8 bits between the two passes.

function weights(from, to) {
  const scale = from / to, widened = Math.max(scale, 1), rows = [];
  for (let place = 0; place < to; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - widened + 0.5));
    const last = Math.min(from, Math.trunc(centre + widened + 0.5));
    const each = [];
    for (let i = first; i < last; i++) each.push(Math.max(0, 1 - Math.abs((i - centre + 0.5) / widened)));
    const sum = each.reduce((a, b) => a + b, 0);
    rows.push([first, each.map((weight) => Math.trunc(0.5 + (weight / sum) * 4194304))]);
  }
  return rows;
}

// Uint8Array (lines, from, channels) -> (lines, to, channels) where step is channels; the axis is given by the strides.
function along(pixels, count, from, to, lineStride, step, outLine, outStep, channels) {
  if (from === to && lineStride === outLine) return pixels;
  const out = new Uint8Array(count * to * channels), rows = weights(from, to);
  for (let line = 0; line < count; line++) {
    rows.forEach(([first, each], place) => {
      for (let channel = 0; channel < channels; channel++) {
        let sum = 2097152;
        each.forEach((weight, i) => { sum += weight * pixels[line * lineStride + (first + i) * step + channel]; });
        out[line * outLine + place * outStep + channel] = Math.min(255, Math.floor(sum / 4194304));
      }
    });
  }
  return out;
}

function resized(pixels, height, width, channels, [toHeight, toWidth]) {
  if (width !== toWidth) {
    pixels = along(pixels, height, width, toWidth, width * channels, channels, toWidth * channels, channels, channels);
  }
  if (height === toHeight) return pixels;
  const row = toWidth * channels;
  return along(pixels, toWidth, height, toHeight, channels, row, channels, row, channels);
}

async function pixelsOf(file, [toHeight, toWidth], channels) {
  const image = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  let { width, height } = image;
  const wide = width * toHeight > height * toWidth;
  const w = wide ? Math.max(1, Math.floor((height * toWidth) / toHeight)) : width;
  const h = wide ? height : Math.max(1, Math.floor((width * toHeight) / toWidth));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(Math.ceil((width - w) / 2), Math.ceil((height - h) / 2), w, h);
  const pixels = new Uint8Array(w * h * channels);
  for (let i = 0; i < w * h; i++) {
    const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 1) pixels[i] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
    else pixels.set([r, g, b], 3 * i);
  }
  return resized(pixels, h, w, channels, [toHeight, toWidth]);
}
