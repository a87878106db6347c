"""Many files predicted, one after the other; what cannot be read is told at the end and stops nothing."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from onceforall.data.decoding import UnreadableImage
from onceforall.data.nifti import UnreadableVolume, write_labels
from onceforall.errors import UserError
from onceforall.files import write_text
from onceforall.predict.inputs import find_images, find_volumes, read_files
from onceforall.predict.predictor import Predictor

__all__ = ["Predicted", "predict_files"]

TABLE = "predictions.csv"


@final
@dataclass(frozen=True)
class Predicted:
    """What `predict_files` did: the files that it wrote, how many inputs there were, and what failed, a line each."""

    written: tuple[Path, ...]
    inputs: int
    problems: tuple[str, ...]


def predict_files(
    predictor: Predictor,
    paths: Sequence[str],
    out: Path,
    *,
    top: int = 3,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Predicted:
    """Predict the files, folders and patterns in `paths` into the folder `out`.

    Of a volume x the labels are written to `x.nii.gz`, on the grid of its file. Images go into one table,
    `predictions.csv`, with the `top` most probable classes of each. Every file is whole or not there at all.
    `progress` is told how many of how many inputs are done. Raises `UserError` where nothing can be predicted at all
    or nothing be written.
    """
    if predictor.segments:
        return _predict_volumes(predictor, paths, out, progress)
    return _predict_images(predictor, paths, out, top, progress)


def _predict_volumes(
    predictor: Predictor, paths: Sequence[str], out: Path, progress: Callable[[int, int], object]
) -> Predicted:
    volumes = find_volumes(paths, out, predictor.channels)
    written, problems = [], []
    progress(0, len(volumes))
    for done, volume in enumerate(volumes, start=1):
        try:
            array, affine = read_files(volume, predictor.channels)
            labels = _labels(predictor, volume.files[0], array, affine)
        except UserError as error:
            problems.append(str(error))
        else:
            target = out / f"{volume.name}.nii.gz"
            write_labels(target, labels, affine)
            written.append(target)
        progress(done, len(volumes))
    return Predicted(tuple(written), len(volumes), tuple(problems))


def _labels(predictor: Predictor, file: Path, volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    try:
        return predictor.predict_volume(volume, affine)
    except UserError as error:
        raise UnreadableVolume(str(file), str(error).rstrip(".")) from error


def _predict_images(
    predictor: Predictor, paths: Sequence[str], out: Path, top: int, progress: Callable[[int, int], object]
) -> Predicted:
    files = find_images(paths, out)
    rows, problems = [], []
    progress(0, len(files))
    for done, file in enumerate(files, start=1):
        try:
            rows.append([str(file), *_best(predictor, predictor.predict_image(file), top)])
        except UnreadableImage as error:
            problems.append(f"{error.name}: {error.reason}.")
        except UserError as error:
            problems.append(f"{file}: {error}")
        progress(done, len(files))
    header = ["file", "class", "probability"]
    for place in range(2, min(top, len(predictor.classes)) + 1):
        header += [f"class_{place}", f"probability_{place}"]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(out / TABLE, text.getvalue())
    return Predicted((out / TABLE,), len(files), tuple(problems))


def _best(predictor: Predictor, probabilities: np.ndarray, top: int) -> list[str]:
    """Name and probability of the most probable classes, the most probable first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [text for i in order for text in (predictor.classes[i], f"{probabilities[i]:.6f}")]
