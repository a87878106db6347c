"""What a training step of OFAv2's largest network costs in each phase, against OFA-MobileNetV3.

A step is what the loop does on one random batch: the teacher's pass, forward and backward of the phase's sub-networks,
SGD. Architectures are those that training would draw, the same number in both networks (one a step, by default). The
two networks take turns; processor time on one thread, beside it the ratio of multiply-adds, forward counted once and
backward twice. A phase that OFA-MobileNetV3 lacks (level, height) is compared with its kernel phase.

    python benchmarks/step_of_phases.py
    python benchmarks/step_of_phases.py --network ee_d_ofa_mbv3 --rows paper
"""

import statistics
from collections.abc import Callable

import torch
from common import begin, finish, interleaved, make_parser, median_ratio, say

from onceforall.evaluation.tasks import classification
from onceforall.supernets import Supernet
from onceforall.supernets.registry import create_supernet
from onceforall.training.distillation import objective
from onceforall.training.phases import Phase, draw_architectures
from onceforall.training.plan import student_macs, teacher_macs
from onceforall.training.randomness import keyed_random
from onceforall.training.schedules import extended_progressive_shrinking
from onceforall.training.teachers import TeacherNetwork

TASK = classification()
BASE = "ofa_mbv3"


def stepper(
    supernet: Supernet, phases: list[Phase], index: int, batch: int, side: int, macs: list[int]
) -> Callable[[], None]:
    """A function that makes the next step of a phase and adds its multiply-adds to `macs`."""
    phase = phases[index]
    optimizer = torch.optim.SGD(supernet.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, side, side, generator=generator)
    labels = torch.randint(supernet.options["num_classes"], (batch,), generator=generator)
    network = supernet.subnet(phases[0].space.largest(exits="all"))
    teacher = TeacherNetwork(network, phase.teacher, lambda _: []) if index else None
    taught = teacher_macs(supernet, phases, index, side)
    steps = iter(range(1 << 30))

    def step() -> None:
        number = next(steps)
        architectures = draw_architectures(phase, number, side, keyed_random("benchmark", phase.name, number))
        soft_targets = None if teacher is None else teacher.soft_targets(images, side)
        optimizer.zero_grad(set_to_none=True)
        for architecture in architectures:
            objective(supernet(images, architecture), labels, soft_targets, TASK, phase).backward()
        optimizer.step()
        macs.append(student_macs(supernet, architectures) + taught)

    return step


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--network", default="ee_dp_ofa_mbv3")
    parser.add_argument("--rows", default="small", help="paper: two and four sub-networks a step in later phases")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=56)
    parser.add_argument("--rounds", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = begin()
    if options.smoke:
        options.batch, options.side, options.rounds = 2, 48, 1
    width = 0.1 if options.smoke else 1.0
    nets, schedules = {}, {}
    for name in (BASE, options.network):
        nets[name] = create_supernet(name, num_classes=200, width_mult=width, resolutions=(48, 52, 56, 60, 64)).train()
        schedules[name] = extended_progressive_shrinking(nets[name].space, rows=options.rows, exit_weights="desc")
    say(f"{options.network} against {BASE}, width {width}, batch {options.batch}, {options.side} pixels, one thread\n")
    say(f"{'phase':10}{'ms':>8}{'base ms':>9}{'time':>7}{'macs':>7}")
    numbers = {}
    base_index = {phase.name: i for i, phase in enumerate(schedules[BASE])}
    for index, phase in enumerate(schedules[options.network]):
        against = base_index.get(phase.name, base_index["kernel"])
        macs: dict[str, list[int]] = {BASE: [], options.network: []}
        calls = {}
        for name, number in ((BASE, against), (options.network, index)):
            shape = options.batch, options.side
            calls[name] = stepper(nets[name], schedules[name], number, *shape, macs[name])
        seconds = interleaved(calls, options.rounds)
        own, base = (statistics.mean(seconds[name]) for name in (options.network, BASE))
        work = statistics.mean(macs[options.network]) / statistics.mean(macs[BASE])
        say(f"{phase.name:10}{1e3 * own:8.0f}{1e3 * base:9.0f}{own / base:7.2f}{work:7.2f}")
        numbers[phase.name] = {"seconds": seconds[options.network], "base_seconds": seconds[BASE], "macs_ratio": work}
        numbers[phase.name] |= {"median_ratio": median_ratio(seconds[options.network], seconds[BASE])}
    finish(report, numbers, options.out)


if __name__ == "__main__":
    main()
