"""Analytic cost of an architecture."""

from onceforall.architecture import Architecture
from onceforall.layers.elastic import Cost
from onceforall.supernets.supernet import Supernet

__all__ = ["Cost", "cost"]


def cost(supernet: Supernet, architecture: Architecture) -> Cost:
    """Parameters, MACs, activations and bytes of `architecture` at its resolution, without a forward pass.

    One multiply-add is one MAC; convolutions and linear layers (those of squeeze-excitation too) are counted,
    normalisation, activations, pooling and additions are not. Only the exits that answer are counted.
    Raises `UserError` for an architecture outside the supernet's space.
    """
    supernet.space.check(architecture)
    return supernet.measure(architecture)
