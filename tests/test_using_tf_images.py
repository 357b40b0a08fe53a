import io

import numpy as np
import pytest
from PIL import Image

from kerascnn.datasets.decoding import read_image
from kerascnn.datasets.image_headers import ORIENTATION
from kerascnn.datasets.resize import resize

tf = pytest.importorskip("tensorflow")
tf_images = pytest.importorskip("kerascnn.using.tf_images")
decode = tf.function(tf_images.decode, reduce_retracing=True)  # in a graph, as SavedModels do


def picture(mode="RGB", size=(14, 19)):
    """A picture with edges and soft parts, of another height than width."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (7, 5, 4), np.uint8), "RGBA")
    return rough.resize((size[1], size[0]), Image.Resampling.BICUBIC).convert(mode)


def same_pixels(image, suffix, channels, **how):
    """Compare a picture's file, read by TensorFlow in a graph, with the same file read by Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, suffix, **how)
    graph = decode(tf.constant(buffer.getvalue()), channels).numpy()
    buffer.seek(0)
    np.testing.assert_array_equal(graph, read_image(buffer, None, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("L", "png"), ("RGB", "jpeg"), ("L", "jpeg"), ("RGB", "bmp"), ("L", "gif")],
)
def test_files_decode_as_pillow_does(mode, suffix, channels):
    same_pixels(picture(mode), suffix, channels)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode):
    same_pixels(picture(mode), "png", 3)


@pytest.mark.parametrize("colours", [2, 4, 16, 17])
@pytest.mark.parametrize("how", [{}, {"transparency": 1}])
def test_files_of_few_bits_a_sample_decode_as_pillow_does(colours, how):
    same_pixels(picture().quantize(colours), "png", 3, **how)
    if not how:
        same_pixels(picture("L").quantize(colours).convert("L"), "png", 1)
        same_pixels(picture("1"), "png", 1)


def test_a_transparent_colour_lies_over_white():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 3, (9, 8, 3), np.uint8) * 100)
    same_pixels(image, "png", 3, transparency=(100, 100, 100))


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_files_are_turned_upright(orientation, byte_order):
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F] = "a maker, so that the orientation is not the first entry"
    exif[ORIENTATION] = orientation
    same_pixels(picture(), "jpeg", 3, exif=exif, comment=b"a segment of its own")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_is_passed_over(exif):
    same_pixels(picture(), "jpeg", 3, exif=b"Exif\0\0" + exif)


def test_an_orientation_that_is_none_is_passed_over():
    exif = Image.Exif()
    exif[ORIENTATION] = 9
    same_pixels(picture(), "jpeg", 3, exif=exif)


@pytest.mark.parametrize("size", [(24, 20), (50, 300), (300, 50), (16, 17), (9, 9), (1, 40), (16, 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_change_as_in_the_data_sets(size, channels):
    """At most one grey level apart, where a sum is nearly a half, and hardly ever."""
    image = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    ours = resize(image, (16, 12)).astype(int)
    graph = tf.function(tf_images.resize)(tf.constant(image[None]), (16, 12))[0].numpy().astype(int)
    assert np.abs(ours - graph).max() <= 1
    assert (ours != graph).mean() < 0.05
