"""Architectures as rows of numbers, for models that predict."""

from collections.abc import Sequence

import numpy as np

from onceforall.architecture import MAIN_PATH, Architecture
from onceforall.choices import ABSENT
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets

__all__ = ["encode", "encode_ofa"]

KERNEL_SIZES, EXPAND_RATIOS = (3, 5, 7), (3, 4, 6)
RESOLUTIONS = tuple(range(112, 225, 16))
STAGES, BLOCKS = 5, 4


def encode(space: SearchSpace, architectures: Sequence[Architecture]) -> np.ndarray:
    """One-hot codes, (architectures, features) of zeros and ones.

    Each variable of the space (with those of `exit_sets`) that has two or more choices has a column for each of them,
    and behind these one that says that the variable does not exist, as the kernel of a block that a shorter stage does
    not run. One of them is 1.

    >>> space = SearchSpace.build(1, resolutions=[32], depths=[1, 2], kernel_sizes=[3, 5])
    >>> encode(space, [space.smallest()]).astype(int).tolist()  # depth, kernel of the first and of the second block
    [[1, 0, 0, 1, 0, 0, 0, 0, 1]]
    """
    counts = [len(choices) for _, choices in exit_sets.variables(space)]
    codes = np.array([exit_sets.encode(space, each) for each in architectures], np.int64).reshape(-1, len(counts))
    blocks = [
        np.eye(count + 1)[np.where(code == ABSENT, count, code)]
        for count, code in zip(counts, codes.T, strict=True)
        if count > 1
    ]
    return np.concatenate([np.empty((len(codes), 0)), *blocks], axis=1)


def encode_ofa(architectures: Sequence[Architecture]) -> np.ndarray:
    """The 128 features of the published accuracy predictor of `ofa_mbv3`, (architectures, 128).

    20 blocks (5 stages of 4) x one-hot kernel size (3, 5, 7), 20 blocks x one-hot expansion (3, 4, 6), both all zero
    for a block that does not run, and the one-hot resolution (112, 128, ..., 224).

    Raises `UserError` for an architecture that has other choices.
    """
    out = np.zeros((len(architectures), 128))
    for row, architecture in zip(out, architectures, strict=True):
        blocks = [
            (stage * BLOCKS + i, block)
            for stage, content in enumerate(architecture.stages)
            for i, block in enumerate(content.blocks)
        ]
        fits = architecture.height == STAGES and max(architecture.depths) <= BLOCKS
        fits &= architecture.stem is None and architecture.head is None and architecture.resolution in RESOLUTIONS
        fits &= all(stage.width is None for stage in architecture.stages)
        fits &= all(
            block.paths == (MAIN_PATH,) and block.kernel_size in KERNEL_SIZES and block.expand_ratio in EXPAND_RATIOS
            for _, block in blocks
        )
        if not fits:
            raise UserError(
                f"architecture {architecture}: the 128 features are of five stages of up to four blocks, kernels "
                "3, 5, 7, expansions 3, 4, 6, resolutions 112, 128, ..., 224; use encode(space, ...)."
            )
        for place, block in blocks:
            row[3 * place + KERNEL_SIZES.index(block.kernel_size)] = 1
            row[60 + 3 * place + EXPAND_RATIOS.index(block.expand_ratio)] = 1
        row[120 + RESOLUTIONS.index(architecture.resolution)] = 1
    return out
