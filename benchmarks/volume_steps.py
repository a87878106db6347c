"""What elasticity costs a training step on volumes: sub-networks of the 3-D U-Net against the same ones by themselves.

For each phase of progressive expansion its smallest and its largest sub-network make a step inside the network as it
has grown by then, and extracted, as an ordinary network: forward, Dice and cross-entropy, backward, AdamW on one random
batch. The two take turns; processor time on one thread. Beside it the parameters that the phase holds, and those of the
extracted network.

    python benchmarks/volume_steps.py
    python benchmarks/volume_steps.py --width 32 --side 64
"""

from collections.abc import Callable

import torch
from common import begin, finish, interleaved, make_parser, median_ratio, say

from onceforall.architecture import Architecture
from onceforall.data import LabelScheme
from onceforall.evaluation.segmentation import segmentation
from onceforall.supernets import Supernet
from onceforall.supernets.prox_unet import ProXUNet
from onceforall.supernets.registry import create_supernet
from onceforall.training.schedules import progressive_expansion


def stepper(net: Supernet, architecture: Architecture, side: int, batch: int, loss: Callable) -> Callable[[], None]:
    """A function that makes a training step of `architecture` in `net`."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(batch, 1, side, side, side, generator=generator)
    labels = torch.randint(3, (batch, side, side, side), generator=generator)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(net(volumes, architecture), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--width", type=int, default=8, help="channels of the first section")
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = begin()
    if options.smoke:
        options.width, options.side, options.batch, options.rounds = 4, 16, 2, 1
    choices = {"resolutions": (options.side,), "base_width": options.width, "depths": (1, 2)}
    whole = create_supernet("prox_unet3d", num_classes=3, in_channels=1, **choices)
    loss = segmentation(LabelScheme("parts", "softmax", ("background", "a", "b"), ((0,), (1,), (2,)))).loss
    say(f"first section of {options.width} channels, {options.batch} volumes of {options.side}^3, one thread\n")
    say("phase     sub-network   in the family  by itself  ratio   parameters         own")
    numbers = {}
    for phase in progressive_expansion(whole.space):
        net = ProXUNet(phase.space, **whole.options).initialise(0).train()
        held = sum(tensor.numel() for tensor in net.parameters())
        for which in ("smallest", "largest"):
            architecture: Architecture = getattr(phase.space, which)()
            alone = net.subnet(architecture).train()
            one = alone.space.largest()
            shape = options.side, options.batch, loss
            calls = {"elastic": stepper(net, architecture, *shape), "static": stepper(alone, one, *shape)}
            seconds = interleaved(calls, options.rounds)
            ratio = median_ratio(seconds["elastic"], seconds["static"])
            own = sum(tensor.numel() for tensor in alone.parameters())
            times = f"{1e3 * min(seconds['elastic']):12.0f} ms{1e3 * min(seconds['static']):8.0f} ms"
            say(f"{phase.name:10}{which:12}{times}{ratio:7.2f}{held:13,}{own:12,}")
            numbers[f"{phase.name}, {which}"] = {**seconds, "ratio": ratio, "held": held, "own": own}
    finish(report, numbers, options.out)


if __name__ == "__main__":
    main()
