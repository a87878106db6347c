"""Adam beside what is new: how far do its entries move where its moments are carried over a growth?

    python benchmarks/growth_optimizer.py

A network learns digits for 400 steps, grows in expansion and kernel, and goes on. Its new entries in tensors that were
there count their steps themselves ("own"), or are taken to be as old as the others ("shared"), or all moments begin
anew ("fresh"). Moves are medians over entries, in units of the learning rate; losses are means over training steps.
"""

from collections.abc import Iterator

import torch
from common import begin, finish, make_parser, say
from torch import Tensor
from torch.nn import functional as F

from onceforall.data import ImageData, load_data
from onceforall.supernets import Supernet, create_supernet
from onceforall.training.growing import placed_by_growth
from onceforall.training.optimizers import PhaseOptimizer
from onceforall.training.phases import Phase

RATE = 1e-3


def batches(data: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
    """Training images again and again."""
    while True:
        yield from data.batches("train", 16, 64)


def train(net: Supernet, optimizer: PhaseOptimizer, count: int, supply: Iterator) -> float:
    """Mean loss of some steps of the largest sub-network."""
    total = 0.0
    for _ in range(count):
        images, labels = next(supply)
        optimizer.begin_step(0)
        loss = F.cross_entropy(net.train()(images, net.space.largest()), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / count


def optimizer_of(net: Supernet) -> PhaseOptimizer:
    """Adam as progressive expansion uses it."""
    fields = {"optimizer": "adam", "learning_rate": RATE, "decay": "constant", "weight_decay": 0.0}
    return PhaseOptimizer(net, Phase("only", net.space, 1, **fields), scaled=False)


def main() -> None:
    """Print moves and losses for each way."""
    arguments = make_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    report = begin()
    data, numbers = load_data(max_resolution=16), {}
    options = {"num_classes": 10, "in_channels": 1, "width_mult": 0.25, "resolutions": (16,)}
    old = create_supernet("prox_mobilenet", **options, depths=(1,), expand_ratios=(3,), kernel_sizes=(3,))
    larger = old.space.extend(expand_ratios=(3, 6), kernel_sizes=(3, 5))
    before = optimizer_of(old)
    train(old, before, 3 if arguments.smoke else 400, batches(data))
    marks = placed_by_growth(dict.fromkeys(dict(old.named_parameters()), torch.ones(())), old, old.grow(larger))
    grown = [name for name, mark in marks.items() if 0 < mark.count_nonzero() < mark.numel()]
    say(f"{'steps':8} {'new, 1 step':>12} {'new, 10 steps':>14} {'old, 1 step':>12} {'loss 1-10':>10} {'41-50':>8}")
    for way in ("own", "shared", "fresh"):
        net, supply = old.grow(larger), batches(data)
        optimizer = optimizer_of(net)
        if way != "fresh":
            optimizer.carry_on(before)
        for state in optimizer.optimizer.state.values() if way == "shared" else ():
            state["step"] = state["step"].max()
        start = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}

        def moved(mark: float, net: Supernet = net, start: dict[str, Tensor] = start) -> float:
            parts = [(net.get_parameter(name).detach() - start[name])[marks[name] == mark] for name in grown]
            moves = torch.cat(parts).abs()
            return moves[moves > 0].median().item() / RATE

        loss = train(net, optimizer, 1, supply) / 10
        row = {"new_1": moved(0), "old_1": moved(1)}
        loss += 0.9 * train(net, optimizer, 9, supply)
        row |= {"new_10": moved(0), "loss_10": loss}
        train(net, optimizer, 30, supply)
        row |= {"loss_50": train(net, optimizer, 10, supply)}
        numbers[way] = row
        columns = (row[name] for name in ("new_1", "new_10", "old_1"))
        say(f"{way:8} {'{:12.2f} {:14.2f} {:12.2f}'.format(*columns)} {loss:10.4f} {row['loss_50']:8.4f}")
    finish(report, numbers, arguments.out)


if __name__ == "__main__":
    main()
