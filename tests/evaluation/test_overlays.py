"""Pictures of volumes: which slice, which case, and which colours stand where; the picture is read back."""

import math
import sys

import numpy as np
import pytest

from onceforall.data.label_schemes import LabelScheme
from onceforall.errors import UserError
from onceforall.evaluation import overlays
from onceforall.evaluation.overlays import COLOURS, OverlayCase, best_median_worst, draw_overlays

CLASSES = LabelScheme("hippocampus", "softmax", ("background", "anterior", "posterior"), ((0,), (1,), (2,)))


def case(name="case_1", truth=True, prediction=True) -> OverlayCase:
    labels = np.zeros((12, 16, 10), np.int64)
    labels[3:7, 4:12, 2:6], labels[4:6, 5:8, 6:9] = 1, 2
    empty = np.zeros_like(labels)
    image = np.random.default_rng(0).normal(size=labels.shape)
    found = np.roll(labels, 1, axis=1) if prediction else empty
    return OverlayCase(name, "best", image, labels if truth else empty, found, (1.0, 1.0, 2.0), 0.876)


def colours_of(path) -> np.ndarray:
    """(pixels, 3) of 0 to 255."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).reshape(-1, 3)


def counts(path, colour: str) -> int:
    """How many pixels are nearly of a colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(colours_of(path).astype(int) - wanted).max(1) < 12).sum())


def test_best_median_and_worst():
    assert best_median_worst([0.8, 0.9, 0.5, 0.7, math.nan]) == {"best": 1, "median": 3, "worst": 2}
    assert best_median_worst([0.5, 0.5, 0.5]) == {"best": 0, "median": 1, "worst": 0}
    assert best_median_worst([math.nan, 0.1]) == {"best": 1, "median": 1, "worst": 1}
    with pytest.raises(UserError, match="no case with a score"):
        best_median_worst([math.nan])


def test_the_largest_section():
    masks = np.zeros((2, 5, 6, 7), bool)
    masks[0, 1, :2, :2], masks[1, 3, :2, :3] = True, True
    none = np.zeros_like(masks)
    assert [overlays._largest_section(masks, none, axis) for axis in range(3)] == [3, 0, 0]
    assert overlays._largest_section(none, masks, 0) == 3
    assert [overlays._largest_section(none, none, axis) for axis in range(3)] == [2, 3, 3]


def test_truth_and_prediction_are_in_the_picture(tmp_path):
    one = draw_overlays(tmp_path / "pictures" / "one.png", [case()], CLASSES)
    assert one.is_file() and [file.name for file in one.parent.iterdir()] == ["one.png"]
    neither = draw_overlays(tmp_path / "neither.png", [case(truth=False, prediction=False)], CLASSES)
    only = draw_overlays(tmp_path / "only.png", [case(truth=False)], CLASSES)
    for colour in COLOURS[:2]:
        legend = counts(neither, colour)
        assert 0 < legend < counts(only, colour) < counts(one, colour)
    assert not counts(one, COLOURS[2])


def test_letters_names_and_sides(monkeypatch, tmp_path):
    """What is written and shown, taken from the figure as it is saved."""
    from matplotlib.figure import Figure

    written, shown, save = [], [], Figure.savefig

    def noting(figure, *args, **options):
        for axes in figure.axes:
            written.append((axes.get_title(), [text.get_text() for text in axes.texts], axes.get_ylabel()))
            shown.append((axes.images[0].get_array(), axes.xaxis_inverted(), axes.yaxis_inverted()))
        return save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", noting)
    draw_overlays(tmp_path / "one.png", [case()], CLASSES)
    # most foreground: z = 2..5 (32 voxels each), y = 5..7 (16 + 6), x = 4, 5 (32 + 9)
    assert written == [
        ("axial, slice 2", ["R", "L", "P", "A"], "best\ncase_1\nDice 0.876"),
        ("coronal, slice 5", ["R", "L", "I", "S"], ""),
        ("sagittal, slice 4", ["P", "A", "I", "S"], ""),
    ]
    image = case().image  # numbers grow to the right, the front and the top; x is drawn to the left
    for (found, *inverted), expected, mirrored in zip(
        shown, (image[:, :, 2], image[:, 5, :], image[4]), (True, True, False), strict=True
    ):
        np.testing.assert_array_equal(found, expected.T)
        assert inverted == [mirrored, False]


def test_a_row_for_each_case(tmp_path):
    from PIL import Image

    heights = []
    for count in (1, 2):
        path = draw_overlays(tmp_path / f"{count}.png", [case(str(i)) for i in range(count)], CLASSES)
        with Image.open(path) as picture:
            heights.append(picture.height)
    assert heights[1] - heights[0] == pytest.approx(3.3 * 130, abs=1)


def test_wrong_arguments(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no case to draw"):
        draw_overlays(tmp_path / "x.png", [], CLASSES)
    flat = OverlayCase("flat", "best", np.zeros((4, 4)), np.zeros((4, 4), int), np.zeros((4, 4), int), (1, 1), 0.1)
    with pytest.raises(UserError, match=r"flat: image \(4, 4\) .* are not one volume"):
        draw_overlays(tmp_path / "x.png", [flat], CLASSES)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'onceforall\[report\]'"):
        draw_overlays(tmp_path / "x.png", [case()], CLASSES)
    assert not list(tmp_path.iterdir())
