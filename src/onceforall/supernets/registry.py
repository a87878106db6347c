"""Elastic networks by name: one row here makes a network usable everywhere."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from onceforall.architecture import MAIN_PATH, Resolution, as_number, is_whole, paths_of_code
from onceforall.choices import ordered
from onceforall.errors import UserError, check_choice, suggestion
from onceforall.layers.kernels import KERNEL_RULES
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets.mobilenet_v3 import STAGES, OFAMobileNetV3
from onceforall.supernets.prox_mobilenet import WIDTHS, ProXMobileNet
from onceforall.supernets.prox_unet import ProXUNet
from onceforall.supernets.supernet import Supernet

__all__ = ["NETWORK_CLASSES", "SUPERNETS", "create_supernet", "list_supernets"]


def ofa_mbv3(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width_mult: float = 1.0,
    dropout: float = 0.1,
    kernel_sizes: Sequence[int] = (3, 5, 7),
    expand_ratios: Sequence[float] = (3, 4, 6),
    depths: Sequence[int] = (2, 3, 4),
    paths: Sequence[tuple[str, ...] | int] = ((MAIN_PATH,),),
    heights: Sequence[int] = (),
    resolutions: Sequence[Resolution] = tuple(range(128, 225, 4)),
    kernel_rule: str = "transform",
    dense: bool = False,
) -> OFAMobileNetV3:
    """OFA-MobileNetV3 (Once-for-All, ICLR 2020): kernel 3-7, expansion 3-6, depth 2-4 in five stages.

    With `paths`, `heights` and `dense` it is each of OFAv2's networks (2023, Table II), which have names of their own.
    """
    if not isinstance(dense, bool):
        raise UserError(f"dense {dense!r}: must be true or false.")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise UserError(f"dropout {dropout!r}: must be a number of at least 0 and below 1.")
    _check_common(num_classes, in_channels, width_mult, kernel_rule)
    _check_halvings(resolutions)
    space = SearchSpace.build(
        len(STAGES),
        resolutions=resolutions,
        depths=depths,
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
        paths=paths,
        heights=heights,
    )
    return OFAMobileNetV3(space, num_classes, in_channels, width_mult, dropout, kernel_rule, dense)


def prox_mobilenet(
    *,
    num_classes: int = 4,
    in_channels: int = 1,
    width_mult: float = 1.0,
    kernel_sizes: Sequence[int] = (3, 5, 7),
    expand_ratios: Sequence[float] = (3, 4, 6),
    depths: Sequence[int] = (1, 2, 3),
    resolutions: Sequence[Resolution] = (160, 192, 224),
    kernel_rule: str = "rings",
    layout: str = "sound",
) -> ProXMobileNet:
    """ProX's MobileNet (ICIP 2022): kernel 3-7, expansion 3-6, depth 1-3 in five stages of 32 to 512 channels."""
    _check_common(num_classes, in_channels, width_mult, kernel_rule)
    _check_halvings(resolutions)
    stem = BlockChoices(ordered("kernel_sizes", kernel_sizes), ordered("expand_ratios", expand_ratios))
    space = SearchSpace.build(
        len(WIDTHS),
        resolutions=resolutions,
        depths=depths,
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
        stem=stem if layout == "published" else None,
    )
    return ProXMobileNet(space, num_classes, in_channels, width_mult, layout, kernel_rule)


