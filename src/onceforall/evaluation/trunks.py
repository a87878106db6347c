"""Architectures that one pass answers: of a network with exits, each shorter one is a beginning of a taller one.

What happens in a stage, and its statistics of batch normalisation, depend on nothing behind it. A network that goes on
and answers at several exits therefore gives at each of them what the network that ends there gives.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

from onceforall.architecture import Architecture

__all__ = ["Trunk", "group_by_trunk"]


@final
@dataclass(frozen=True)
class Trunk:
    """Architectures with a common trunk.

    Args:
        architecture: the tallest of them, with the exits of all.
        members: the architectures, the tallest first; each is a beginning of `architecture`.
    """

    architecture: Architecture
    members: tuple[Architecture, ...]


def group_by_trunk(architectures: Iterable[Architecture]) -> list[Trunk]:
    """The architectures, each once, as few trunks; trunks of one resolution follow one another.

    Two belong together where resolution, stem and head are the same and the stages of the shorter one are the first
    stages of the other. The work grows with the number of stages of all architectures, not with that of pairs.
    """
    trunk_of: dict[tuple, list[Architecture]] = {}  # every beginning of a trunk -> the trunk's members
    trunks: list[list[Architecture]] = []
    for architecture in sorted(dict.fromkeys(architectures), key=lambda a: -a.height):
        members = trunk_of.get(_beginning(architecture, architecture.height))
        if members is None:
            members = []
            trunks.append(members)
            for height in range(1, architecture.height + 1):
                trunk_of.setdefault(_beginning(architecture, height), members)
        members.append(architecture)
    by_resolution: dict = {}
    for members in trunks:
        exits = tuple(sorted({number for member in members for number in member.exits}))
        trunk = Trunk(replace(members[0], exits=exits), tuple(members))
        by_resolution.setdefault(trunk.architecture.resolution, []).append(trunk)
    return [trunk for group in by_resolution.values() for trunk in group]


def _beginning(architecture: Architecture, height: int) -> tuple:
    return architecture.resolution, architecture.stem, architecture.head, architecture.stages[:height]
