"""Losses, distances and Dice of maps against numpy and MONAI, and a small 3-D network through the whole evaluation."""

import math
import random
import sys
from typing import final

import numpy as np
import pytest
import torch
from torch import nn

from onceforall.choices import BlockChoices, StageChoices
from onceforall.data.label_schemes import BRATS_REGIONS, LabelScheme
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import calibrated_subnet, calibration_batches, evaluate
from onceforall.evaluation.result_cache import ResultCache
from onceforall.evaluation.segmentation import dice_of_masks, hard_masks, segmentation, sliding_windows
from onceforall.layers.elastic import Cost, ElasticBatchNorm, ElasticConv
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet

CLASSES = LabelScheme("hippocampus", "softmax", ("background", "anterior", "posterior"), ((0,), (1,), (2,)))
MERGED = LabelScheme("merged", "softmax", ("background", "front", "back"), ((0, 4), (1, 3), (2,)))
SCHEMES = {"classes": CLASSES, "merged": MERGED, "regions": BRATS_REGIONS}
GRID = (3, 5, 4)
RNG = np.random.default_rng(0)
OUTPUTS = RNG.normal(size=(2, 3, *GRID)) * 2
TEACHER = RNG.normal(size=(2, 3, *GRID)) * 2
LABELS = RNG.integers(0, 4, (2, *GRID))
LABELS[0, 0] = 255


