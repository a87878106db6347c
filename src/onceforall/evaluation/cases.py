"""Every case of a split on the grid of its own file: predicted, brought back there, measured and drawn.

    results/<split>-<name>-cases.csv     a line for each case: file, subject, and the numbers of `case_metrics`
    results/<split>-<name>-cases.png     the best, the median and the worst case over three planes

Networks are calibrated as for every evaluation. Where the files have the grid that the network's data are stored on,
the Dice is that of the fast evaluation; where volumes were resampled or cut, it is the one that counts.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onceforall.architecture import Architecture
from onceforall.data.dataset import DataSet
from onceforall.data.label_schemes import OUTSIDE
from onceforall.data.nifti import nifti_stem
from onceforall.data.volume_data import VolumeData
from onceforall.data.volumes import VolumeGeometry, network_volume, to_original
from onceforall.errors import UserError
from onceforall.evaluation.calibration import CalibrationRule
from onceforall.evaluation.evaluate import VOLUMES, calibrated_subnet
from onceforall.evaluation.exits import combine_exits, weights_of_exits
from onceforall.evaluation.overlays import OverlayCase, best_median_worst, draw_overlays
from onceforall.evaluation.segmentation import hard_masks
from onceforall.evaluation.tasks import Task
from onceforall.evaluation.volume_metrics import case_metrics, summarise_cases, write_cases_csv
from onceforall.supernets.supernet import Supernet

__all__ = ["case_rows", "case_table", "evaluate_cases", "overlay_cases", "worst_cases"]

NAMES = ("largest", "smallest", "best")  # networks of which every volume is measured


def evaluate_cases(
    supernet: Supernet,
    architectures: Mapping[str, Architecture],
    task: Task,
    data: DataSet,
    results: Path,
    *,
    split: str,
    calibration_images: int,
    calibration_rule: CalibrationRule,
    seed: int,
    exit_weights: Sequence[float] | None,
) -> dict[str, dict[str, Any]]:
    """Measure and draw every volume of `split` by the networks named "largest", "smallest" and "best".

    Args:
        supernet: on the device on which it is to work.
        architectures: by name.
        task: the segmentation that it was trained for.
        data: the volumes; of other data there are no cases, and nothing is done.
        results: the folder of the files; those of an earlier evaluation of the split are replaced.
        split: of the volumes.
        calibration_images, calibration_rule, seed, exit_weights: as for `evaluate`.

    Returns by name what `summarise_cases` returns, with the names of the files under `table` and `picture`; the latter
    is None without matplotlib and where no case has foreground.
    """
    if not isinstance(data, VolumeData):
        return {}
    weights = weights_of_exits(supernet.space, exit_weights)
    out, earlier = {}, set(results.glob(f"{split}-*-cases.*"))
    for name in (name for name in NAMES if name in architectures):
        architecture = architectures[name]
        if calibration_images:
            options = {"images": calibration_images, "rule": calibration_rule, "seed": seed}
            net = calibrated_subnet(supernet, architecture, data, **options)
        else:
            net = supernet.subnet(architecture).eval()
        own = None if weights is None else [weights[number] for number in architecture.exits]
        rows = case_rows(net, task, data, split, own)
        table, picture = (results / f"{split}-{name}-cases.{end}" for end in ("csv", "png"))
        cases = overlay_cases(net, task, data, split, [row["dice"] for row in rows], own)
        write_cases_csv(table, rows)
        picture.unlink(missing_ok=True)
        with contextlib.suppress(UserError):  # no matplotlib, or nothing to draw
            draw_overlays(picture, cases, data.scheme)
        files = {"table": table.name, "picture": picture.name if picture.is_file() else None}
        out[name] = {**files, **summarise_cases(rows, data.scheme)}
        earlier -= {table, picture}
    for file in earlier:
        file.unlink()
    return out


def case_rows(
    net: Supernet, task: Task, data: VolumeData, split: str, weights: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """The numbers of `case_metrics` for each case of `split`, on the grid of its file, behind its file and subject."""
    files, subjects = data.files(split), data.groups(split)
    rows = []
    for maps, _, index in _answers(net, task, data, split, np.arange(data.count(split)), weights):
        truth, _, spacing = data.original(split, index)
        masks = hard_masks(to_original(maps, data.geometry(split, index)), data.scheme)
        about = {"file": files[index], "subject": subjects[index]}
        rows.append(about | case_metrics(masks, truth, data.scheme, spacing))
    return rows


@torch.inference_mode()
def _answers(
    net: Supernet,
    task: Task,
    data: VolumeData,
    split: str,
    indices: np.ndarray,
    weights: Sequence[float] | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Of each case the probabilities (outputs, *grid), the label values (*box) as they are stored, and its index."""
    resolution, first = net.space.largest().resolution, next(net.parameters())
    numbers = iter(indices.tolist())
    for images, labels in data.batches(split, resolution, VOLUMES, indices, first.device, first.dtype):
        outputs = combine_exits(task.infer(net, images, resolution), weights).float()
        maps = task.to_probabilities(outputs).cpu().numpy()
        yield from zip(maps, labels.cpu().numpy(), islice(numbers, len(maps)), strict=True)


