"""Time of a training step of OFA-MobileNetV3, against the reference implementation and against our own sub-network.

A step is forward, backward and SGD on one random batch, on one thread, in processor time. The networks take turns, and
the medians are compared. The reference is MIT's package `ofa`, as it is published (channels apart, as it was trained):

    pip install --no-deps --target peer ofa pyyaml tqdm requests
    python benchmarks/step_against_mit.py --peer peer

It imports `torchvision` for its data loaders; the network does not use it, so an empty module stands in. Before
anything is timed, the reference gets our weights and both must give the same class scores in every setting. Without
`--peer` only our elastic network is compared with its own extracted sub-networks.
"""

import random
import statistics
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import begin, finish, interleaved, make_parser, median_ratio, say
from torch import Tensor, nn
from torch.nn import functional as F

import onceforall as ofa

INSTALL = "install it with: pip install --no-deps --target peer ofa pyyaml tqdm requests; then give --peer peer"


class StandIn(types.ModuleType):
    """A module in which every name is an empty class, until something else is put there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in_for_torchvision() -> None:
    """Let the names of torchvision that the reference imports be found."""
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets")
    for name in names:
        parent, _, last = name.rpartition(".")
        sys.modules[name] = StandIn(name)
        if parent:
            setattr(sys.modules[parent], last, sys.modules[name])


def load_peer(folder: Path, classes: int) -> nn.Module:
    """The reference's elastic network of width 1, with 1,000 classes or as many as asked."""
    if not (folder / "ofa").is_dir():
        raise SystemExit(f"--peer {folder}: there is no package `ofa` in it; {INSTALL}")
    sys.path.insert(0, str(folder))
    stand_in_for_torchvision()
    try:
        from ofa.imagenet_classification.elastic_nn.networks.ofa_mbv3 import OFAMobileNetV3
    except ImportError as error:
        raise SystemExit(f"--peer {folder}: the package `ofa` cannot be imported: {error}; {INSTALL}") from error
    return OFAMobileNetV3(n_classes=classes, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4])


def set_peer(peer: nn.Module, architecture: ofa.Architecture) -> None:
    """Make `architecture` the reference's active sub-network."""
    blocks = [block for stage in architecture.stages for block in (*stage.blocks, *stage.blocks[-1:] * 4)[:4]]
    peer.set_active_subnet(
        ks=[block.kernel_size for block in blocks],
        e=[block.expand_ratio for block in blocks],
        d=list(architecture.depths),
    )


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters: those of one shape (axes of 1 left out) come in the same order in both networks."""

    def by_shape(net: nn.Module) -> list[Tensor]:
        return sorted((p.data.squeeze() for p in net.parameters()), key=lambda p: tuple(p.shape))

    for ours, theirs in zip(by_shape(source), by_shape(target), strict=True):
        theirs.copy_(ours)


@torch.no_grad()
def check_same(net: ofa.Supernet, peer: nn.Module, architectures: list[ofa.Architecture], images: Tensor) -> float:
    """Largest difference of the class scores, relative to the largest score; above 1e-4 the script stops."""
    net.eval()
    peer.eval()
    largest = 0.0
    for architecture in architectures:
        set_peer(peer, architecture)
        ours, theirs = net(images, architecture), peer(images)
        largest = max(largest, float((ours - theirs).abs().max() / theirs.abs().max()))
    net.train()
    peer.train()
    if largest > 1e-4:
        raise SystemExit(f"the networks differ: class scores by {largest:.1e}; times would mean nothing.")
    return largest


def stepper(net: nn.Module, images: Tensor, labels: Tensor) -> Callable[..., None]:
    """A function that makes one training step of `net`, called with what else the network takes."""
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=3e-5)

    def step(*architecture: ofa.Architecture) -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(images, *architecture), labels).backward()
        optimizer.step()

    return step


def settings(space: ofa.SearchSpace, count_random: int) -> dict[str, ofa.Architecture]:
    """Three uniform settings and random ones."""
    rng = random.Random(0)
    uniform = {"k7 e6 d4": (7, 6, 4), "k5 e4 d3": (5, 4, 3), "k3 e3 d2": (3, 3, 2)}
    chosen = {name: space.uniform(kernel_size=k, expand_ratio=e, depth=d) for name, (k, e, d) in uniform.items()}
    return chosen | {f"random {i}": space.sample(rng) for i in range(1, count_random + 1)}


def main() -> None:
    """Compare, print, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--peer", type=Path, metavar="PATH", help="folder into which the reference was installed")
    parser.add_argument("--batch", type=int, default=32, help="images in a step (default 32)")
    parser.add_argument("--resolution", type=int, default=64, help="side of an image (default 64)")
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each network (default 15)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch, size, rounds = (2, 32, 1) if arguments.smoke else (arguments.batch, arguments.resolution, arguments.rounds)
    peer = None if arguments.peer is None else load_peer(arguments.peer, 1000)
    report = begin()

    net = ofa.create_supernet("ofa_mbv3", num_classes=1000, resolutions=[size]).train()
    chosen = settings(net.space, 0 if arguments.smoke else 2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    labels = torch.randint(1000, (batch,), generator=generator)
    step = stepper(net, images, labels)
    if peer is None:
        say(f"no --peer: only compared with our own sub-networks. For the reference, {INSTALL}.")
    else:
        copy_weights(net, peer)
        difference = check_same(net, peer, [*chosen.values()], images)
        say(f"same weights, same class scores (relative difference {difference:.0e})")
        peer_step = stepper(peer, images, labels)
    say(f"width 1, batch {batch}, {size} px, 3 channels, 1,000 classes, 1 thread; median of {rounds} in CPU seconds")
    say("setting     reference   ours   extracted   ours/reference   ours/extracted")

    numbers: dict[str, Any] = {}
    for name, architecture in chosen.items():
        own_step = stepper(net.subnet(architecture), images, labels)
        calls: dict[str, Callable[[], object]] = {
            "ours": lambda chosen=architecture: step(chosen),
            "extracted": own_step,
        }
        if peer is not None:
            set_peer(peer, architecture)
            calls["reference"] = peer_step
        seconds = interleaved(calls, rounds, warmup=2)
        medians = {key: statistics.median(values) for key, values in seconds.items()}
        ratios = {
            key: median_ratio(seconds["ours"], seconds[key]) for key in ("reference", "extracted") if key in seconds
        }
        numbers[name] = {"architecture": architecture.to_dict(), "seconds": seconds, "ratios": ratios}
        reference, ratio = ("-", "-") if peer is None else (f"{medians['reference']:.3f}", f"{ratios['reference']:.3f}")
        say(
            f"{name:10} {reference:>10} {medians['ours']:>6.3f} {medians['extracted']:>11.3f} {ratio:>16}"
            f" {ratios['extracted']:>16.3f}"
        )
    for other in ("reference", "extracted"):
        values = [entry["ratios"][other] for entry in numbers.values() if other in entry["ratios"]]
        if values:
            say(f"mean of ours/{other} over {len(values)} settings: {statistics.mean(values):.3f}")
    finish(report, numbers, arguments.out)


if __name__ == "__main__":
    main()
