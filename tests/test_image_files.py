"""Decoding of every format and colour, and ImageFiles against the array that they stand for."""

import io

import numpy as np
import pytest
from PIL import Image

from kerascnn.datasets.decoding import probe, read_image
from kerascnn.datasets.image_files import ImageFiles, Mixed, decode_all, is_complete, survey
from kerascnn.errors import DataError

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [255, 255, 255], [128, 64, 32]]], np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif"])
def test_lossless_formats_give_the_same_pixels(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    image = Image.fromarray(RGB)
    if suffix == "gif":  # a palette of 256 colours holds these six
        image = image.quantize(6)
    image.save(file, lossless=True) if suffix == "webp" else image.save(file)
    np.testing.assert_array_equal(read_image(file), RGB)
    assert probe(file) == ((2, 3), False)


def test_a_gif_gives_its_first_frame(tmp_path):
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif", channels=1), np.full((4, 4, 1), 10))


def test_a_jpeg_is_near(tmp_path):
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg"), np.broadcast_to([200, 100, 50], (16, 16, 3)), atol=3)


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientation_6_is_a_quarter_turn_clockwise(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(RGB)
    image.save(tmp_path / f"a.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    turned = [[RGB[1, 0], RGB[0, 0]], [RGB[1, 1], RGB[0, 1]], [RGB[1, 2], RGB[0, 2]]]
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), turned)
    assert probe(tmp_path / f"a.{suffix}")[0] == (3, 2)


def test_exif_orientation_of_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    left_white = np.zeros((16, 32), np.uint8)
    left_white[:, :16] = 255
    Image.fromarray(left_white).save(tmp_path / "a.jpg", exif=exif, quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[..., 0], left_white[:, ::-1], atol=2)


def one_pixel(tmp_path, mode, colour, suffix="png", channels=None, **options):
    Image.new(mode, (1, 1), colour).save(tmp_path / f"one.{suffix}", **options)
    return read_image(tmp_path / f"one.{suffix}", channels=channels)[0, 0].tolist()


def test_colours_by_pencil(tmp_path):
    assert one_pixel(tmp_path, "L", 77) == [77]
    assert one_pixel(tmp_path, "L", 77, channels=3) == [77, 77, 77]
    assert one_pixel(tmp_path, "RGB", (255, 0, 0), channels=1) == [76]  # (19595 * 255 + 32768) >> 16
    assert one_pixel(tmp_path, "1", 1) == [255]
    assert one_pixel(tmp_path, "RGBA", (0, 0, 0, 0)) == [255, 255, 255]  # nothing over white
    assert one_pixel(tmp_path, "RGBA", (0, 0, 0, 51)) == [204, 204, 204]  # a fifth of black over white
    assert one_pixel(tmp_path, "LA", (100, 255)) == [100]
    assert one_pixel(tmp_path, "CMYK", (0, 0, 0, 0), "tiff") == [255, 255, 255]
    assert one_pixel(tmp_path, "CMYK", (0, 255, 255, 0), "tiff") == [255, 0, 0]
    assert one_pixel(tmp_path, "I;16", 0x1234) == [0x12]
    assert one_pixel(tmp_path, "I;16", 0xFFFF, channels=3) == [255, 255, 255]


def test_a_transparent_palette_lies_over_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[255, 255, 255], [40, 50, 60]]])


def test_a_transparent_colour_lies_over_white(tmp_path):
    for mode, clear, seen in (("L", 0, 200), ("RGB", (10, 20, 30), (40, 50, 60))):
        image = Image.new(mode, (2, 1), clear)
        image.putpixel((1, 0), seen)
        image.save(tmp_path / "a.png", transparency=clear)
        for channels in (None, 1, 3):
            left, right = read_image(tmp_path / "a.png", channels=channels)[0]
            assert set(left.tolist()) == {255}
            assert right.tolist() == one_pixel(tmp_path, mode, seen, channels=channels)


def test_pixels_beyond_16_bits_are_refused(tmp_path):
    for value in (70000, 200):  # 200 of 65535 is black, of 255 light: nobody knows
        Image.new("I", (1, 1), value).save(tmp_path / "a.tiff")
        with pytest.raises(ValueError, match="32-bit"):
            read_image(tmp_path / "a.tiff")
    Image.new("F", (1, 1), 0.5).save(tmp_path / "b.tiff")
    with pytest.raises(ValueError, match="floating point"):
        read_image(tmp_path / "b.tiff")


