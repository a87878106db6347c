"""Augmented training batches: one batched affine sampling per batch, on the device, at the batch's resolution."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from onceforall.data.augmentation import Augmentation
from onceforall.data.preparation import LUMA, Preparation

__all__ = ["augment", "to_float_tensor"]

# random numbers an image takes, whatever is switched on: area, ratio, x, y, two flips, angle, brightness, saturation
DRAWS = 9
SHRINK_FROM = 1.25  # a batch this much larger than needed is first reduced with antialias


def to_float_tensor(images: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """(N, C, H, W) uint8 or uint16 -> the same numbers as float32 on the device; 8-bit pixels travel as bytes."""
    if images.dtype == np.uint16:
        return torch.from_numpy(images.astype(np.float32)).to(device)
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).float()


def augment(
    images: torch.Tensor,
    resolution: int,
    augmentation: Augmentation,
    preparation: Preparation,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """(N, C, H, W) float32 pixel values -> (N, C, r, r) of `dtype`, cropped, flipped, jittered, normalised.

    Every random number comes from `generator`, which lives on the CPU; image i takes the i-th row of numbers,
    whatever the batch's other images, its device or the options are.
    """
    images = _shrink(images, resolution, augmentation)
    height, width = images.shape[-2:]
    draws = torch.rand((len(images), DRAWS), generator=generator)  # (N, 9)
    theta = crop_matrices(draws, height, width, augmentation).to(images.device)  # (N, 2, 3)
    padding = "reflection" if augmentation.rotation else "border"
    grid = sampling_grid(theta, resolution)
    output = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    if augmentation.brightness or augmentation.saturation:
        output = _jitter(output / preparation.maximum, draws, augmentation)
        maximum = 1.0
    else:
        maximum = float(preparation.maximum)
    mean = torch.tensor(preparation.mean, device=images.device)[:, None, None]
    std = torch.tensor(preparation.std, device=images.device)[:, None, None]
    return output.mul_(1.0 / (maximum * std)).sub_(mean / std).to(dtype)


def _shrink(images: torch.Tensor, resolution: int, augmentation: Augmentation) -> torch.Tensor:
    """Reduce the batch so far that the smallest crop still has `resolution` pixels, where that saves much."""
    height, width = images.shape[-2:]
    needed = math.ceil(resolution / math.sqrt(augmentation.scale[0]))
    short = min(height, width)
    if short <= SHRINK_FROM * needed:
        return images
    size = (round(height * needed / short), round(width * needed / short))
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def crop_matrices(draws: torch.Tensor, height: int, width: int, augmentation: Augmentation) -> torch.Tensor:
    """(N, 9) numbers of 0 to 1 -> (N, 2, 3): output coordinates to input coordinates, both -1 to 1 over the image."""
    low, high = augmentation.scale
    area = low + draws[:, 0] * (high - low)
    shape = width / height
    log_low = torch.log(torch.clamp(area * shape, augmentation.ratio[0], augmentation.ratio[1]))
    log_high = torch.log(torch.clamp(shape / area, augmentation.ratio[0], augmentation.ratio[1]))
    ratio = torch.exp(log_low + draws[:, 1] * (log_high - log_low))
    crop_width = torch.sqrt(area * ratio / shape).clamp(max=1.0)  # parts of the image's width and height
    crop_height = torch.sqrt(area / ratio * shape).clamp(max=1.0)
    centre_x = (2.0 * draws[:, 2] - 1.0) * (1.0 - crop_width)
    centre_y = (2.0 * draws[:, 3] - 1.0) * (1.0 - crop_height)
    if augmentation.horizontal_flip:
        crop_width = torch.where(draws[:, 4] < 0.5, -crop_width, crop_width)
    if augmentation.vertical_flip:
        crop_height = torch.where(draws[:, 5] < 0.5, -crop_height, crop_height)
    angle = (2.0 * draws[:, 6] - 1.0) * math.radians(augmentation.rotation)
    cos, sin = torch.cos(angle), torch.sin(angle)
    row_x = torch.stack([cos * crop_width, -sin * crop_height / shape, centre_x], dim=1)
    row_y = torch.stack([sin * crop_width * shape, cos * crop_height, centre_y], dim=1)
    return torch.stack([row_x, row_y], dim=1)  # (N, 2, 3)


def sampling_grid(theta: torch.Tensor, resolution: int) -> torch.Tensor:
    """(N, 2, 3) -> (N, r, r, 2): where each output pixel's centre lies in the input, -1 to 1, last axis (x, y)."""
    centres = (2.0 * torch.arange(resolution, device=theta.device) + 1.0) / resolution - 1.0  # (r,)
    along_x = theta[:, None, None, :, 0] * centres[None, None, :, None]  # (N, 1, r, 2)
    along_y = theta[:, None, None, :, 1] * centres[None, :, None, None] + theta[:, None, None, :, 2]  # (N, r, 1, 2)
    return along_x + along_y


def _jitter(images: torch.Tensor, draws: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """(N, C, r, r) of 0 to 1, its brightness and saturation changed per image, kept in 0 to 1."""
    if augmentation.brightness:
        factor = 1.0 + (2.0 * draws[:, 7] - 1.0) * augmentation.brightness
        images = (images * factor.to(images.device)[:, None, None, None]).clamp_(0.0, 1.0)
    if augmentation.saturation and images.shape[1] == 3:
        factor = 1.0 + (2.0 * draws[:, 8] - 1.0) * augmentation.saturation
        luma = torch.tensor(LUMA, device=images.device)[None, :, None, None]
        grey = (images * luma).sum(dim=1, keepdim=True)  # (N, 1, r, r)
        images = (grey + (images - grey) * factor.to(images.device)[:, None, None, None]).clamp_(0.0, 1.0)
    return images
