"""A small elastic network with random statistics, inputs and arguments for `export`, for several tests."""

from dataclasses import replace

import numpy as np
import torch

from onceforall.exporting import export
from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.supernets import create_supernet

RESOLUTION = 32
CLASSES = [f"class {i}" for i in range(10)]
PREPARATION = {"channels": 1, "mean": [0.3], "std": [0.2], "fit": "pad"}
IMAGES = np.random.default_rng(0).normal(size=(40, 1, RESOLUTION, RESOLUTION)).astype(np.float32)


def with_random_statistics(supernet, images=IMAGES):
    """`supernet` with running statistics near those of the images, and randomly off, in evaluation mode.

    With statistics of another order of magnitude the images would hardly matter for the outputs.
    """
    generator = torch.Generator().manual_seed(1)
    for layer in supernet.modules():
        if isinstance(layer, ElasticBatchNorm):
            layer.momentum = 1.0
            layer.bias.data.copy_(torch.rand(layer.bias.shape, generator=generator) - 0.5)
    with torch.no_grad():
        supernet.train()(torch.from_numpy(images), supernet.space.largest())
    for layer in supernet.modules():
        if isinstance(layer, ElasticBatchNorm):
            noise = torch.rand(layer.running_var.shape, generator=generator)
            layer.running_mean += (noise - 0.5) * layer.running_var.sqrt()
            layer.running_var *= noise + 0.5
    return supernet.eval()


def elastic_network():
    options = {"width_mult": 0.35, "in_channels": 1, "depths": (1, 2), "resolutions": (24, RESOLUTION)}
    return with_random_statistics(create_supernet("ofa_mbv3", num_classes=10, **options))


def tiny_network():
    """Five stages of one block each, without squeeze-excitation; the largest network is extracted."""
    options = {
        "width_mult": 0.125,
        "in_channels": 1,
        "depths": (1,),
        "kernel_sizes": (3,),
        "resolutions": (RESOLUTION,),
    }
    supernet = with_random_statistics(create_supernet("prox_mobilenet", num_classes=10, **options))
    return supernet.subnet(supernet.space.largest())


def smallest(supernet):
    return supernet.subnet(replace(supernet.space.smallest(), resolution=RESOLUTION))


def export_to(path, net, **changes):
    about = {"images": IMAGES, "classes": CLASSES, "preparation": PREPARATION}
    return export(net, path, **{**about, "facts": {"accuracy": 0.9}, **changes})
