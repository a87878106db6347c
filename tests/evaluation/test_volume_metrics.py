"""Numbers of each case against brute force over voxels, MONAI, and volumes worked out by hand."""

import csv
import math

import numpy as np
import pytest
from scipy import stats

from onceforall.data.label_schemes import BRATS_REGIONS, LabelScheme
from onceforall.errors import UserError
from onceforall.evaluation.volume_metrics import case_metrics, hd95_mm, summarise_cases, write_cases_csv

CLASSES = LabelScheme("hippocampus", "softmax", ("background", "anterior", "posterior"), ((0,), (1,), (2,)))
SPACING = (0.9, 1.5, 3.0)


def blob(seed: int, shape=(7, 6, 5)) -> np.ndarray:
    """A few overlapping balls."""
    rng = np.random.default_rng(seed)
    grid = np.moveaxis(np.indices(shape), 0, -1)
    centres = rng.uniform(0, shape, (3, 3))
    return np.min([np.linalg.norm(grid - centre, axis=-1) for centre in centres], axis=0) < 2


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of the mask with one of six neighbours that is not in it, or not in the volume."""
    found = []
    for index in map(np.array, np.argwhere(mask)):
        neighbours = [index + step * np.eye(3, dtype=int)[axis] for axis in range(3) for step in (-1, 1)]
        inside = [bool((n >= 0).all() and (n < mask.shape).all() and mask[tuple(n)]) for n in neighbours]
        if not all(inside):
            found.append(index)
    return np.array(found)


def brute_force(prediction: np.ndarray, truth: np.ndarray, spacing) -> float:
    one, other = (surface(mask) * np.array(spacing) for mask in (prediction, truth))
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    return max(np.quantile(distances.min(axis), 0.95) for axis in (0, 1))


@pytest.mark.parametrize("seed", range(5))
def test_hd95_by_brute_force(seed):
    prediction, truth = blob(seed), blob(seed + 100)
    expected = brute_force(prediction, truth, SPACING)
    assert hd95_mm(prediction, truth, SPACING) == pytest.approx(expected, abs=1e-12)
    assert hd95_mm(truth, prediction, SPACING) == pytest.approx(expected, abs=1e-12)
    assert abs(expected - hd95_mm(prediction, truth, (1, 1, 1))) > 0.1, "spacing matters"
    assert hd95_mm(truth, truth, SPACING) == 0


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_hd95_is_that_of_monai():
    metrics = pytest.importorskip("monai.metrics")
    import torch

    for seed in range(5):
        pair = [torch.from_numpy(blob(number)[None, None]) for number in (seed, seed + 100)]
        expected = metrics.compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=SPACING)
        assert hd95_mm(blob(seed), blob(seed + 100), SPACING) == pytest.approx(float(expected), abs=1e-5)


def test_hd95_of_a_flat_shift():
    mask = np.zeros((8, 8, 8), bool)
    mask[2:4, 2:4, 2:4] = True
    assert hd95_mm(mask, np.roll(mask, 2, axis=2), SPACING) == pytest.approx(6.0), "two voxels of 3 mm"


def volumes() -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((4, 4, 4), np.int64)
    truth[0], truth[1, :2] = 1, 2  # 16 and 8 voxels
    prediction = truth.copy()
    prediction[0, 0] = 0  # 4 anterior voxels missed
    prediction[3, 3] = 2  # 4 posterior voxels invented
    return prediction, truth


def test_a_case_by_hand():
    prediction, truth = volumes()
    row = case_metrics(prediction, truth, CLASSES, (1.0, 2.0, 5.0))
    assert row["dice_anterior"] == pytest.approx(2 * 12 / (12 + 16))
    assert row["dice_posterior"] == pytest.approx(2 * 8 / (12 + 8))
    assert row["dice"] == pytest.approx((24 / 28 + 0.8) / 2)
    assert (row["truth_ml_anterior"], row["prediction_ml_anterior"]) == pytest.approx((0.16, 0.12))
    assert (row["truth_ml_posterior"], row["prediction_ml_posterior"]) == pytest.approx((0.08, 0.12))
    assert row["found_anterior"] == row["found_posterior"] == "yes"
    for name, value in (("anterior", 1), ("posterior", 2)):
        expected = brute_force(prediction == value, truth == value, (1, 2, 5))
        assert row[f"hd95_mm_{name}"] == pytest.approx(expected)


def test_a_structure_that_one_side_lacks():
    empty, full = np.zeros((3, 4, 5), np.int64), np.zeros((3, 4, 5), np.int64)
    full[1, 1, 1] = 1
    diagonal = math.sqrt((3 * 0.9) ** 2 + (4 * 1.5) ** 2 + (5 * 3.0) ** 2)
    missed, invented = case_metrics(empty, full, CLASSES, SPACING), case_metrics(full, empty, CLASSES, SPACING)
    for row, word in ((missed, "missed"), (invented, "invented")):
        assert row["dice_anterior"] == row["dice"] == 0
        assert row["hd95_mm_anterior"] == pytest.approx(diagonal) and row["found_anterior"] == word
        assert math.isnan(row["dice_posterior"]) and math.isnan(row["hd95_mm_posterior"])
        assert row["found_posterior"] == "absent"
    assert math.isnan(case_metrics(empty, empty, CLASSES, SPACING)["dice"])


def test_voxels_outside_count_nowhere():
    prediction, truth = volumes()
    truth[3] = 255
    row = case_metrics(prediction, truth, CLASSES, (1, 1, 1))
    assert row["dice_posterior"] == 1 and row["prediction_ml_posterior"] == pytest.approx(0.008)


def test_regions_from_labels_or_masks():
    truth = np.array([[[0, 1, 2, 3, 3]]])
    prediction = np.array([[[1, 1, 2, 2, 3]]])
    row = case_metrics(prediction, truth, BRATS_REGIONS, (1, 1, 1))
    found = [row[f"dice_{name}"] for name in BRATS_REGIONS.outputs]
    assert found == pytest.approx([8 / 9, 1, 2 / 3])
    masks = np.stack([prediction > 0, prediction > 1, prediction == 3])
    assert case_metrics(masks, truth, BRATS_REGIONS, (1, 1, 1)) == row


def test_wrong_arguments():
    prediction, truth = volumes()
    for spacing in ((1, 1), (1, 1, 0), (1, 1, math.nan)):
        with pytest.raises(UserError, match="give a positive number of mm for each of 3 axes"):
            case_metrics(prediction, truth, CLASSES, spacing)
    with pytest.raises(UserError, match="both must be on the grid of the labels"):
        case_metrics(prediction[:2], truth, CLASSES, (1, 1, 1))
    for call in (lambda: summarise_cases([], CLASSES), lambda: write_cases_csv("cases.csv", [])):
        with pytest.raises(UserError, match="there are no cases"):
            call()


def rows() -> list[dict]:
    prediction, truth = volumes()
    empty = np.zeros_like(truth)
    pairs = {"a": (prediction, truth), "b": (truth, truth), "c": (empty, truth), "d": (empty, empty)}
    return [{"file": name, **case_metrics(*pair, CLASSES, (1, 1, 1))} for name, pair in pairs.items()]


def test_summary():
    found = summarise_cases(rows(), CLASSES, worst=2)
    dice = np.array([(24 / 28 + 0.8) / 2, 1, 0])
    assert found["cases"] == 4
    assert found["dice"] == pytest.approx({"mean": dice.mean(), "low": 0, "high": 1}), "three cases say next to nothing"
    alike = [{**rows()[1], "dice": value} for value in (0.8, 0.82, 0.85, 0.9)]
    low, high = stats.t.interval(0.95, 3, 0.8425, stats.sem([0.8, 0.82, 0.85, 0.9]))
    assert summarise_cases(alike, CLASSES)["dice"] == pytest.approx({"mean": 0.8425, "low": low, "high": high})
    anterior = found["outputs"]["anterior"]
    assert anterior["dice"]["mean"] == pytest.approx((24 / 28 + 1 + 0) / 3)
    assert {word: anterior[word] for word in ("measured", "missed", "invented", "absent")} == {
        "measured": 3,
        "missed": 1,
        "invented": 0,
        "absent": 1,
    }
    distances = [brute_force(*(volume == 1 for volume in volumes()), (1, 1, 1)), 0, math.sqrt(48)]
    assert anterior["hd95_mm"] == pytest.approx({"mean": np.mean(distances), "median": np.median(distances)})
    assert found["worst"] == [{"file": "c", "dice": 0}, {"file": "a", "dice": pytest.approx(dice[0])}]


def test_nothing_measured():
    found = summarise_cases([rows()[3]], CLASSES)
    assert all(math.isnan(value) for value in found["dice"].values()) and found["worst"] == []
    assert math.isnan(found["outputs"]["anterior"]["hd95_mm"]["mean"])


def test_the_table_is_read_back(tmp_path):
    path = tmp_path / "new" / "cases.csv"
    write_cases_csv(path, rows())
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["file"] for line in table] == ["a", "b", "c", "d"]
    assert float(table[0]["dice_anterior"]) == pytest.approx(24 / 28, abs=1e-6)
    assert table[2]["found_anterior"] == "missed" and float(table[2]["hd95_mm_anterior"]) == pytest.approx(48**0.5)
    assert table[3]["dice"] == table[3]["hd95_mm_posterior"] == "" and table[3]["truth_ml_anterior"] == "0"
