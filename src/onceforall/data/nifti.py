"""NIfTI files: read with every defect named, written so that they are never half there."""

import gzip
import importlib
import math
import zlib
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.errors import UserError
from onceforall.files import write_atomically

__all__ = [
    "NIFTI_SUFFIXES",
    "UnreadableVolume",
    "nibabel",
    "nifti_stem",
    "read_labels",
    "read_nifti",
    "read_volume",
    "write_labels",
]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
HEADER_SIZES = (348, 540)  # bytes of a NIfTI-1 and a NIfTI-2 header, also their first number


@final
class UnreadableVolume(UserError):
    """A file that is not the volume it should be; `reason` says what is wrong with it and what to do."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}.")
        self.reason = reason


def nibabel() -> Any:
    """The library that reads NIfTI. Raises `UserError` where it is not installed."""
    try:
        return importlib.import_module("nibabel")
    except ImportError:
        raise UserError("NIfTI volumes need nibabel; install it by `pip install onceforall[medical]`.") from None


def nifti_stem(name: str) -> str:
    """The file's name without folders, `.nii` and `.gz`."""
    return name.rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(".nii")


def read_nifti(path: Path | str, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """The array of a file as it is stored (scaled, any number of dimensions) and its affine (4, 4) in mm.

    `name` stands for the path in errors. Raises `UnreadableVolume`: a missing file, something other than NIfTI, a
    damaged header, a truncated file, a spacing of zero.
    """
    library = nibabel()
    name = name or str(path)
    data = _content(Path(path), name)
    size = int.from_bytes(data[:4], "little")
    size = size if size in HEADER_SIZES else int.from_bytes(data[:4], "big")
    if size not in HEADER_SIZES or len(data) < size:
        raise UnreadableVolume(name, _what_else(data))
    kind = library.Nifti1Image if size == 348 else library.Nifti2Image
    wrong = library.spatialimages.HeaderDataError, library.filebasedimages.ImageFileError
    try:
        header = kind.header_class(data[:size], check=False)
        spacing = np.abs(header["pixdim"][1:4])
        image = kind.from_bytes(data)
        affine = np.asarray(image.affine, np.float64)
        if min(image.shape, default=0) < 1:
            raise ValueError(f"its shape is {image.shape}")
    except (*wrong, ValueError, OverflowError) as error:
        reason = f"has a damaged header ({error}); copy or download it again, or write it again as .nii or .nii.gz"
        raise UnreadableVolume(name, reason) from None
    if header["magic"].item().startswith(b"ni"):
        raise UnreadableVolume(name, "is one half of a pair .hdr and .img; write both as one .nii or .nii.gz")
    if not (np.isfinite(spacing).all() and (spacing > 0.0).all()):
        raise UnreadableVolume(name, f"has a spacing of {spacing.tolist()} mm; correct the header's pixdim")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UnreadableVolume(name, "has an affine with a spacing of zero; correct the header's sform and qform")
    try:
        if math.prod(image.shape) * header.get_data_dtype().itemsize > len(data):
            raise ValueError("fewer voxels than the header says")
        array = np.asanyarray(image.dataobj)
    except (OSError, ValueError, OverflowError, MemoryError):
        raise UnreadableVolume(name, "is truncated: voxels are missing at its end; copy or download it again") from None
    if array.dtype.fields is not None or array.dtype.kind == "c":
        raise UnreadableVolume(name, f"has voxels of type {array.dtype}; give one real number for each voxel")
    return array, affine


def read_volume(path: Path | str, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """A volume (C, X, Y, Z) float32 and its affine; a 3-D file has one channel, the fourth axis of a 4-D one is C.

    Raises `UnreadableVolume`, also for any other number of dimensions.
    """
    array, affine = read_nifti(path, name)
    if array.ndim not in (3, 4):
        raise UnreadableVolume(name or str(path), f"has {array.ndim} dimensions; give (X, Y, Z) or (X, Y, Z, channels)")
    array = array[..., None] if array.ndim == 3 else array
    return np.ascontiguousarray(np.moveaxis(array, -1, 0), np.float32), affine  # (C, X, Y, Z)


def read_labels(path: Path | str, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """A label volume (X, Y, Z) uint8 and its affine; whole numbers stored as floating-point numbers are accepted.

    Raises `UnreadableVolume`: not 3-D, a value that is no whole number of 0 to 254.
    """
    array, affine = read_nifti(path, name)
    name = name or str(path)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise UnreadableVolume(name, f"has {array.ndim} dimensions; give a label volume of three (X, Y, Z)")
    rounded = np.rint(array)
    if not np.isfinite(array).all() or np.abs(array - rounded).max(initial=0.0) > 1e-3:
        raise UnreadableVolume(name, "has label values that are no whole numbers; was it resampled linearly?")
    if rounded.min(initial=0) < 0 or rounded.max(initial=0) > 254:
        raise UnreadableVolume(name, f"has label values of {rounded.min():g} to {rounded.max():g}; allowed is 0 to 254")
    return np.ascontiguousarray(rounded.astype(np.uint8)), affine


def write_labels(path: Path, labels: np.ndarray, affine: np.ndarray) -> None:
    """Write (X, Y, Z) label values as uint8 NIfTI (`.nii` or `.nii.gz`); the file appears whole or not at all."""
    library = nibabel()
    data = library.Nifti1Image(np.ascontiguousarray(labels, np.uint8), affine).to_bytes()
    data = gzip.compress(data, 6, mtime=0) if path.name.endswith(".gz") else data
    write_atomically(path, lambda file: file.write(data))


def _content(path: Path, name: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableVolume(name, f"cannot be opened ({error.strerror})") from None
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        reason = "is a truncated or damaged .gz file; copy or download it again"
        raise UnreadableVolume(name, reason) from None


def _what_else(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if not data:
        return "is empty; copy or download it again"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is an HTML page, not a NIfTI file; download the file itself"
    if data[128:132] == b"DICM":
        return "is a DICOM file, not NIfTI; convert its series with dcm2niix"
    return "is no NIfTI file; write it again as .nii or .nii.gz"
