"""What freezing costs and saves in a training step, and a step of progressive expansion against one of shrinking.

Three questions, each answered by networks that take turns (processor time on one thread) on random images with Adam:

- Does it cost anything to pass a `Freeze` that freezes nothing?
- What do frozen parts of the largest sub-network save in time, and in bytes kept for the backward pass?
- A phase of progressive expansion trains a network that has grown so far; progressive shrinking the same sub-network
  inside the whole network. How long is a step of each, without teachers?

    python benchmarks/freezing.py
    python benchmarks/freezing.py --width 1 --side 160 --batch 8
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from common import begin, finish, interleaved, make_parser, median_ratio, say
from torch.nn import functional as F

from onceforall.architecture import Architecture
from onceforall.supernets import Supernet, create_supernet
from onceforall.supernets.supernet import Freeze
from onceforall.training.growing import beginning, fitted
from onceforall.training.memory import activation_bytes
from onceforall.training.phases import Phase
from onceforall.training.schedules import progressive_expansion

FREEZES = {
    "nothing": Freeze(),
    "stem": Freeze(stem=True),
    "earlier blocks": Freeze(earlier_blocks=True),
    "stem, earlier blocks": Freeze(stem=True, earlier_blocks=True),
    "inner kernels": Freeze(inner_kernels=7),
    "all but the last blocks": Freeze(stem=True, earlier_blocks=True, inner_kernels=7),
}


def stepper(
    net: Supernet, architecture: Architecture, freeze: Freeze | None, batch: int, side: int
) -> Callable[[], None]:
    """A function that makes a step of one sub-network."""
    optimizer = torch.optim.Adam(net.train().parameters(), 1e-4)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 1, side, side, generator=generator)
    labels = torch.randint(4, (batch,), generator=generator)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(images, architecture, freeze), labels).backward()
        optimizer.step()

    return step


def grown(whole: Supernet, phases: list[Phase]) -> dict[str, Supernet]:
    """The network as each phase has it."""
    networks, net = {}, beginning(whole, phases, seed=0)
    for phase in phases:
        net = fitted(net, phase.space, seed=0)
        networks[phase.name] = net
    return networks


def main() -> None:
    """Print medians and ratios."""
    parser = make_parser(__doc__)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report, numbers = begin(), {}
    if options.smoke:
        options.width, options.batch, options.side, options.rounds = 0.25, 4, 32, 1
    shape = options.batch, options.side
    given = {"num_classes": 4, "in_channels": 1, "width_mult": options.width, "resolutions": (options.side,)}
    given |= {"depths": (1, 2, 3)}
    net = create_supernet("prox_mobilenet", **given)
    largest = net.space.largest()

    calls = {
        "none": stepper(net, largest, None, *shape),
        "a Freeze of nothing": stepper(net, largest, Freeze(), *shape),
    }
    seconds = interleaved(calls, 2 * options.rounds)
    cost = median_ratio(seconds["a Freeze of nothing"], seconds["none"])
    numbers["passing"] = {"seconds": seconds, "ratio": cost}
    say(f"prox_mobilenet, width {options.width:g}, batch {options.batch}, {options.side} pixels, one thread")
    say(f"a Freeze of nothing against none: {cost:.3f}\n")

    say(f"{'frozen':26}{'time':>7}{'kept':>7}   shares of the largest sub-network's step with nothing frozen")
    seconds = interleaved({n: stepper(net, largest, f, *shape) for n, f in FREEZES.items()}, options.rounds)
    kept = {n: activation_bytes(net, largest, f) for n, f in FREEZES.items()}
    for name in FREEZES:
        time, memory = median_ratio(seconds[name], seconds["nothing"]), kept[name] / kept["nothing"]
        numbers[name] = {"seconds": seconds[name], "ratio": time, "kept_bytes": kept[name]}
        say(f"{name:26}{time:7.3f}{memory:7.3f}")

    say(f"\n{'phase':14}{'ProX ms':>9}{'PS ms':>9}{'time':>7}   a step of the phase's largest sub-network")
    shrinking = create_supernet("prox_mobilenet", **given, kernel_rule="transform")
    phases = progressive_expansion(net.space)
    for phase, own in zip(phases, grown(net, phases).values(), strict=True):
        architecture = replace(phase.space.largest(), resolution=options.side)
        expansion = stepper(own, architecture, phase.freeze, *shape)
        seconds = interleaved({"ProX": expansion, "PS": stepper(shrinking, architecture, None, *shape)}, options.rounds)
        medians = {name: 1e3 * sorted(values)[len(values) // 2] for name, values in seconds.items()}
        ratio = median_ratio(seconds["ProX"], seconds["PS"])
        numbers[phase.name] = {"seconds": seconds, "ratio": ratio}
        say(f"{phase.name:14}{medians['ProX']:9.1f}{medians['PS']:9.1f}{ratio:7.3f}")
    finish(report, numbers, options.out)


if __name__ == "__main__":
    main()
