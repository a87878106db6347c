"""Many files predicted, one after the other; what cannot be read is told at the end and stops nothing."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.data.decoding import UnreadableImage
from onceforall.data.nifti import UnreadableVolume, write_labels
from onceforall.errors import UserError, check_choice
from onceforall.files import write_json, write_text
from onceforall.predict.inputs import find_images, find_volumes, read_files
from onceforall.predict.predictor import Predictor

__all__ = ["FORMATS", "Predicted", "predict_files"]

FORMATS = {"image": ("csv", "json"), "volume": ("nifti",)}
"""What is written of images and of volumes; the first by default."""

Progress = Callable[[int, int], object]


@final
@dataclass(frozen=True)
class Predicted:
    """What `predict_files` did.

    Args:
        written: the files that it wrote.
        inputs: how many inputs there were.
        problems: what failed, a line each.
        seconds: of the clock, for reading, preparing, predicting and writing.
        network_seconds: of these, in which the network ran; of volumes none are told apart.
        answered_by: of a bundle of several parts how many images each part answered.
    """

    written: tuple[Path, ...]
    inputs: int
    problems: tuple[str, ...]
    seconds: float
    network_seconds: float | None = None
    answered_by: tuple[int, ...] = ()

    @property
    def per_second(self) -> float:
        """Inputs that were predicted in a second."""
        return (self.inputs - len(self.problems)) / self.seconds if self.seconds > 0 else 0.0


def predict_files(
    predictor: Predictor,
    paths: Sequence[str],
    out: Path,
    *,
    format: str | None = None,
    top: int = 3,
    batch: int = 16,
    progress: Progress = lambda done, total: None,
) -> Predicted:
    """Predict the files, folders and patterns in `paths` into the folder `out`.

    Of a volume x the labels are written to `x.nii.gz`, on the grid of its file. Images go into one table,
    `predictions.csv` or `predictions.json`, with the `top` most probable classes of each; `batch` of them go through
    the network at once. Every file is whole or not there at all. `progress` is told how many of how many inputs are
    done. Raises `UserError` where nothing can be predicted at all or nothing be written, and for a format that images
    or volumes are not written in.
    """
    kind = "volume" if predictor.segments else "image"
    format = format or FORMATS[kind][0]
    check_choice(f"format of a prediction for {kind}s", format, FORMATS[kind])
    if predictor.segments:
        return _predict_volumes(predictor, paths, out, progress)
    return _predict_images(predictor, paths, out, format, top, batch, progress)


def _predict_volumes(predictor: Predictor, paths: Sequence[str], out: Path, progress: Progress) -> Predicted:
    volumes = find_volumes(paths, out, predictor.channels)
    start = time.perf_counter()
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
    return Predicted(tuple(written), len(volumes), tuple(problems), time.perf_counter() - start)


def _labels(predictor: Predictor, file: Path, volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    try:
        return predictor.predict_volume(volume, affine)
    except UserError as error:
        raise UnreadableVolume(str(file), str(error).rstrip(".")) from error


def _predict_images(
    predictor: Predictor,
    paths: Sequence[str],
    out: Path,
    format: str,
    top: int,
    batch: int,
    progress: Progress,
) -> Predicted:
    files = find_images(paths, out)
    start, network_seconds = time.perf_counter(), 0.0
    answers: list[tuple[Path, np.ndarray, int]] = []
    problems: list[str] = []
    progress(0, len(files))
    for first in range(0, len(files), batch):
        inputs = []
        for file in files[first : first + batch]:
            try:
                inputs.append((file, predictor.prepare_image(file)))
            except UnreadableImage as error:
                problems.append(f"{error.name}: {error.reason}.")
            except UserError as error:
                problems.append(f"{file}: {error}")
        if inputs:
            before = time.perf_counter()
            probabilities, parts = predictor.classify(np.stack([prepared for _, prepared in inputs]))
            network_seconds += time.perf_counter() - before
            named = [file for file, _ in inputs]
            answers += zip(named, probabilities, map(int, parts), strict=True)
        progress(min(first + batch, len(files)), len(files))
    path = out / f"predictions.{format}"
    parts = len(predictor.info["parts"])
    rows = [_row(predictor, file, probabilities, top, part) for file, probabilities, part in answers]
    if format == "json":
        write_json(path, rows)
    else:
        write_text(path, _table(rows, min(top, len(predictor.classes))))
    counts = tuple(sum(part == number for _, _, part in answers) for number in range(parts)) if parts > 1 else ()
    seconds = time.perf_counter() - start
    return Predicted((path,), len(files), tuple(problems), seconds, network_seconds, counts)


def _row(predictor: Predictor, file: Path, probabilities: np.ndarray, top: int, part: int) -> dict[str, Any]:
    """The most probable classes of an image, the most probable first; of several parts also which one answered."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    classes = [{"class": predictor.classes[i], "probability": round(float(probabilities[i]), 6)} for i in order]
    return {"file": str(file), "classes": classes} | ({"part": part} if len(predictor.info["parts"]) > 1 else {})


def _table(rows: Sequence[dict[str, Any]], top: int) -> str:
    header = ["file", "class", "probability"]
    for place in range(2, top + 1):
        header += [f"class_{place}", f"probability_{place}"]
    with_parts = any("part" in row for row in rows)
    lines = [header + ["part"] * with_parts]
    for row in rows:
        cells = [text for each in row["classes"] for text in (each["class"], f"{each['probability']:.6f}")]
        lines.append([row["file"], *cells, *([row["part"]] if with_parts else [])])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
