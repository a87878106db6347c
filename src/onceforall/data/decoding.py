"""Image files to pixels, with Pillow: bit depth kept, every broken file one clear error."""

import io
import struct
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from onceforall.errors import UserError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["ImageHeader", "UnreadableImage", "decode", "read_header"]

FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
ORIENTATION = 0x0112  # Exif tag
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


@final
class UnreadableImage(UserError):
    """A file that is no readable image. `reason` says why, without the file's name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}. Mend or remove this file, or skip such files on purpose.")
        self.name = name
        self.reason = reason


@final
@dataclass(frozen=True)
class ImageHeader:
    """What the head of a file says, before its pixels are decoded; sizes in pixels, as seen upright."""

    height: int
    width: int
    mode: str
    bits: int

    @property
    def grey(self) -> bool:
        """Whether the file stores one colour channel."""
        return self.mode in GREY_MODES


def read_header(source: Path | bytes, name: str = "") -> ImageHeader:
    """Size, mode and bit depth of an image file, from its first bytes. Raises `UnreadableImage`."""
    label = name or _label(source)
    return _guarded(label, lambda: _header(_open(source)))


def decode(source: Path | bytes, name: str = "") -> np.ndarray:
    """The pixels of a file (or of its bytes): (height, width, channels), channels 1 or 3, uint8 or uint16.

    Read are JPEG, PNG, TIFF and BMP: grey, colour, palette, CMYK; 1-bit images become 0 and 255, transparent pixels
    are laid over black, the camera's orientation is applied. The bit depth is kept: 16-bit files give uint16, also in
    colour. `name` stands for the file in error messages. Raises `UnreadableImage` (empty, truncated, no image,
    several pages, floating-point or 32-bit pixels).
    """
    label = name or _label(source)
    return _guarded(label, lambda: _pixels(source))


def _label(source: Path | bytes) -> str:
    return "image" if isinstance(source, bytes) else str(source)


def _guarded(label: str, read: Any) -> Any:
    """`read()`, with every way in which a broken file makes the decoders fail turned into `UnreadableImage`."""
    from PIL import Image, UnidentifiedImageError

    try:
        return read()
    except UnreadableImage as error:
        raise UnreadableImage(label, error.reason) from None
    except UnidentifiedImageError:
        raise UnreadableImage(label, "not an image this package reads (JPEG, PNG, TIFF, BMP)") from None
    except MemoryError:
        raise UnreadableImage(label, "too large for the memory") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        IndexError,
        TypeError,
        KeyError,
    ) as error:
        raise UnreadableImage(label, _reason(error)) from None
    except (Image.DecompressionBombError, Warning) as error:  # a warning, where warnings are errors
        raise UnreadableImage(label, _reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = " ".join(str(error).split())[:160].rstrip(".")
    return f"damaged or truncated ({text or type(error).__name__})"


def _open(source: Path | bytes) -> "ImageFile":
    from PIL import Image

    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise UnreadableImage(_label(source), "empty (0 bytes)")
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)


def _header(image: "ImageFile") -> ImageHeader:
    from PIL.Image import Image

    with image:
        width, height = image.size
        exif = Image.getexif(image)  # the base class's: that of PNG files would decode the pixels
        if image.format != "TIFF" and exif.get(ORIENTATION, 1) >= 5:  # lying on its side
            width, height = height, width
        return ImageHeader(height=height, width=width, mode=image.mode, bits=_bits(image))


def _bits(image: "ImageFile") -> int:
    return 16 if image.mode.startswith("I") or _colour16(image) else 8


def _colour16(image: "ImageFile") -> bool:
    """Whether the file holds 16 bits for each of several channels (Pillow alone would keep only the upper 8)."""
    return image.mode not in GREY_MODES and any(";16" in _raw_mode(tile.args) for tile in image.tile)


def _raw_mode(args: Any) -> str:
    return str(args[0] if isinstance(args, tuple) else args)


def _pixels(source: Path | bytes) -> np.ndarray:
    data = source if isinstance(source, bytes) else source.read_bytes()
    with _open(data) as image:
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise UnreadableImage("", f"holds {getattr(image, 'n_frames', 1)} pages; only one image per file is read")
        if _colour16(image):
            pixels = _decode_colour16(data, image)
        else:
            image.load()
            pixels = _decode_plain(image)
        orientation = 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION, 1)  # Pillow turns TIFFs itself
    return np.ascontiguousarray(_upright(pixels, orientation))


def _decode_plain(image: "ImageFile") -> np.ndarray:
    mode = image.mode
    if mode == "F":
        raise UnreadableImage("", "holds floating-point pixels; save it with 8 or 16 bits")
    if mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.size and (int(pixels.min()) < 0 or int(pixels.max()) > 65535):
            raise UnreadableImage("", "holds 32-bit pixels outside 0 to 65535; save it with 8 or 16 bits")
        return pixels.astype(np.uint16)[:, :, None]
    if mode == "1":
        return np.asarray(image.convert("L"))[:, :, None]
    if mode == "L" and "transparency" not in image.info:
        return np.asarray(image)[:, :, None]
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        pixels = _over_black(np.asarray(image.convert("RGBA")))
        return pixels[:, :, :1] if mode in GREY_MODES else pixels
    return np.asarray(image if mode == "RGB" else image.convert("RGB"))


def _over_black(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) with alpha -> (H, W, 3) laid over black, same type."""
    top = np.iinfo(rgba.dtype).max
    alpha = rgba[:, :, 3:].astype(np.float64) / top
    return np.rint(rgba[:, :, :3] * alpha).astype(rgba.dtype)


def _decode_colour16(data: bytes, image: "ImageFile") -> np.ndarray:
    """16-bit colour: Pillow unpacks one byte a sample, so the file is unpacked twice, as high and as low bytes."""
    modes = {_raw_mode(tile.args) for tile in image.tile}
    if modes == {"LA;16B"}:  # a pixel is 4 bytes, read as they are: grey high, grey low, alpha high, alpha low
        raw = _unpack(data, {"LA;16B": "RGBA"}).astype(np.uint16)
        grey, alpha = raw[:, :, :1] << 8 | raw[:, :, 1:2], raw[:, :, 2:3] << 8 | raw[:, :, 3:]
        return _over_black(np.concatenate([grey, grey, grey, alpha], axis=2))[:, :, :1]
    native, other = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    swapped: dict[str, str] = {}
    for kind in ("RGB", "RGBA", "RGBX"):
        swapped |= {f"{kind};16B": f"{kind};16L", f"{kind};16L": f"{kind};16B", f"{kind};16N": f"{kind};16{other}"}
    kept = {mode: mode.replace(";16N", f";16{native}") for mode in swapped}
    if not modes <= set(swapped):
        raise UnreadableImage("", f"16-bit colour stored as {', '.join(sorted(modes))} is not read; save it as PNG")
    pixels = _unpack(data, kept).astype(np.uint16) << 8 | _unpack(data, swapped)
    return _over_black(pixels) if image.mode == "RGBA" else pixels[:, :, :3]


def _unpack(data: bytes, raw_modes: Mapping[str, str]) -> np.ndarray:
    with _open(data) as image:
        image.tile = [
            tile._replace(
                args=(raw_modes[_raw_mode(tile.args)], *tile.args[1:])
                if isinstance(tile.args, tuple)
                else raw_modes[_raw_mode(tile.args)]
            )
            for tile in image.tile
        ]
        image.load()
        return np.asarray(image)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) turned as the Exif orientation 1 to 8 asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
