"""A network as a SavedModel that carries its preprocessing and labels, for plain TensorFlow without this package.

It has two endpoints. Each returns {"probabilities": float32 (N, num_classes), "label": string (N,)}:

    serve         uint8 images (N, height, width, channels) of any size
    serve_bytes   strings (N,), the contents of JPEG, PNG, BMP or GIF files

`classes()` of the loaded object gives the class names, in the order of the probabilities.
"""

import io

import numpy as np

from kerascnn.using.formats import register


@register(
    "saved-model",
    title="A SavedModel",
    file="saved_model",
    takes="uint8 pixels of any size, or the bytes of image files",
    float32=False,
)
def saved_model(classifier, path, images):
    """A folder for TensorFlow and its servers; takes images of any size, or the bytes of image files."""
    write([classifier], path)


def write(members, path):
    """Write Classifiers with the same classes, which answer by the mean of their probabilities, as one SavedModel.

    Each has its own preprocessing inside; what is the same for several of them is computed once. Classes have the order
    of the first.
    """
    import keras
    import tensorflow as tf

    from kerascnn.using import tf_answer, tf_images

    names = tf.constant(list(members[0].labels))
    channels = max(member.preprocessing.channels for member in members)
    sizes = list(dict.fromkeys((each.preprocessing.resize_to, each.preprocessing.channels) for each in members))

    def answer(images):
        """The answer to images uint8 (N, height, width, channels) of any size."""
        return resized([tf_images.resize(tf_images.in_channels(images, count), size) for size, count in sizes])

    def resized(images):
        inputs = {}
        for member in members:
            prepared = member.preprocessing
            if prepared not in inputs:
                at_size = images[sizes.index((prepared.resize_to, prepared.channels))]
                inputs[prepared] = tf_answer.network_input(prepared, at_size)
        each = [member.model(inputs[member.preprocessing], training=False) for member in members]
        probabilities = tf_answer.together(members, each)
        return {"probabilities": probabilities, "label": tf.gather(names, tf.argmax(probabilities, axis=1))}

    def decoded(file):
        pixels = {count: tf_images.decode(file, count) for _, count in sizes}
        return [tf_images.resize(pixels[count][None], size)[0] for size, count in sizes]

    def from_bytes(files):
        specs = [tf.TensorSpec((*size, count), tf.float32) for size, count in sizes]
        return resized(tf.map_fn(decoded, files, fn_output_signature=specs))

    archive = keras.export.ExportArchive()  # its `track` would write every weight twice; what endpoints use, it finds
    archive.add_endpoint("serve", answer, [tf.TensorSpec((None, None, None, channels), tf.uint8, "images")])
    archive.add_endpoint("serve_bytes", from_bytes, [tf.TensorSpec((None,), tf.string, "files")])
    archive.add_endpoint("classes", lambda: {"classes": names}, [])
    archive.write_out(str(path), verbose=False)


def opened(path):
    """A function, uint8 (N, H, W, C) -> probabilities, that hands its images over as PNG files."""
    import tensorflow as tf
    from PIL import Image

    loaded = tf.saved_model.load(str(path))

    def as_png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "png")
        return file.getvalue()

    return lambda images: np.asarray(loaded.serve_bytes(tf.constant(list(map(as_png, images))))["probabilities"])