def overlay_cases(
    net: Supernet,
    task: Task,
    data: VolumeData,
    split: str,
    dice: Sequence[float],
    weights: Sequence[float] | None = None,
) -> list[OverlayCase]:
    """The best, the median and the worst case of `split` by their `dice`, for `draw_overlays`.

    They are drawn as they are stored: turned to the axes of the preparation, and without padding.
    """
    if all(math.isnan(score) for score in dice):
        return []
    titles: dict[int, str] = {}
    for title, index in best_median_worst(dice).items():
        titles[index] = f"{titles[index]}, {title}" if index in titles else title
    grid = data.preparation.box or net.space.largest().resolution
    chosen, files = np.array(list(titles)), data.files(split)
    cases = []
    answers = _answers(net, task, data, split, chosen, weights)
    for (images, _), (maps, labels, index) in zip(data.batches(split, grid, 1, chosen), answers, strict=True):
        inside = np.nonzero(labels != OUTSIDE)
        shown = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in inside)
        prediction = hard_masks(network_volume(maps, labels.shape), data.scheme)
        cases.append(
            OverlayCase(
                name=nifti_stem(files[index]),
                title=titles[index],
                image=images[0, 0].numpy()[shown],
                truth=labels[shown],
                prediction=prediction[(slice(None), *shown)],
                spacing=_stored_spacing(data.geometry(split, index)),
                dice=dice[index],
            )
        )
    return cases


def _stored_spacing(geometry: VolumeGeometry) -> list[float]:
    """Millimetres per voxel of the volume as it is stored."""
    own = [mm * step for mm, step in zip(geometry.oriented_spacing, geometry.step, strict=True)]
    if geometry.box is None or geometry.fit != "stretch":
        return own
    return [mm * size / room for mm, size, room in zip(own, geometry.size, geometry.box, strict=True)]


def case_table(cases: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows for people of what `evaluate_cases` returned, by names of networks; a row for each output."""
    head = ["network", "output", "Dice", "95 % interval", "HD95 mm, mean", "median", "missed", "invented", "absent"]
    rows = []
    for name, summary in cases.items():
        rows.append([name, "mean", *_with_interval(summary["dice"]), *[""] * 5])
        for output, found in summary["outputs"].items():
            distances = [_number(found["hd95_mm"][which], 2) for which in ("mean", "median")]
            counts = [str(found[word]) for word in ("missed", "invented", "absent")]
            rows.append([name, output, *_with_interval(found["dice"]), *distances, *counts])
    return head, rows


def worst_cases(summary: Mapping[str, Any]) -> str:
    """The cases with the lowest Dice, of what `evaluate_cases` returned of a network."""
    return ", ".join(f"{nifti_stem(case['file'])} {case['dice']:.3f}" for case in summary["worst"]) or "–"


def _with_interval(found: Mapping[str, Any]) -> tuple[str, str]:
    ends = [_number(found[end], 3) for end in ("low", "high")]
    return _number(found["mean"], 4), "–" if "–" in ends else f"{ends[0]} to {ends[1]}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
