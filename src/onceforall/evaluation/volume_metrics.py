"""How good a segmentation is on the grid of each volume: Dice, surface distance and volume, case by case.

Dice follows the rules of `onceforall.evaluation.segmentation`. HD95 is the larger of two 95th percentiles: of the
distances in mm from each surface voxel of the prediction to the nearest surface voxel of the truth, and of those from
truth to prediction. A surface voxel is one of the mask with a face neighbour outside of it or outside the volume. Where
only one of truth and prediction has a structure there is no distance: it counts as the diagonal of the volume, and
`found` says "missed" or "invented". A structure that neither has is "absent" and not measured (NaN).
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onceforall.data.label_schemes import OUTSIDE, LabelScheme
from onceforall.errors import UserError
from onceforall.evaluation.metrics import mean_interval, mean_of_known
from onceforall.evaluation.segmentation import dice_of_masks, true_masks
from onceforall.files import write_text

__all__ = ["case_metrics", "hd95_mm", "summarise_cases", "write_cases_csv"]

Row = Mapping[str, Any]


def case_metrics(
    prediction: np.ndarray, truth: np.ndarray, scheme: LabelScheme, spacing: Sequence[float]
) -> dict[str, Any]:
    """The numbers of one case; for each foreground output those named `..._<output>`.

    - `dice`: mean over the measured outputs; `dice_<output>`: hard Dice, NaN where nothing was measured.
    - `hd95_mm_<output>`: the 95 % surface distance, the diagonal of the volume where there is none, NaN where absent.
    - `found_<output>`: "yes" (truth and prediction have it), "missed", "invented" or "absent".
    - `truth_ml_<output>`, `prediction_ml_<output>`: volumes in millilitres.

    Args:
        prediction: label values on the truth's grid, or masks (foreground outputs, *grid) of bool for regions that
            overlap.
        truth: (*grid) label values; where they are 255 nothing is counted.
        scheme: what the values mean.
        spacing: size of a voxel along each axis in mm.
    """
    if len(spacing) != truth.ndim or not all(0 < size < math.inf for size in spacing):
        raise UserError(f"spacing {tuple(spacing)!r}: give a positive number of mm for each of {truth.ndim} axes.")
    masks = prediction if prediction.dtype == np.bool_ else true_masks(prediction, scheme)
    wanted = true_masks(truth, scheme)
    if masks.shape != wanted.shape:
        raise UserError(
            f"a prediction of {prediction.shape} for labels of {truth.shape}: both must be on the grid of the labels."
        )
    masks = masks & (truth != OUTSIDE)
    dice, voxel_ml = dice_of_masks(masks, wanted), math.prod(spacing) / 1000
    row: dict[str, Any] = {"dice": mean_of_known(dice)}
    for i, name in enumerate(scheme.foreground):
        row |= {
            f"dice_{name}": float(dice[i]),
            f"hd95_mm_{name}": hd95_mm(masks[i], wanted[i], spacing),
            f"found_{name}": _found(bool(masks[i].any()), bool(wanted[i].any())),
            f"truth_ml_{name}": float(wanted[i].sum() * voxel_ml),
            f"prediction_ml_{name}": float(masks[i].sum() * voxel_ml),
        }
    return row


def _found(predicted: bool, true: bool) -> str:
    if predicted == true:
        return "yes" if true else "absent"
    return "missed" if true else "invented"


def hd95_mm(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """The 95 % surface distance of two masks (*grid) of bool in mm, by the module's rule."""
    if not prediction.any() and not truth.any():
        return math.nan
    if not prediction.any() or not truth.any():
        return float(np.linalg.norm(np.multiply(truth.shape, spacing)))
    from scipy.spatial import KDTree

    ours, theirs = (_surface(mask) * np.asarray(spacing, np.float64) for mask in (prediction, truth))
    to_truth, to_prediction = KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]
    return float(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)))


def _surface(mask: np.ndarray) -> np.ndarray:
    """(surface voxels, axes) indices."""
    from scipy.ndimage import binary_erosion

    return np.argwhere(mask & np.logical_not(binary_erosion(mask)))  # outside the volume counts as outside the mask


def write_cases_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write one line for each case, with the columns of the first; what was not measured is empty.

    Numbers keep six significant digits.
    """
    if not rows:
        raise UserError("there are no cases to write.")
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, out.getvalue())


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def summarise_cases(rows: Sequence[Row], scheme: LabelScheme, *, worst: int = 5) -> dict[str, Any]:
    """What the rows of `case_metrics`, each with its `file`, show together; JSON types.

    - `cases`: how many; `dice`: mean over cases with its 95 % t-interval, cut off at 0 and 1.
    - `outputs`: for each foreground output `dice` likewise, `hd95_mm` (mean and median, a miss counted as the
      diagonal), and how many cases were `measured`, `missed`, `invented` and `absent`.
    - `worst`: files and Dice of the cases with the lowest Dice, the lowest first.

    A number that was not measured is NaN. The interval is for other independent cases of the same kind.
    """
    if not rows:
        raise UserError("there are no cases to sum up.")
    judged = sorted((row for row in rows if not math.isnan(row["dice"])), key=lambda row: row["dice"])
    return {
        "cases": len(rows),
        "dice": _mean_with_interval([row["dice"] for row in rows]),
        "outputs": {name: _summarise_output(rows, name) for name in scheme.foreground},
        "worst": [{"file": row["file"], "dice": row["dice"]} for row in judged[:worst]],
    }


def _summarise_output(rows: Sequence[Row], name: str) -> dict[str, Any]:
    found = [row[f"found_{name}"] for row in rows]
    distances = [row[f"hd95_mm_{name}"] for row in rows if not math.isnan(row[f"hd95_mm_{name}"])]
    return {
        "dice": _mean_with_interval([row[f"dice_{name}"] for row in rows]),
        "hd95_mm": {
            "mean": float(np.mean(distances)) if distances else math.nan,
            "median": float(np.median(distances)) if distances else math.nan,
        },
        "measured": len(distances),
        **{word: found.count(word) for word in ("missed", "invented", "absent")},
    }


def _mean_with_interval(values: Sequence[float]) -> dict[str, float]:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return dict.fromkeys(("mean", "low", "high"), math.nan)
    low, high = np.clip(mean_interval(known), 0, 1)  # Dice cannot be outside
    return {"mean": float(np.mean(known)), "low": float(low), "high": float(high)}
