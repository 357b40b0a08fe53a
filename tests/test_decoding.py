"""What an image file is taken to be: odd tags, rare kinds of pixels, limits, and the words for what is refused."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from kerascnn.datasets import image_headers, picture
from kerascnn.datasets.check import check_data
from kerascnn.datasets.decoding import BrokenImage, max_megapixels, opened, probe, read_image
from kerascnn.datasets.loading import load
from kerascnn.errors import UsageError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), np.uint16)


def tiff(array, kind=1, photometric=None, depth=None, order="<", **tags):
    """A TIFF file of an array (H, W) or (H, W, n). kind: its SampleFormat; tags: {"t281": (type, value), ...}."""
    height, width, bands = (*array.shape, 1)[:3]
    photometric = (2 if bands in (3, 4) else 1) if photometric is None else photometric
    depth = depth or array.dtype.itemsize * 8
    content = array.astype(array.dtype.newbyteorder(order)).tobytes() if depth % 8 == 0 else array.tobytes()
    entries = {256: (4, width), 257: (4, height), 258: (3, [depth] * bands), 259: (3, 1), 262: (3, photometric)}
    entries |= {277: (3, bands), 278: (4, height), 279: (4, len(content)), 339: (3, [kind] * bands)}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    after = 8 + 2 + 12 * (len(entries) + 1) + 4
    beyond, table = b"", []
    for tag, (form, value) in sorted({**entries, 273: (4, None)}.items()):
        values = [after] if value is None else value if isinstance(value, list) else [value]
        packed = struct.pack(order + len(values) * {2: "s", 3: "H", 4: "I", 8: "h", 11: "f"}[form], *values)
        if len(packed) > 4:
            beyond, packed = beyond + packed, struct.pack(order + "I", after + len(content) + len(beyond))
        table.append(struct.pack(order + "HHI", tag, form, len(values)) + packed.ljust(4, b"\0"))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, len(table)) + b"".join(table) + bytes(4) + content + beyond


def read(content, channels=None):
    return read_image(io.BytesIO(content), channels=channels)


def reason(content):
    with pytest.raises(BrokenImage) as error:
        read(content)
    return error.value.reason


def exif(*entries):
    """A block of EXIF with orientation 6 and other entries (tag, type, value of 4 bytes)."""
    table = [(0x0112, 3, b"\6\0"), *entries]
    packed = [struct.pack("<HHI", tag, form, 1) + value.ljust(4, b"\0") for tag, form, value in sorted(table)]
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(table)) + b"".join(packed) + bytes(4)


ODD_TAGS = {
    "resolution as text": (0x011A, 2, b"72"),
    "unit as a negative number": (0x0128, 8, b"\xfe\xff"),
    "unit as a float": (0x0128, 11, struct.pack("<f", 2)),
    "compression as a float": (0x0103, 11, struct.pack("<f", 6.5)),
    "a rational that points nowhere": (0x011B, 5, b"\xff\xff\xff\x7f"),
    "a folder of tags that points nowhere": (0x8769, 4, b"\xff\xff\xff\x7f"),
    "a type that is none": (0x010F, 99, b"abcd"),
}


@pytest.mark.parametrize("name", ODD_TAGS)
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP"])
def test_an_odd_tag_does_not_break_a_photograph(tmp_path, suffix, name):
    how = {"lossless": True} if suffix == "WEBP" else {}
    path = tmp_path / "a"
    Image.fromarray(COLOURS).save(path, suffix, exif=exif(ODD_TAGS[name]), **how)
    Image.fromarray(COLOURS).save(tmp_path / "plain", suffix, **how)
    np.testing.assert_array_equal(read_image(path), np.rot90(read_image(tmp_path / "plain"), -1))
    assert probe(path) == ((9, 6), False)


@pytest.mark.parametrize("name", ["resolution as text", "unit as a negative number"])
def test_an_odd_tag_does_not_break_a_tiff_file(tmp_path, name):
    tag, form, value = ODD_TAGS[name]
    odd = {f"t{tag}": (form, value[:1] if form == 2 else -2), "t296": (3, 3)}
    (tmp_path / "a.tif").write_bytes(tiff(COLOURS, **odd))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), COLOURS)
    assert probe(tmp_path / "a.tif") == ((6, 9), False)


@pytest.mark.parametrize("value", [0, 9, 10, 255, 65535])
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_orientation_beyond_1_to_8_turns_nothing(tmp_path, suffix, value):
    tags = Image.Exif()
    tags[image_headers.ORIENTATION] = value
    Image.fromarray(COLOURS).save(tmp_path / "a", suffix, exif=tags)
    assert read_image(tmp_path / "a").shape == (6, 9, 3)
    assert probe(tmp_path / "a")[0] == (6, 9)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "XMP", "ICC", "ICC that is damaged"])
def test_large_chunks_do_not_break_a_png_file(tmp_path, kind):
    text, how, long = PngImagePlugin.PngInfo(), {}, "a" * (2 << 20)
    if kind == "zTXt":
        text.add_text("k", long, zip=True)
    elif kind.startswith("ICC"):
        how = {"icc_profile": bytes(2 << 20)}
    else:
        text.add_itxt("XML:com.adobe.xmp" if kind == "XMP" else "k", long, zip=True)
    Image.fromarray(COLOURS).save(tmp_path / "a.png", pnginfo=text, **how)
    if kind == "ICC that is damaged":
        content = bytearray((tmp_path / "a.png").read_bytes())
        content[content.index(b"iCCP") + 20] ^= 255
        (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), COLOURS)
    assert probe(tmp_path / "a.png") == ((6, 9), False)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_where_0_is_white_are_inverted(order):
    content = tiff(DEEP, photometric=0, order=order)
    if order == "<":
        np.testing.assert_array_equal(read(content)[..., 0], 255 - (DEEP >> 8))
    else:  # which Pillow does not read
        assert "TIFF file" in reason(content)


@pytest.mark.parametrize("photometric", [0, 1])
def test_the_largest_value_that_a_tiff_file_names_is_white(photometric):
    grey = DEEP % 4096
    expected = grey.astype(int) * 255 // 4095
    expected = 255 - expected if photometric == 0 else expected
    np.testing.assert_array_equal(read(tiff(grey, photometric=photometric, t281=(3, 4095)))[..., 0], expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_largest_value_of_colours_that_a_tiff_file_names_is_white(order):
    deep = RNG.integers(0, 1024, (6, 9, 3), np.uint16)
    np.testing.assert_array_equal(read(tiff(deep, order=order, t281=(3, [1023] * 3))), deep.astype(int) * 255 // 1023)


def test_12_bits_in_a_row():
    grey = DEEP[:, :8] % 4096
    left, right = grey[:, ::2].astype(int), grey[:, 1::2].astype(int)
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], -1).astype(np.uint8)
    content = bytearray(tiff(packed.reshape(6, 12), depth=12))
    at = content.index(struct.pack("<HHII", 256, 4, 1, 12)) + 8
    content[at : at + 4] = struct.pack("<I", 8)
    np.testing.assert_array_equal(read(bytes(content))[..., 0], grey.astype(int) * 255 // 4095)


def with_sbit(image, bits):
    text = PngImagePlugin.PngInfo()
    text.add(b"sBIT", bytes([bits]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def test_few_bits_that_a_png_file_names():
    grey = DEEP % 4096
    np.testing.assert_array_equal(read(with_sbit(Image.fromarray(grey), 12))[..., 0], grey.astype(int) * 255 // 4095)
    scaled = (DEEP % 256 << 4).astype(np.uint16)  # dark, and scaled up as the standard of PNG demands
    np.testing.assert_array_equal(read(with_sbit(Image.fromarray(scaled), 12))[..., 0], scaled >> 8)


NUMBERS = {
    "8-bit signed integers, 1 band": tiff(DEEP.astype(np.int8), kind=2),
    "16-bit signed integers, 1 band": tiff(DEEP.astype(np.int16), kind=2),
    "32-bit unsigned integers, 1 band": tiff(DEEP.astype(np.uint32)),
    "32-bit floating point numbers, 1 band": tiff(DEEP.astype(np.float32), kind=3),
    "64-bit floating point numbers, 1 band": tiff(DEEP.astype(np.float64), kind=3),
    "32-bit floating point numbers, 3 bands": tiff(COLOURS.astype(np.float32), kind=3),
    "8-bit unsigned integers, 13 bands": tiff(np.zeros((6, 9, 13), np.uint8), photometric=1),
    "16-bit unsigned integers, 13 bands": tiff(np.zeros((6, 9, 13), np.uint16), photometric=1),
    "16-bit unsigned integers, 5 bands": tiff(np.zeros((6, 9, 5), np.uint16), photometric=1),
}


@pytest.mark.parametrize("numbers", NUMBERS)
def test_numbers_that_are_no_pixels_are_named(numbers, caplog, capfd):
    why = reason(NUMBERS[numbers])
    assert why.startswith(f"its pixels are {numbers}; of TIFF files, 1, 3 or 4 bands of 8-bit or 16-bit unsigned")
    assert "docs/data.md" in why
    assert not caplog.records
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_band_is_transparency_only_where_the_file_says_so(tmp_path, dtype):
    scale = np.iinfo(dtype).max // 255
    bands = np.concatenate([COLOURS, np.zeros_like(COLOURS[..., :1])], -1).astype(dtype) * dtype(scale)
    for tags in ({}, {"t338": (3, 0)}):  # no word about it; "unspecified"
        np.testing.assert_array_equal(read(tiff(bands, **tags)), COLOURS)
        (tmp_path / "a.tif").write_bytes(tiff(bands, **tags))
        with opened(tmp_path / "a.tif") as image:
            assert image.remarks["bands"] == 4
    assert (read(tiff(bands, t338=(3, 2))) == 255).all()


@pytest.mark.parametrize("alpha", [0, 128])
def test_a_bmp_file_whose_alpha_is_0_everywhere_has_none(alpha):
    pixels = np.concatenate([COLOURS[::-1, :, ::-1], np.full((6, 9, 1), alpha, np.uint8)], -1)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 9, 6, 1, 32, 3, pixels.size, 0, 0, 0, 0) + masks
    content = b"BM" + struct.pack("<IHHI", 122 + pixels.size, 0, 0, 122) + head.ljust(108, b"\0") + pixels.tobytes()
    expected = COLOURS if alpha == 0 else np.round((COLOURS * 128.0 + 255 * 127) / 255)
    np.testing.assert_allclose(read(content), expected, atol=1 if alpha else 0)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_12_bits_in_16_are_a_problem_that_is_said(tmp_path, mode):
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        deep = RNG.integers(0, 4096, (6, 9, len(mode)), np.uint16)
        deep[0, 0] = 4095
        (tmp_path / f"{name}.tif").write_bytes(tiff(deep[..., 0] if mode == "L" else deep))
    said = "no value above 4,095 of 65,535, so they seem to use 12 bits and are read 16 times too dark"
    problem = next(problem for problem in check_data(tmp_path, validation=0, test=0).problems if "16-bit" in problem)
    assert said in problem
    assert "mogrify -evaluate multiply 16" in problem
    assert any(said in note for note in load(tmp_path, validation=0, test=0).notes)


def test_one_limit_of_size_and_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns above it, and raises above twice as many
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    Image.new("L", (100, 90)).save(tmp_path / "b.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png").shape == (30, 40, 1)
        assert probe(tmp_path / "b.png") == ((90, 100), True)
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.setenv("KERASCNN_MAX_MEGAPIXELS", "0.005")
    for read_file in (read_image, probe):
        with pytest.raises(
            BrokenImage, match=r"its 100 x 90 pixels are more than 0\.005 megapixels.*KERASCNN_MAX_MEGAPIXELS=1"
        ):
            read_file(tmp_path / "b.png")
    for wrong in ("x", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("KERASCNN_MAX_MEGAPIXELS", wrong)
        with pytest.raises(UsageError, match=f"KERASCNN_MAX_MEGAPIXELS={wrong} is not allowed"):
            max_megapixels()


def many_scans(number, size=64):
    """A progressive JPEG file whose last scan comes again and again."""
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).resize((size, size)).save(buffer, "JPEG", progressive=True)
    jpeg = buffer.getvalue()
    last, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    scans = image_headers.num_scans(jpeg)
    assert scans == jpeg.count(b"\xff\xda") == 10
    hiding = b"\xff\xfe\0\4\xff\xd9"  # a comment that holds an end mark
    return jpeg[:end] + hiding + jpeg[last:end] * (number - scans) + jpeg[end:]


def test_a_jpeg_of_many_scans_is_not_decoded():
    assert read(many_scans(60)).shape == (64, 64, 3)
    assert "more than 100 scans" in reason(many_scans(3000))
    assert image_headers.too_many_scans(60, 100_000_000)
    assert not image_headers.too_many_scans(12, 178_000_000)


def test_a_graph_does_not_decode_a_jpeg_of_many_scans():
    tf = pytest.importorskip("tensorflow")
    tf_headers = pytest.importorskip("kerascnn.using.tf_headers")
    for number, counted in ((10, 10), (60, 60), (3000, 101)):
        assert int(tf_headers.num_scans(tf.constant(many_scans(number)))) == counted


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [None, (8, 6), (20, 90)])
def test_large_images_are_converted_in_strips_to_the_same_pixels(monkeypatch, mode, size):
    rough = Image.fromarray(RNG.integers(0, 256, (9, 7, 4), np.uint8)).resize((61, 83), Image.Resampling.BICUBIC)
    image = Image.fromarray(DEEP).resize((61, 83)) if mode == "I;16" else rough.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    whole = read_image(buffer, size, 3)
    monkeypatch.setattr(picture, "LARGE", 8 * 61 * 5)
    np.testing.assert_array_equal(read_image(buffer, size, 3), whole)


@pytest.mark.parametrize(("suffix", "mode"), [("ppm", "RGB"), ("pgm", "L"), ("pbm", "1"), ("avif", "RGB")])
def test_more_formats(tmp_path, suffix, mode):
    image = Image.new("RGB", (64, 32), (200, 100, 50)) if suffix == "avif" else Image.fromarray(COLOURS).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    expected = np.asarray(image.convert("L" if mode == "1" else mode)).reshape(*image.size[::-1], -1)
    np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}"), expected, atol=6 if suffix == "avif" else 0)
    for name in ("x", "y"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            image.save(tmp_path / "data" / name / f"{i}.{suffix.upper()}")
    assert len(load(tmp_path / "data", validation=0, test=0).train) == 4


def test_heic_where_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 32), (200, 100, 50))).save(tmp_path / "a.heic")
    np.testing.assert_allclose(read_image(tmp_path / "a.heic"), np.full((32, 64, 3), [200, 100, 50]), atol=6)


def test_what_is_refused_is_said_in_plain_words(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.bmp")
    bmp = (tmp_path / "a.bmp").read_bytes()
    assert reason(b"") == "empty file"
    assert reason(b"hello, I am a text") == "not an image"
    assert reason(bmp[:-20]) == "image file is truncated"
    assert reason(bmp[:30] + b"\4" + bmp[31:]) == "damaged, or a kind of BMP file that is not read"
    assert reason(b"\x89PNG\r\n\x1a\n" + bytes(40)) == "damaged, or a kind of PNG file that is not read"
    assert reason(b"\xff\xd8\xff\xe0\0\4ab") == "damaged, or a kind of JPEG file that is not read"
    with pytest.raises(BrokenImage, match=r"Cannot read .*none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(BrokenImage, match="a folder, not a regular file"):
        read_image(tmp_path)


def test_colours_that_pillow_cannot_convert_are_named(tmp_path):
    Image.new("LAB", (8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(BrokenImage, match="its colours are LAB, which is not read"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["TIFF", "PNG", "JPEG", "WEBP"])
def test_an_orientation_in_xmp_is_not_applied_in_any_format(tmp_path, suffix):
    xmp = b'<x tiff:Orientation="6"/>'
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    how = {"PNG": {"pnginfo": text}, "TIFF": {"tiffinfo": {700: xmp}}}.get(suffix, {"xmp": xmp})
    Image.fromarray(COLOURS).save(tmp_path / "a", suffix, **how)
    assert xmp in (tmp_path / "a").read_bytes()
    assert read_image(tmp_path / "a").shape == (6, 9, 3)
    assert probe(tmp_path / "a")[0] == (6, 9)


def test_bytes_lost_in_the_middle_of_a_jpeg_are_heard(tmp_path):
    pytest.importorskip("simplejpeg")
    noise = RNG.integers(0, 256, (4, 128, 128, 3), np.uint8)
    for name, pixels in zip(("a/1", "a/2", "b/1", "b/2"), noise, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", quality=90)
    content = bytearray((tmp_path / "b" / "2.jpg").read_bytes())
    end = content.rindex(b"\xff\xd9")
    (tmp_path / "a" / "1.jpg").write_bytes(content[:end] + bytes(300) + content[end:])  # padding, as cameras write
    half = len(content) // 2
    content[half : half + 40] = bytes(40)
    (tmp_path / "b" / "2.jpg").write_bytes(content)
    report = check_data(tmp_path, validation=0, test=0)
    assert [file for file, _ in report.damaged] == ["b/2.jpg"]
    assert report.broken == ()
    assert any(problem.startswith("1 JPEG file is damaged inside") for problem in report.problems)
