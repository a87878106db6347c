"""Segmentation as a task: losses, distances and Dice of maps, in two and three dimensions.

Conventions:

- Outputs are raw, (n, outputs, *grid); label maps are (n, *label grid) and hold the values that the `LabelScheme`
  names. Where the label grid is another one, of the same physical box, outputs are brought onto it linearly before a
  loss, and probabilities before a metric.
- The value 255 marks what lies outside the image: no metric sees it, and for a loss it is background. Any other value
  that the scheme does not name is background.
- Only the foreground of a scheme is judged: all classes but the background, or all regions.
- **Hard Dice** is 2 |P and T| / (|P| + |T|). The prediction P is where a class has the largest probability (among equal
  ones the lowest class), or where the probability of a region is 0.5 or more. Where P and T are both empty it is NaN,
  not measured, and left out of every mean; where one of them is empty it is 0.
- The score of a case is the mean over its measured outputs; `dice` is the mean of these over the cases.
- **Soft Dice** is (2 sum(p t) + e) / (sum(p) + sum(t) + e) with probabilities p and e = 1e-5, so that an empty mask
  gives a finite loss. As a metric it is averaged over the same cases and outputs as hard Dice.

Everything is computed in float32, or in float64 where the outputs are.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.architecture import Resolution
from onceforall.data.label_schemes import OUTSIDE, LabelScheme
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.metrics import mean_of_known
from onceforall.evaluation.tasks import Batches, Task, window_of
from onceforall.supernets.supernet import Outputs

__all__ = ["dice_of_masks", "hard_masks", "segmentation", "sliding_windows", "true_masks"]

SMOOTHING = 1e-5
THRESHOLD = 0.5
OVERLAP = 0.5  # of neighbouring windows
WINDOWS = 4  # at a time


def segmentation(
    scheme: LabelScheme,
    *,
    loss: Literal["dice_ce", "dice"] = "dice_ce",
    dice: Literal["batch", "sample"] = "batch",
    distance: Literal["mse", "kl"] = "mse",
    temperature: float = 1.0,
) -> Task:
    """Segmentation of images or volumes; networks are chosen by `dice`, the mean hard Dice of the foreground.

    It also measures `dice_<output>` for each output of the foreground, and `soft_dice`. An image whose grid is not the
    sub-network's resolution is answered window by window (`sliding_windows`).

    Args:
        scheme: what the outputs mean.
        loss: "dice" is 1 - soft Dice, the mean over the foreground; "dice_ce" adds to it the mean over the pixels of
            the cross-entropy, of regions of the binary cross-entropies.
        dice: whether the sums of the loss's soft Dice run over the batch, or over each sample, of which the mean is
            taken then.
        distance: between raw outputs "mse", their mean squared difference, or "kl", the divergence of the student's
            class probabilities from the teacher's, the mean over the pixels, of regions that of the binary ones.
            Outputs on two grids are compared on the finer one.
        temperature: both outputs are divided by it before the distance, which is multiplied by its square.
    """
    check_choice("loss", loss, ("dice_ce", "dice"))
    check_choice("dice", dice, ("batch", "sample"))
    check_choice("distance", distance, ("mse", "kl"))
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature {temperature!r}: must be positive.")
    probabilities = _probabilities(scheme)
    divergence = F.mse_loss if distance == "mse" else _divergence(scheme)

    def objective(outputs: Tensor, labels: Tensor) -> Tensor:
        _check_shapes(outputs.shape, labels.shape, scheme)
        outputs = _resized(_precise(outputs), labels.shape[1:])
        truth = _masks(labels, scheme).to(outputs.dtype)  # (n, outputs, *label grid)
        judged = slice(scheme.num_outputs - len(scheme.foreground), None)
        total = 1 - _soft_dice(probabilities(outputs)[:, judged], truth[:, judged], per_sample=dice == "sample").mean()
        if loss == "dice_ce":
            total = total + _cross_entropy(outputs, truth, scheme)
        return total

    def compare(student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = _precise(student), _precise(teacher)
        grid = max(student.shape[2:], teacher.shape[2:], key=lambda size: size.numel())
        student, teacher = _resized(student, grid) / temperature, _resized(teacher, grid) / temperature
        return temperature**2 * divergence(student, teacher)

    def measure(batches: Batches) -> dict[str, float]:
        return _measure(batches, scheme)

    def per_image(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.array([mean_of_known(_dice_of_case(*case, scheme)[0]) for case in zip(answers, labels, strict=True)])

    return Task(
        "segmentation",
        objective,
        compare,
        probabilities,
        measure,
        "dice",
        ("dice", *(f"dice_{name}" for name in scheme.foreground), "soft_dice"),
        per_image=per_image,
        infer=sliding_windows,
        keeps_probabilities=False,
    )


# -- losses and distances -----------------------------------------------------------------------------------------


def _probabilities(scheme: LabelScheme) -> Callable[[Tensor], Tensor]:
    return torch.sigmoid if scheme.kind == "regions" else lambda outputs: outputs.softmax(1)


def _precise(outputs: Tensor) -> Tensor:
    """The outputs in float32; doubles stay doubles."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def _resized(maps: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(n, c, ...) -> (n, c, *grid), interpolated linearly between the centres of pixels."""
    if maps.shape[2:] == grid:
        return maps
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
    return F.interpolate(maps, size=tuple(grid), mode=mode, align_corners=False)