def t(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def one_hot(labels: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """(n, outputs, *grid) of 0 and 1, voxel by voxel from the members; what no class names is background."""
    out = np.zeros((len(labels), scheme.num_outputs, *labels.shape[1:]))
    for index in np.ndindex(labels.shape):
        case, place = index[0], index[1:]
        for i, values in enumerate(scheme.members):
            out[(case, i, *place)] = labels[index] in values
        if scheme.kind == "softmax" and not out[(case, slice(None), *place)].any():
            out[(case, 0, *place)] = 1
    return out


def expected_loss(outputs, labels, scheme, loss, dice):
    truth, regions = one_hot(labels, scheme), scheme.kind == "regions"
    p = sigmoid(outputs) if regions else np.exp(log_softmax(outputs))
    first = 0 if regions else 1
    axes = (0, 2, 3, 4) if dice == "batch" else (2, 3, 4)
    both, sums = (p * truth).sum(axes), p.sum(axes) + truth.sum(axes)
    value = ((1 - (2 * both + 1e-5) / (sums + 1e-5))[..., first:]).mean()
    if loss == "dice":
        return value
    if regions:
        return value - (truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    return value - (truth * log_softmax(outputs)).sum(1).mean()


@pytest.mark.parametrize("dice", ["batch", "sample"])
@pytest.mark.parametrize("loss", ["dice", "dice_ce"])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_loss(scheme, loss, dice):
    task = segmentation(scheme, loss=loss, dice=dice)
    expected = expected_loss(OUTPUTS, LABELS, scheme, loss, dice)
    assert float(task.loss(t(OUTPUTS), t(LABELS))) == pytest.approx(expected, abs=1e-12)
    other = segmentation(scheme, loss=loss, dice={"batch": "sample", "sample": "batch"}[dice])
    assert abs(float(other.loss(t(OUTPUTS), t(LABELS))) - expected) > 1e-5, "the two kinds of Dice differ"


@pytest.mark.parametrize("batch", [True, False])
def test_loss_is_that_of_monai(batch):
    losses = pytest.importorskip("monai.losses")
    labels = np.where(LABELS > 2, 0, LABELS)
    options = {"include_background": False, "batch": batch, "smooth_nr": 1e-5, "smooth_dr": 1e-5}
    dice = "batch" if batch else "sample"
    own = segmentation(CLASSES, dice=dice).loss(t(OUTPUTS), t(labels))
    theirs = losses.DiceLoss(softmax=True, to_onehot_y=True, **options)(t(OUTPUTS), t(labels)[:, None])
    theirs = theirs + nn.functional.cross_entropy(t(OUTPUTS), t(labels))
    assert float(own) == pytest.approx(float(theirs), abs=1e-6)
    truth = t(one_hot(LABELS, BRATS_REGIONS))
    own = segmentation(BRATS_REGIONS, loss="dice", dice=dice).loss(t(OUTPUTS), t(LABELS))
    theirs = losses.DiceLoss(sigmoid=True, **(options | {"include_background": True}))(t(OUTPUTS), truth)
    assert float(own) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("loss", ["dice", "dice_ce"])
def test_descending_the_loss_finds_the_truth(scheme, loss):
    task = segmentation(scheme, loss=loss)
    outputs = t(OUTPUTS).clone().requires_grad_()
    optimizer = torch.optim.Adam([outputs], 0.3)
    first = float(task.loss(outputs.detach(), t(LABELS)))
    for _ in range(120):
        optimizer.zero_grad()
        task.loss(outputs, t(LABELS)).backward()
        optimizer.step()
    assert float(task.loss(outputs.detach(), t(LABELS))) < 0.02 < 0.3 < first
    found = task.to_probabilities(outputs.detach()).numpy()
    assert task.measure([(found, LABELS)])["dice"] == 1


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_what_lies_outside_is_background_for_the_loss_and_nothing_for_the_metrics(scheme):
    task = segmentation(scheme)
    filled = np.where(LABELS == 255, 0, LABELS)
    assert float(task.loss(t(OUTPUTS), t(LABELS))) == float(task.loss(t(OUTPUTS), t(filled)))
    changed = OUTPUTS.copy()
    changed[0, :, 0] = RNG.normal(size=changed[0, :, 0].shape) * 9
    one, other = (task.to_probabilities(t(outputs)).numpy() for outputs in (OUTPUTS, changed))
    assert task.measure([(one, LABELS)]) == task.measure([(other, LABELS)])
    assert task.measure([(one, filled)]) != task.measure([(other, filled)]), "there it would count"
    np.testing.assert_array_equal(task.per_image(one, LABELS), task.per_image(other, LABELS))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("value", [0, 255, 1])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_empty_and_full_masks_give_finite_numbers(scheme, value, scale):
    labels = np.full_like(LABELS, value)
    for options in ({}, {"loss": "dice", "dice": "sample", "distance": "kl"}):
        task = segmentation(scheme, **options)
        outputs = (t(OUTPUTS).float() * scale).requires_grad_()
        total = task.loss(outputs, t(labels)) + task.distance(outputs, -scale * t(TEACHER).float())
        total.backward()
        assert total.isfinite() and outputs.grad.isfinite().all()


def linear(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Linear interpolation along an axis; both grids cover the same box, and beyond the last centre nothing changes."""
    have = x.shape[axis]
    places = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(have)))
    return np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)


def on_grid(x: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    for axis, size in enumerate(grid, start=2):
        x = linear(x, size, axis)
    return x


FINE = (6, 7, 9)
FINE_LABELS = RNG.integers(0, 4, (2, *FINE))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_finer_grid_of_labels(scheme):
    task = segmentation(scheme)
    expected = expected_loss(on_grid(OUTPUTS, FINE), FINE_LABELS, scheme, "dice_ce", "batch")
    assert float(task.loss(t(OUTPUTS), t(FINE_LABELS))) == pytest.approx(expected, abs=1e-12)
    probabilities = task.to_probabilities(t(OUTPUTS)).numpy()
    found = task.measure([(probabilities, FINE_LABELS)])
    assert found == pytest.approx(task.measure([(on_grid(probabilities, FINE), FINE_LABELS)]), abs=1e-12)
    flat = segmentation(CLASSES).loss(t(OUTPUTS[..., 0]), t(FINE_LABELS[:, 0]))
    assert flat.isfinite(), "in two dimensions as well"


def test_bfloat16_is_computed_in_float32():
    outputs, teacher = t(OUTPUTS).bfloat16(), t(TEACHER).bfloat16()
    for scheme in SCHEMES.values():
        for distance in ("mse", "kl"):
            task = segmentation(scheme, distance=distance)
            with torch.autocast("cpu", torch.bfloat16):
                low = task.loss(outputs, t(LABELS)), task.distance(outputs, teacher)
            high = task.loss(outputs.double(), t(LABELS)), task.distance(outputs.double(), teacher.double())
            for one, other in zip(low, high, strict=True):
                assert one.dtype == torch.float32 and float(one) == pytest.approx(float(other), rel=1e-5)


# -- distances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("scheme", [CLASSES, BRATS_REGIONS], ids=["classes", "regions"])
def test_divergence_of_probabilities(scheme, temperature):
    """T^2 sum p_teacher log(p_teacher / p_student), summed over classes or over region and rest."""
    if scheme.kind == "regions":
        pairs = (sigmoid(x / temperature) for x in (OUTPUTS, TEACHER))
        student, teacher = (np.stack([p, 1 - p]) for p in pairs)
        expected = (teacher * np.log(teacher / student)).sum(0).mean()
    else:
        student, teacher = (log_softmax(x / temperature) for x in (OUTPUTS, TEACHER))
        expected = (np.exp(teacher) * (teacher - student)).sum(1).mean()
    task = segmentation(scheme, distance="kl", temperature=temperature)
    assert float(task.distance(t(OUTPUTS), t(TEACHER))) == pytest.approx(temperature**2 * expected, abs=1e-12)
    student = t(TEACHER).clone().requires_grad_()
    task.distance(student, t(TEACHER)).backward()
    assert float(student.grad.abs().max()) < 1e-12, "smallest at the teacher"


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_squared_difference_is_that_of_raw_outputs_whatever_the_temperature(temperature):
    task = segmentation(CLASSES, temperature=temperature)
    expected = ((OUTPUTS - TEACHER) ** 2).mean()
    assert float(task.distance(t(OUTPUTS), t(TEACHER))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", ["mse", "kl"])
@pytest.mark.parametrize("scheme", [CLASSES, BRATS_REGIONS], ids=["classes", "regions"])
def test_a_teacher_on_another_grid_is_met_on_the_finer_one(scheme, distance):
    task = segmentation(scheme, distance=distance)
    fine = RNG.normal(size=(2, 3, *FINE))
    expected = float(task.distance(t(on_grid(OUTPUTS, FINE)), t(fine)))
    assert float(task.distance(t(OUTPUTS), t(fine))) == pytest.approx(expected, abs=1e-12)
    expected = float(task.distance(t(fine), t(on_grid(OUTPUTS, FINE))))
    assert float(task.distance(t(fine), t(OUTPUTS))) == pytest.approx(expected, abs=1e-12)


# -- metrics ----------------------------------------------------------------------------------------------------------


def by_counting(probabilities: np.ndarray, labels: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """(cases, foreground outputs) Dice from sets of voxels."""
    first = 0 if scheme.kind == "regions" else 1
    table = np.full((len(labels), scheme.num_outputs - first), np.nan)
    for case, column in np.ndindex(table.shape):
        output = column + first
        inside = [index for index in np.ndindex(labels[case].shape) if labels[case][index] != 255]
        truth = {index for index in inside if labels[case][index] in scheme.members[output]}
        if first:
            chosen = {index for index in inside if probabilities[case][(slice(None), *index)].argmax() == output}
        else:
            chosen = {index for index in inside if probabilities[case][(output, *index)] >= 0.5}
        if truth or chosen:
            table[case, column] = 2 * len(truth & chosen) / (len(truth) + len(chosen))
    return table


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_hard_dice_is_counted(scheme):
    task = segmentation(scheme)
    labels = np.where(LABELS > 1, 0, LABELS)  # only the value 1 is left
    labels[1] = 0
    outputs = OUTPUTS.copy()
    outputs[1, :, :] = np.array([1, -4, 3] if scheme is CLASSES else [-4, -4, -4])[:, None, None, None]
    probabilities = task.to_probabilities(t(outputs).float()).numpy()
    for truth in (LABELS, labels):
        table = by_counting(probabilities, truth, scheme)
        found = task.measure([(probabilities[:1], truth[:1]), (probabilities[1:], truth[1:])])
        cases = np.array([row[~np.isnan(row)].mean() if (~np.isnan(row)).any() else np.nan for row in table])
        np.testing.assert_allclose(task.per_image(probabilities, truth), cases, atol=1e-12)
        assert found["dice"] == pytest.approx(cases[~np.isnan(cases)].mean(), abs=1e-12)
        for name, column in zip(scheme.foreground, table.T, strict=True):
            known = column[~np.isnan(column)]
            expected = known.mean() if len(known) else math.nan
            assert found[f"dice_{name}"] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    table = by_counting(probabilities, labels, scheme)
    if scheme is CLASSES:
        assert np.isnan(table[1, 0]) and table[1, 1] == 0, "neither has it: not measured; invented: 0"
    if scheme is BRATS_REGIONS:
        assert np.isnan(task.per_image(probabilities, labels)[1]), "a case without any structure is not judged"


def test_hard_dice_is_that_of_monai():
    metrics = pytest.importorskip("monai.metrics")
    labels = np.where(LABELS > 2, 0, LABELS)
    probabilities = np.exp(log_softmax(OUTPUTS))
    chosen = np.eye(3)[probabilities.argmax(1)].transpose(0, 4, 1, 2, 3)
    expected = metrics.compute_dice(t(chosen), t(one_hot(labels, CLASSES)), include_background=False)
    found = segmentation(CLASSES).measure([(probabilities, labels)])
    assert found["dice"] == pytest.approx(float(expected.mean()), abs=1e-6)
    assert found["dice_posterior"] == pytest.approx(float(expected[:, 1].mean()), abs=1e-6)


def test_soft_dice_is_the_mean_over_cases_and_outputs():
    """2 sum(p t) / (sum(p) + sum(t)) with 1e-5 above and below (prox_spec 4.1)."""
    labels = np.where(LABELS > 2, 0, LABELS)
    probabilities, truth = np.exp(log_softmax(OUTPUTS)), one_hot(labels, CLASSES)
    axes = (2, 3, 4)
    dice = (2 * (probabilities * truth).sum(axes) + 1e-5) / (probabilities.sum(axes) + truth.sum(axes) + 1e-5)
    found = segmentation(CLASSES).measure([(probabilities, labels)])
    assert found["soft_dice"] == pytest.approx(dice[:, 1:].mean(), abs=1e-12)


def test_the_threshold_of_regions_and_equal_probabilities():
    half = np.array([[[0.5, 0.4999, 0.51]], [[0.5, 0.5, 0.2]], [[0.0, 1.0, 0.5]]])  # (outputs, 1, 3)
    expected = [[[True, False, True]], [[True, True, False]], [[False, True, True]]]
    assert hard_masks(half, BRATS_REGIONS).tolist() == expected
    assert hard_masks(half, CLASSES).tolist() == [[[False, False, False]], [[False, True, False]]]


def test_dice_of_masks():
    prediction = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    truth = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(dice_of_masks(prediction, truth), [0.5, np.nan, 0, 0])


def test_cases_of_different_sizes_are_measured_one_by_one():
    task = segmentation(CLASSES)
    probabilities = np.exp(log_softmax(OUTPUTS))
    other = np.exp(log_softmax(RNG.normal(size=(1, 3, *FINE))))
    alone = [task.per_image(*batch) for batch in ((probabilities, LABELS), (other, FINE_LABELS[:1]))]
    found = task.measure([(probabilities, LABELS), (other, FINE_LABELS[:1])])
    assert found["dice"] == pytest.approx(np.concatenate(alone).mean(), abs=1e-12)


def test_wrong_arguments():
    for options, message in (
        ({"loss": "dicee"}, "Did you mean 'dice'"),
        ({"dice": "case"}, "dice 'case'"),
        ({"distance": "soft_targets"}, "distance 'soft_targets'"),
        ({"temperature": 0}, "temperature 0: must be positive"),
    ):
        with pytest.raises(UserError, match=message):
            segmentation(CLASSES, **options)
    task = segmentation(CLASSES)
    with pytest.raises(UserError, match="the network has 2 outputs and the label scheme 'hippocampus' 3"):
        task.loss(t(OUTPUTS[:, :2]), t(LABELS))
    with pytest.raises(UserError, match="give one label map"):
        task.loss(t(OUTPUTS), t(LABELS[:, 0]))
    with pytest.raises(UserError, match="there are no cases"):
        task.measure([])
    broken = np.exp(log_softmax(OUTPUTS))
    broken[0, 0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="did the network diverge"):
        task.measure([(broken, LABELS)])


# -- windows ----------------------------------------------------------------------------------------------------------


class Asked(nn.Module):
    """Answers with the numbers of the positions along the last axis and remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.images = []

    def forward(self, images):
        self.images.append(images)
        return torch.arange(images.shape[-1], dtype=images.dtype).expand(len(images), 2, *images.shape[2:]).clone()


def test_an_image_on_the_grid_of_the_network_is_answered_in_one_pass(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.inferers.utils", None)  # MONAI is not needed
    for images, resolution in ((torch.zeros(2, 1, 4, 4, 4), 4), (torch.zeros(2, 1, 4, 6), (4, 6))):
        network = Asked()
        assert torch.equal(sliding_windows(network, images, resolution), network(images))
        assert network.images[0] is images
    with pytest.raises(UserError, match=r"windows need MONAI \(pip install 'onceforall\[medical\]'\)"):
        sliding_windows(Asked(), torch.zeros(1, 1, 4, 6), 4)


def test_windows_overlap_by_half_and_count_most_in_their_middle():
    pytest.importorskip("monai")
    network = Asked()
    answer = sliding_windows(network, torch.zeros(1, 1, 4, 6), (4, 4))
    assert [tuple(images.shape[1:]) for images in network.images] == [(1, 4, 4)]
    assert sum(map(len, network.images)) == 2, "windows begin at 0 and 2"
    row = answer[0, 0, 1]  # at the edges MONAI keeps weights above a thousandth
    assert answer.shape == (1, 2, 4, 6) and torch.equal(answer[0, 1, 2], row)
    np.testing.assert_allclose(row[[0, 1, 4, 5]], [0, 1, 2, 3], atol=1e-6)
    # a Gaussian of 4 / 8 = 0.5 about the middle of a window; at position 2 the windows say 2 and 0, at 3 3 and 1
    near, far = math.exp(-((0.5 / 0.5) ** 2) / 2), math.exp(-((1.5 / 0.5) ** 2) / 2)
    np.testing.assert_allclose(row[[2, 3]], [2 * near / (near + far), (3 * far + near) / (near + far)], atol=1e-5)


@pytest.mark.parametrize("grid", [(9, 6, 7), (3, 9, 4), (2, 3, 4)])
def test_a_network_that_sees_single_voxels_answers_alike_by_windows(grid):
    pytest.importorskip("monai")
    network = nn.Conv3d(2, 3, 1)
    images = torch.randn(2, 2, *grid)
    with torch.inference_mode():
        torch.testing.assert_close(sliding_windows(network, images, (4, 4, 4)), network(images), atol=1e-5, rtol=1e-5)


# -- a network through the evaluation ---------------------------------------------------------------------------------


@final
class OneConvolution(Supernet):
    """Normalisation and a convolution of elastic kernel size; 3-D."""

    def __init__(self, space, **options):
        super().__init__(space, options)
        sizes = space.stages[0].blocks[0].kernel_sizes
        self.norm = ElasticBatchNorm(1)
        self.conv = ElasticConv(1, 3, sizes, bias=True, spatial_dims=3)

    def run(self, x, architecture, freeze):
        return self.conv(self.norm(x), 3, architecture.stages[0].blocks[0].kernel_size)

    def measure(self, architecture):
        return Cost(1, architecture.stages[0].blocks[0].kernel_size, 1, 4)

    def channel_groups(self):
        yield from ()


SPACE = SearchSpace(((4, 6, 4), (8, 12, 8)), (StageChoices((1,), (BlockChoices((1, 3), (1,)),)),))


class Volumes:
    """Volumes of one grid or of several, each with labels on the grid (8, 12, 8) or its own."""

    channels = 1

    def __init__(self, counts, grids=((8, 12, 8),), resampled=True):
        rng = np.random.default_rng(0)
        self.resampled, self.asked = resampled, []
        self.volumes = {
            split: [
                (rng.normal(size=(1, 1, *grids[i % len(grids)])), rng.integers(0, 3, (1, *grids[i % len(grids)])))
                for i in range(count)
            ]
            for split, count in counts.items()
        }

    def count(self, split):
        return len(self.volumes[split])

    def batches(self, split, resolution, batch_size, indices=None, device="cpu", dtype=None):
        self.asked.append((split, resolution, batch_size))
        chosen = range(self.count(split)) if indices is None else indices
        size = batch_size if self.resampled else 1
        for start in range(0, len(chosen), size):
            images, labels = zip(*[self.volumes[split][i] for i in chosen[start : start + size]], strict=True)
            images = np.concatenate(images)
            images = on_grid(images, resolution) if self.resampled else images
            yield t(images).to(dtype), t(np.concatenate(labels))


@pytest.fixture
def net():
    return OneConvolution(SPACE, num_classes=3, in_channels=1, spatial_dims=3).initialise().eval()


def test_volumes_of_two_resolutions_through_the_evaluation(net, tmp_path):
    data, task = Volumes({"train": 10, "test": 6}), segmentation(CLASSES)
    chosen = [SPACE.largest(), SPACE.smallest(), SPACE.sample(random.Random(1))]
    assert {architecture.resolution for architecture in chosen} == {(4, 6, 4), (8, 12, 8)}
    results = evaluate(net, chosen, task, data, keep_probabilities=True)
    assert {size for split, _, size in data.asked} <= {4}, "at most four volumes in a batch"
    assert {resolution for _, resolution, _ in data.asked} == {(4, 6, 4), (8, 12, 8)}
    for result in results:
        assert result.probabilities is None, "maps are not kept"
        subnet = calibrated_subnet(net, result.architecture, data)
        with torch.no_grad():
            [[images, labels]] = data.batches("test", result.architecture.resolution, 6, dtype=torch.float32)
            probabilities = subnet(images).softmax(1).numpy()
        expected = by_counting(on_grid(probabilities, (8, 12, 8)), labels.numpy(), CLASSES)
        np.testing.assert_allclose(result.correct, expected.mean(1), atol=1e-2)
        assert result.metrics["dice"] == pytest.approx(result.correct.mean(), abs=1e-12)
    assert len({result.metrics["dice"] for result in results}) > 1
    cache = {"calibration_images": 512, "calibration_rule": "reference", "seed": 0, "exit_weights": None}
    first = ResultCache(tmp_path / "all.jsonl", net, **cache)
    found = first.evaluate(chosen, task, data, splits=("test",), keep=chosen)
    data.asked.clear()
    again = ResultCache(tmp_path / "all.jsonl", net, **cache).evaluate(chosen, task, data, splits=("test",))
    assert not data.asked
    for key, result in found.items():
        np.testing.assert_array_equal(again[key].correct, result.correct)


def test_volumes_that_take_too_much_room_are_prepared_again(net, monkeypatch):
    data, task = Volumes({"train": 4, "test": 3}, grids=((8, 12, 8),), resampled=False), segmentation(CLASSES)
    chosen = [a for a, _ in SPACE.grid() if a.resolution == (4, 6, 4)]
    windows = 7 * 4 * 6 * 4 * 4  # what they would take if they had the size of the window
    counts = []
    for room in (1 << 30, windows):
        monkeypatch.setattr("onceforall.evaluation.evaluate.KEPT_BYTES", room)
        data.asked.clear()
        evaluate(net, chosen, task, data)
        counts.append(len(data.asked))
    assert len(chosen) == 2 and counts == [2, 2 * 2 + 2], "each part once; or once to see, and for each network"


def test_calibration_sees_windows_of_large_volumes():
    data = Volumes({"train": 5}, grids=((9, 14, 10),), resampled=False)
    data.volumes["train"] = [(images, images[:, 0] * 2) for images, _ in data.volumes["train"]]
    found = list(calibration_batches(data, (4, 6, 5), 5))
    again = list(calibration_batches(data, (4, 6, 5), 5))
    other = list(calibration_batches(data, (4, 6, 5), 5, seed=1))
    starts = set()
    for images, labels in found:
        assert images.shape == (1, 1, 4, 6, 5) and torch.equal(images[:, 0] * 2, labels.float())
        [place] = [
            np.argwhere(np.isclose(volume, images[0, 0, 0, 0, 0].item(), atol=1e-7))
            for volume, _ in data.volumes["train"]
            if np.isclose(volume, images[0, 0, 0, 0, 0].item(), atol=1e-7).any()
        ]
        starts.add(tuple(place[0]))
    assert len(starts) > 1, "windows are not all at one place"
    assert all(torch.equal(one, same) for (one, _), (same, _) in zip(found, again, strict=True))
    assert not all(torch.equal(one, same) for (one, _), (same, _) in zip(found, other, strict=True))


def test_large_volumes_are_answered_by_windows(net):
    pytest.importorskip("monai")
    data = Volumes({"train": 4, "test": 3}, grids=((8, 12, 8), (9, 14, 10)), resampled=False)
    task, architecture = segmentation(CLASSES), SPACE.smallest()  # a 1 x 1 x 1 convolution: windows change nothing
    [result] = evaluate(net, [architecture], task, data)
    subnet = calibrated_subnet(net, architecture, data)
    for score, (images, labels) in zip(result.correct, data.volumes["test"], strict=True):
        with torch.no_grad():
            probabilities = subnet(t(images).float()).softmax(1).numpy()
        assert score == pytest.approx(by_counting(probabilities, labels, CLASSES).mean(), abs=1e-6)