@pytest.fixture
def ten(tmp_path):
    """Ten images of 70x80 pixels: (ImageFiles at 64x64, the array that they stand for)."""
    images = np.random.default_rng(0).integers(0, 256, (10, 70, 80, 3), np.uint8)
    names = []
    for i, image in enumerate(images):
        names.append(f"{i}.png")
        Image.fromarray(image).save(tmp_path / names[-1])
    array = np.stack([read_image(tmp_path / name, (64, 64)) for name in names])
    return ImageFiles(tmp_path, tuple(names), (64, 64), 3), array


def test_image_files_are_indexed_like_an_array(ten):
    files, array = ten
    assert (len(files), files.shape, files.ndim, files.dtype) == (10, (10, 64, 64, 3), 4, np.uint8)
    mask = np.arange(10) % 3 == 0
    for index in (3, -1, slice(2, 7), slice(None, None, -3), [9, 0, 4, 4], np.array([], int), mask):
        np.testing.assert_array_equal(files[index], array[index])
    np.testing.assert_array_equal(files.decode(), array)
    np.testing.assert_array_equal(np.asarray(files), array)
    with pytest.raises(IndexError):
        files[10]


def test_take_decodes_nothing_and_can_be_taken_from_again(ten):
    files, array = ten
    taken = files.take(np.array([8, 2, 5]))
    assert taken.path(1) == files.path(2)
    assert taken.files == ("8.png", "2.png", "5.png")
    np.testing.assert_array_equal(taken.take([2, 0]).decode(), array[[5, 8]])
    assert files.take([]).shape == (0, 64, 64, 3)


def test_a_file_that_breaks_later_is_named(ten, tmp_path):
    files, _ = ten
    (tmp_path / "4.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"4\.png: empty file"):
        files[[3, 4]]


@pytest.fixture
def with_broken(tmp_path):
    """Six files, of which 0 and 4 are good; the last is missing."""
    good = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)).save(good, "jpeg")
    content = good.getvalue()
    for name, part in {"0": content, "1": content[:-200], "2": b"", "3": b"hello", "4": content}.items():
        (tmp_path / f"{name}.jpg").write_bytes(part)
    return ImageFiles(tmp_path, tuple(f"{i}.jpg" for i in range(6)), (40, 40), 3)


def test_broken_files_are_left_out_and_named(with_broken):
    images, rows, broken = decode_all(with_broken)
    assert rows.tolist() == [0, 4]
    np.testing.assert_array_equal(images, with_broken[[0, 4]])
    assert broken.pop(1).startswith("image file is truncated")
    assert broken == {2: "empty file", 3: "not an image", 5: "no such file"}


def test_strict_stops_at_the_first_broken_file(with_broken):
    with pytest.raises(
        DataError, match=r"1\.jpg: image file is truncated.*Without strict=True, broken files are skipped"
    ):
        decode_all(with_broken, strict=True)


def test_a_survey_reads_headers_and_end_marks(with_broken, tmp_path):
    sizes, grey, broken = survey(with_broken)
    assert sizes.tolist() == [[40, 40], [40, 40], [0, 0], [0, 0], [40, 40], [0, 0]]
    assert not grey.any()
    assert sorted(broken) == [2, 3, 5]  # the truncated file has a good header
    _, _, broken = survey(with_broken, complete=True)
    assert sorted(broken) == [1, 2, 3, 5]
    assert is_complete(tmp_path / "0.jpg")
    assert not is_complete(tmp_path / "1.jpg")


def test_trailing_bytes_after_the_end_mark_are_no_fault(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with open(tmp_path / "a.jpg", "ab") as file:
        file.write(bytes(500))
    assert survey(ImageFiles(tmp_path, ("a.jpg",)), complete=True)[2] == {}


def test_guesses_from_the_first_file_are_checked(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    Image.new("L", (9, 8)).save(tmp_path / "wider.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    with pytest.raises(Mixed):
        decode_all(ImageFiles(tmp_path, ("grey.png", "wider.png"), (8, 8), 1), same_size=True)
    with pytest.raises(Mixed):
        decode_all(ImageFiles(tmp_path, ("grey.png", "colour.png"), (8, 8), 1), all_grey=True)
    images, _, _ = decode_all(ImageFiles(tmp_path, ("grey.png", "colour.png"), (8, 8), 1))
    assert images.shape == (2, 8, 8, 1)


def test_a_decompression_bomb_is_a_broken_file(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setenv("KERASCNN_MAX_MEGAPIXELS", "0.001")
    _, rows, broken = decode_all(ImageFiles(tmp_path, ("a.png",), (8, 8), 1))
    assert len(rows) == 0
    assert "decompression bomb" in broken[0]