def _check_shapes(outputs: tuple[int, ...], labels: tuple[int, ...], scheme: LabelScheme) -> None:
    if outputs[1] != scheme.num_outputs:
        raise UserError(
            f"the network has {outputs[1]} outputs and the label scheme {scheme.name!r} {scheme.num_outputs}."
        )
    if len(outputs) != len(labels) + 1 or outputs[0] != labels[0]:
        raise UserError(
            f"outputs {tuple(outputs)} and labels {tuple(labels)}: give one label map (n, *grid) for each image."
        )


def _masks(labels: Tensor, scheme: LabelScheme) -> Tensor:
    """(n, *grid) label values -> (n, outputs, *grid) bool; what the scheme does not name is background."""
    masks = torch.stack(
        [torch.stack([labels == value for value in values]).any(dim=0) for values in scheme.members], dim=1
    )
    if scheme.kind == "softmax":
        masks[:, 0] = ~masks[:, 1:].any(dim=1)
    return masks


def _soft_dice(probabilities: Tensor, truth: Tensor, *, per_sample: bool) -> Tensor:
    """(n, outputs, *grid) of 0 to 1 twice -> soft Dice (n, outputs), or (outputs,) with sums over the batch."""
    axes = tuple(range(2, truth.ndim)) if per_sample else (0, *range(2, truth.ndim))
    common = (probabilities * truth).sum(axes)
    return (2 * common + SMOOTHING) / (probabilities.sum(axes) + truth.sum(axes) + SMOOTHING)


def _cross_entropy(outputs: Tensor, truth: Tensor, scheme: LabelScheme) -> Tensor:
    if scheme.kind == "regions":
        return F.binary_cross_entropy_with_logits(outputs, truth)
    return -(outputs.log_softmax(1) * truth).sum(1).mean()


def _divergence(scheme: LabelScheme) -> Callable[[Tensor, Tensor], Tensor]:
    """KL(teacher || student) of raw outputs: its mean over the pixels, of regions over these too."""

    def of_classes(student: Tensor, teacher: Tensor) -> Tensor:
        own, other = student.log_softmax(1), teacher.log_softmax(1)
        return F.kl_div(own, other, reduction="none", log_target=True).sum(1).mean()

    def of_regions(student: Tensor, teacher: Tensor) -> Tensor:
        wanted = teacher.sigmoid()
        cross_entropy, entropy = (F.binary_cross_entropy_with_logits(x, wanted) for x in (student, teacher))
        return cross_entropy - entropy

    return of_regions if scheme.kind == "regions" else of_classes