def prox_unet3d(
    *,
    num_classes: int = 2,
    in_channels: int = 1,
    spatial_dims: int = 3,
    poolings: int = 3,
    base_width: int = 16,
    width_mult: float = 1.0,
    widths: Sequence[float] = (0.5, 1.0),
    kernel_sizes: Sequence[int] = (3, 5),
    depths: Sequence[int] = (1, 2),
    resolutions: Sequence[Resolution] = ((48, 64, 48),),
    elastic_head: bool = False,
    kernel_rule: str = "rings",
    layout: str = "sound",
) -> ProXUNet:
    """ProX's U-Net (ICIP 2022) for volumes and images: kernel 3-5, depth 1-2, half or full width in each section.

    The published layout takes `depths=(1,)` and always has an elastic head.
    """
    _check_common(num_classes, in_channels, width_mult, kernel_rule)
    _check_counts(poolings=poolings, base_width=base_width)
    if not isinstance(elastic_head, bool):
        raise UserError(f"elastic_head {elastic_head!r}: must be true or false.")
    head = BlockChoices(ordered("kernel_sizes", kernel_sizes)) if elastic_head or layout == "published" else None
    space = SearchSpace.build(
        2 * poolings + 1,
        resolutions=resolutions,
        depths=depths,
        kernel_sizes=kernel_sizes,
        widths=widths,
        head=head,
    )
    return ProXUNet(space, num_classes, in_channels, spatial_dims, base_width, width_mult, layout, kernel_rule)


def _check_common(num_classes: int, in_channels: int, width_mult: float, kernel_rule: str) -> None:
    """Raise `UserError` for what no network can have."""
    check_choice("kernel_rule", kernel_rule, KERNEL_RULES)
    as_number("width_mult", width_mult, 100)
    _check_counts(num_classes=num_classes, in_channels=in_channels)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not is_whole(count) or count < 1:
            raise UserError(f"{name} {count!r}: must be a whole number of at least 1.")


def _check_halvings(resolutions: Sequence[Resolution]) -> None:
    """Raise `UserError` for a resolution that is too small for five halvings."""
    small = [r for r in ordered("resolutions", resolutions) if min((r,) if isinstance(r, int) else r) < 16]
    if small:
        raise UserError(
            f"resolution {small[0]}: too small for this network, which halves the image 5 times; use 16 or more."
        )


PARALLEL: dict[str, Any] = {"paths": tuple(map(paths_of_code, (1, 2, 4, 3, 5, 6, 7)))}  # from the smallest set
EARLY_EXITS: dict[str, Any] = {"heights": (1, 2, 3, 4, 5)}
DENSE: dict[str, Any] = {"dense": True}
_ofav2 = partial(ofa_mbv3, resolutions=(48, 52, 56, 60, 64))

SUPERNETS: dict[str, Callable[..., Supernet]] = {
    "ofa_mbv3": ofa_mbv3,
    "se_d_ofa_mbv3": partial(_ofav2, **DENSE),
    "se_p_ofa_mbv3": partial(_ofav2, **PARALLEL),
    "se_dp_ofa_mbv3": partial(_ofav2, **DENSE, **PARALLEL),
    "ee_b_ofa_mbv3": partial(_ofav2, **EARLY_EXITS),
    "ee_d_ofa_mbv3": partial(_ofav2, **EARLY_EXITS, **DENSE),
    "ee_p_ofa_mbv3": partial(_ofav2, **EARLY_EXITS, **PARALLEL),
    "ee_dp_ofa_mbv3": partial(_ofav2, **EARLY_EXITS, **DENSE, **PARALLEL),
    "prox_mobilenet": prox_mobilenet,
    "prox_unet3d": prox_unet3d,
}
"""Functions that build an elastic network from keywords."""

NETWORK_CLASSES: dict[str, type[Supernet]] = {
    "OFAMobileNetV3": OFAMobileNetV3,
    "ProXMobileNet": ProXMobileNet,
    "ProXUNet": ProXUNet,
}
"""Classes by the name under which a saved network remembers its own."""


def list_supernets() -> list[str]:
    """Names that `create_supernet` takes."""
    return sorted(SUPERNETS)


def create_supernet(name: str, *, seed: int = 0, **options: Any) -> Supernet:
    """Build and initialise the elastic network `name`; its function in `SUPERNETS` lists its options.

    Raises `UserError` for an unknown name or option, with the nearest one that exists.
    """
    check_choice("supernet", name, SUPERNETS)
    allowed = inspect.signature(SUPERNETS[name]).parameters
    for option in options:
        if option not in allowed:
            near, listed = suggestion(option, allowed), ", ".join(allowed)
            raise UserError(f"supernet {name!r} has no option {option!r}.{near} Allowed: {listed}.")
    return SUPERNETS[name](**options).initialise(seed)
