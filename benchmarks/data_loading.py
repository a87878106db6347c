"""Images per second of loading alone, of training alone, and of both, after the images were decoded once.

    python benchmarks/data_loading.py
    python benchmarks/data_loading.py --data photos --resolution 128

Without `--data` a folder of JPEG files is made for the occasion. Decoding and opening the cache are wall time; the
rates are processor time on one thread. The training step is that of the smallest and of the largest sub-network of
OFA-MobileNetV3 at width 0.5: the smaller the network, the harder it is for loading to keep up.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import begin, finish, interleaved, make_parser, say
from PIL import Image
from torch.nn import functional as F

import onceforall as ofa


def make_folder(root: Path, count: int, side: int, classes: int = 10) -> None:
    """`root/<class>/<number>.jpg`: smooth colour noise, about as many bytes as a photograph of that side."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class{number % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=85)


def load_twice(root: Path, cache: Path, resolution: int) -> tuple[ofa.ImageData, dict[str, float]]:
    """The data, and seconds of the first call (decodes) and the second (finds everything in the cache)."""
    seconds = {}
    for name in ("decode", "reopen"):
        start = time.perf_counter()
        data = ofa.load_data(root, max_resolution=resolution, cache_dir=cache)
        seconds[name] = time.perf_counter() - start
    return data, seconds


def measure(data: ofa.ImageData, batch: int, resolution: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each round: one batch loaded, and one training step on a batch that is there already."""
    generator = torch.Generator().manual_seed(0)
    net = ofa.create_supernet(
        "ofa_mbv3", num_classes=data.num_classes, in_channels=data.channels, width_mult=0.5, resolutions=[resolution]
    ).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=3e-5)
    ready = data.train_batch(np.arange(batch), resolution, generator)

    def load() -> tuple[torch.Tensor, torch.Tensor]:
        indices = torch.randint(data.count("train"), (batch,), generator=generator).numpy()
        return data.train_batch(indices, resolution, generator)

    def step(architecture: ofa.Architecture, images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(images, architecture), labels).backward()
        optimizer.step()

    smallest, largest = net.space.smallest(), net.space.largest()
    calls = {
        "load": load,
        "smallest": lambda: step(smallest, *ready),
        "load + smallest": lambda: step(smallest, *load()),
        "largest": lambda: step(largest, *ready),
        "load + largest": lambda: step(largest, *load()),
    }
    return interleaved(calls, rounds, warmup=2)


def benchmark(arguments: argparse.Namespace, temporary: Path) -> dict[str, Any]:
    """All numbers."""
    root, images, side = arguments.data, arguments.images, arguments.side
    batch, size, rounds = arguments.batch, arguments.resolution, arguments.rounds
    if arguments.smoke:
        images, side, batch, size, rounds = 60, 64, 4, 32, 1
    if root is None:
        root = temporary / "images"
        make_folder(root, images, side)
    data, opening = load_twice(root, temporary / "cache", size)
    total = sum(data.count(split) for split in ("train", "validation", "test"))
    batch = min(batch, data.count("train"))
    stored = "x".join(map(str, data.describe()["stored_size"]))
    say(f"{total} images, stored as {stored}, {data.channels} channels; batch {batch}, {size} px, 1 thread")
    say(f"first use, decoding   {opening['decode']:8.2f} s  ({total / opening['decode']:.0f} images/s)")
    say(f"every later use       {opening['reopen']:8.2f} s")
    seconds = measure(data, batch, size, rounds)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, value in medians.items():
        say(f"{name:21} {batch / value:8.0f} images/s")
    shares = {name: medians["load"] / medians[f"load + {name}"] for name in ("smallest", "largest")}
    for name, share in shares.items():
        say(f"share of loading in a step of the {name}: {share:.3f}")
    return {
        "images": total,
        "opening_seconds": opening,
        "batch": batch,
        "resolution": size,
        "seconds": seconds,
        "shares": shares,
    }


def main() -> None:
    """Measure, print, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="PATH", help="a folder of images, one sub-folder for each class")
    parser.add_argument("--images", type=int, default=2000, help="images to make without --data (default 2000)")
    parser.add_argument("--side", type=int, default=256, help="their side in pixels (default 256)")
    parser.add_argument("--resolution", type=int, default=64, help="side of a training image (default 64)")
    parser.add_argument("--batch", type=int, default=64, help="images in a batch (default 64)")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of each kind (default 15)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = begin()
    with tempfile.TemporaryDirectory() as folder:
        finish(report, benchmark(arguments, Path(folder)), arguments.out)


if __name__ == "__main__":
    main()