# -- metrics ------------------------------------------------------------------------------------------------------


def hard_masks(probabilities: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """(outputs, *grid) probabilities -> (foreground outputs, *grid) bool, by the module's rule."""
    if scheme.kind == "regions":
        return probabilities >= THRESHOLD
    chosen = probabilities.argmax(0)
    return np.stack([chosen == i for i in range(1, scheme.num_outputs)])


def true_masks(labels: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """(*grid) label values -> (foreground outputs, *grid) bool."""
    return scheme.targets(labels)[scheme.num_outputs - len(scheme.foreground) :]


def dice_of_masks(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Hard Dice (outputs,) of (outputs, *grid) bool twice; NaN where both are empty."""
    axes = tuple(range(1, truth.ndim))
    common, total = (prediction & truth).sum(axes), prediction.sum(axes) + truth.sum(axes)
    return np.divide(2 * common, total, out=np.full(len(truth), np.nan), where=total > 0)


def _dice_of_case(probabilities: np.ndarray, labels: np.ndarray, scheme: LabelScheme) -> tuple[np.ndarray, np.ndarray]:
    """Hard and soft Dice, each (foreground outputs,), of (outputs, *grid) and (*label grid)."""
    _check_shapes((1, *probabilities.shape), (1, *labels.shape), scheme)
    if not np.isfinite(probabilities).all():
        raise UserError("a map of probabilities is not finite everywhere: did the network diverge?")
    maps = _resized(torch.from_numpy(probabilities)[None], labels.shape)[0].numpy()
    inside = labels != OUTSIDE
    truth = true_masks(labels, scheme)
    hard = dice_of_masks(hard_masks(maps, scheme) & inside, truth)
    judged = torch.from_numpy(maps[-len(truth) :] * inside)[None]
    soft = _soft_dice(judged, torch.from_numpy(truth)[None], per_sample=True)[0].numpy()
    return hard, np.where(np.isnan(hard), np.nan, soft)


def _measure(batches: Batches, scheme: LabelScheme) -> dict[str, float]:
    """The numbers of the task; of each case only its Dice is kept."""
    cases = [_dice_of_case(*case, scheme) for answers, labels in batches for case in zip(answers, labels, strict=True)]
    if not cases:
        raise UserError("there are no cases to measure.")
    hard, soft = (np.stack(rows) for rows in zip(*cases, strict=True))  # (cases, foreground outputs) each
    per_output = {f"dice_{name}": mean_of_known(hard[:, i]) for i, name in enumerate(scheme.foreground)}
    return {"dice": _mean_of_cases(hard), **per_output, "soft_dice": _mean_of_cases(soft)}


def _mean_of_cases(dice: np.ndarray) -> float:
    return mean_of_known(np.array([mean_of_known(case) for case in dice]))


# -- large images -------------------------------------------------------------------------------------------------


def sliding_windows(network: nn.Module, images: Tensor, resolution: Resolution) -> Outputs:
    """What `network` answers to images (n, channels, *grid) of any grid: raw outputs on that grid.

    Images on the grid of `resolution` are answered in one pass. Others are covered with windows of that grid that
    overlap by half, whose outputs are averaged with Gaussian weights (MONAI's `sliding_window_inference`); an axis
    shorter than the window is filled up with zeros. Raises `UserError` where MONAI is needed and missing.
    """
    grid = tuple(images.shape[2:])
    window = window_of(resolution, len(grid))
    if grid == window:
        return network(images)
    try:
        from monai.inferers.utils import sliding_window_inference  # MONAI takes two seconds to import
    except ImportError as error:
        raise UserError(
            f"an image of {grid} and a network for {window}: windows need MONAI (pip install 'onceforall[medical]')."
        ) from error
    answers: Any = sliding_window_inference(images, window, WINDOWS, network, overlap=OVERLAP, mode="gaussian")
    return answers
