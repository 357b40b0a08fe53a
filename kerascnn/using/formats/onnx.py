"""ONNX files, for ONNX Runtime and the many programs that read them.

The input is `images`, uint8 (N, *resize_to, C); cropping, scaling and the network are inside, the output is
`probabilities`, float32 (N, num_classes). Resizing is not inside. The file's metadata hold `kerascnn.json`.
"""

import numpy as np

from kerascnn.errors import DataError
from kerascnn.using import carried
from kerascnn.using.formats import register

OPSET = 18


@register(
    "onnx",
    title="An ONNX file",
    file="model.onnx",
    suffix=".onnx",
    packages=("tf2onnx", "onnxruntime"),
    runs=("onnxruntime",),
    extra="onnx",
)
def onnx(classifier, path, images):
    """A .onnx file for ONNX Runtime: servers, Windows, browsers, C#, Java and more."""
    path.write_bytes(as_bytes("An ONNX file", classifier))


def as_bytes(title, classifier):
    """The bytes of the file; `title` is what errors call it."""
    import tensorflow as tf
    import tf2onnx
    from onnx import checker

    from kerascnn.using import tf_answer

    def convert(function, specs):
        proto, _ = tf2onnx.convert.from_function(
            tf.function(function, input_signature=specs), input_signature=specs, opset=OPSET
        )
        checker.check_model(proto)  # an operation that is not ONNX's has only been logged so far
        return proto

    proto = tf_answer.converted(title, classifier, None, convert)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    proto.metadata_props.add(key=carried.KEY, value=carried.as_json(classifier))
    return proto.SerializeToString()


def session(source, path):
    """An InferenceSession of a file or of its bytes; `path` is what errors call it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise DataError(f"{path} cannot be loaded by ONNX Runtime: {str(error).splitlines()[0]}") from error


def described(path):
    """(labels, Preprocessing) of a file; DataError if it holds none."""
    text = session(str(path), path).get_modelmeta().custom_metadata_map.get(carried.KEY)
    if text is None:
        raise carried.not_ours(path)
    return carried.described(text, path)


def opened(path):
    """A function, uint8 (N, *resize_to, C) -> probabilities float32 (N, num_classes)."""
    return answering(session(str(path), path))


def answering(opened_session):
    """The function of `opened` by an InferenceSession."""
    return lambda images: np.asarray(opened_session.run(["probabilities"], {"images": images})[0])
