"""Oracles: the arrays that were written, files put together byte by byte, Pillow's own conversions."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image, ImageOps

from onceforall.data.decoding import UnreadableImage, decode, read_header
from onceforall.errors import UserError

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (7, 5), np.uint8)
RGB8 = RNG.integers(0, 256, (7, 5, 3), np.uint8)
GREY16 = RNG.integers(0, 65536, (7, 5), np.uint16)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG of (H, W, 1 to 4), put together by hand, with the filters none and up in turn."""
    height, width, channels = pixels.shape
    lines = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    raw = b""
    for i, line in enumerate(lines):
        raw += b"\0" + line.tobytes() if i % 2 == 0 else b"\2" + (line - lines[i - 1]).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff16(pixels: np.ndarray, order: str, deflate: bool) -> bytes:
    """A 16-bit RGB TIFF in the byte order "<" or ">", one strip, plain or deflated, put together by hand."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflate else data
    bits_at = 8 + len(data)
    start = bits_at + 2 * channels
    short, long = 3, 4
    tags = [(256, long, 1, width), (257, long, 1, height), (258, short, channels, bits_at)]
    tags += [(259, short, 1, 8 if deflate else 1), (262, short, 1, 2), (273, long, 1, 8), (277, short, 1, channels)]
    tags += [(278, long, 1, height), (279, long, 1, len(data))]
    entries = b""
    for tag, kind, count, value in tags:
        one = struct.pack(f"{order}HH", value, 0) if (kind, count) == (short, 1) else struct.pack(f"{order}I", value)
        entries += struct.pack(f"{order}HHI", tag, kind, count) + one
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    return head + data + bits + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)


LOSSLESS = {
    "png grey": (encoded(Image.fromarray(GREY8), "png"), GREY8[:, :, None]),
    "png colour": (encoded(Image.fromarray(RGB8), "png"), RGB8),
    "png 16 grey": (encoded(Image.fromarray(GREY16), "png"), GREY16[:, :, None]),
    "tiff grey": (encoded(Image.fromarray(GREY8), "tiff"), GREY8[:, :, None]),
    "tiff colour lzw": (encoded(Image.fromarray(RGB8), "tiff", compression="tiff_lzw"), RGB8),
    "tiff 16 grey": (encoded(Image.fromarray(GREY16), "tiff"), GREY16[:, :, None]),
    "bmp": (encoded(Image.fromarray(RGB8), "bmp"), RGB8),
    "png 1 bit": (encoded(Image.fromarray(GREY8 > 99), "png"), (GREY8 > 99)[:, :, None].astype(np.uint8) * 255),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_pixels_and_header_of_lossless_files(name):
    data, expected = LOSSLESS[name]
    pixels = decode(data)
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, expected)
    header = read_header(data)
    assert (header.height, header.width, header.bits) == (*expected.shape[:2], expected.dtype.itemsize * 8)
    assert header.grey == (expected.shape[2] == 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_keeps_all_bits(channels):
    pixels = RNG.integers(0, 65536, (6, 5, channels), np.uint16)
    np.testing.assert_array_equal(decode(png16(pixels)), pixels)
    assert read_header(png16(pixels)).bits == 16


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_png_with_alpha_is_laid_over_black(channels):
    pixels = RNG.integers(0, 65536, (6, 5, channels), np.uint16)
    pixels[0, :, -1], pixels[1, :, -1] = 65535, 0
    colour, alpha = pixels[:, :, :-1].astype(float), pixels[:, :, -1:].astype(float)
    result = decode(png16(pixels))
    np.testing.assert_allclose(result, colour * alpha / 65535, atol=0.5)
    np.testing.assert_array_equal(result[0], pixels[0, :, :-1])
    assert not result[1].any()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_16_bit_colour_tiff_keeps_all_bits(order, deflate):
    pixels = RNG.integers(0, 65536, (6, 5, 3), np.uint16)
    data = tiff16(pixels, order, deflate)
    np.testing.assert_array_equal(decode(data), pixels)
    assert read_header(data).bits == 16


def test_other_modes():
    jpeg = encoded(Image.fromarray(RGB8), "jpeg")
    np.testing.assert_array_equal(decode(jpeg), np.asarray(Image.open(io.BytesIO(jpeg))))
    palette = Image.fromarray(RGB8).quantize(8)
    np.testing.assert_array_equal(decode(encoded(palette, "png")), np.asarray(palette.convert("RGB")))
    cmyk = Image.fromarray(RGB8).convert("CMYK")
    np.testing.assert_array_equal(decode(encoded(cmyk, "tiff")), np.asarray(cmyk.convert("RGB")))
    assert decode(encoded(cmyk, "jpeg")).shape == (7, 5, 3)
    rgba = np.dstack([RGB8, GREY8])
    expected = np.rint(RGB8 * (GREY8[:, :, None] / 255.0))
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgba), "png")), expected)
    seen = decode(encoded(palette, "png", transparency=int(np.asarray(palette)[0, 0])))
    assert not seen[np.asarray(palette) == np.asarray(palette)[0, 0]].any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_orientation_is_applied(orientation, kind):
    image = Image.fromarray(RGB8)
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    reference = Image.open(io.BytesIO(data))
    reference.load()
    expected = np.asarray(ImageOps.exif_transpose(reference))
    np.testing.assert_array_equal(decode(data), expected)
    header = read_header(data)
    assert (header.height, header.width) == expected.shape[:2]


BROKEN = {
    "zero.png": (b"", "empty"),
    "text.jpg": (b"no image at all, only text" * 9, "not an image"),
    "short.png": (LOSSLESS["png colour"][0][:-40], "truncated"),
    "short.tif": (LOSSLESS["tiff colour lzw"][0][:60], "truncated|not an image"),
    "short.jpg": (encoded(Image.fromarray(RNG.integers(0, 256, (64, 64), np.uint8)), "jpeg")[:-900], "truncated"),
    "float.tif": (encoded(Image.fromarray(GREY8.astype(np.float32)), "tiff"), "floating-point"),
    "wide.tif": (encoded(Image.fromarray(GREY8.astype(np.int32) * 70_000), "tiff"), "32-bit"),
    "pages.tif": (
        encoded(Image.fromarray(GREY8), "tiff", save_all=True, append_images=[Image.fromarray(GREY8)]),
        "2 pages",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_with_a_reason(name, tmp_path):
    data, reason = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path / name, data):
        with pytest.raises(UnreadableImage, match=f"{name}: .*({reason})") as caught:
            decode(source, name)
        assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        decode(tmp_path / "none.png")
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_header(tmp_path)


def test_32_bit_file_whose_values_fit_16_bits():
    data = encoded(Image.fromarray(GREY16.astype(np.int32)), "tiff")
    np.testing.assert_array_equal(decode(data), GREY16[:, :, None])


WHOLE = (LOSSLESS["png colour"][0], LOSSLESS["tiff 16 grey"][0], png16(GREY16[:, :, None]), BROKEN["short.jpg"][0])


@examples(max_examples=60)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_gives_an_image_or_one_clear_error(data, changes):
    damaged = bytearray(data)
    for where, value in changes:
        damaged[int(where * len(data))] = value
    for read in (decode, read_header):
        try:
            read(bytes(damaged), "damaged")
        except UnreadableImage as error:
            assert error.name == "damaged" and "\n" not in str(error)
