"""What every elastic network is: a module called with the architecture, which can hand out independent sub-networks."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn

from onceforall.architecture import Architecture, Stage, is_whole
from onceforall.errors import UserError, suggestion
from onceforall.layers.channels import ChannelGroup
from onceforall.layers.elastic import Cost, ElasticBatchNorm, ElasticLayer
from onceforall.layers.kernels import Frozen
from onceforall.search_space import SearchSpace
from onceforall.supernets.growth import check_extension, take_over

__all__ = ["Freeze", "Supernet"]

Outputs = Tensor | tuple[Tensor, ...]


@final
@dataclass(frozen=True, slots=True)
class Freeze:
    """Which parts of a network a step does not train.

    A frozen part runs with detached parameters, so its gradient is None and no optimiser moves it; its batch
    normalisation uses the batch and moves no running statistics. Where all parts up to a point are frozen nothing of
    them is kept for the backward pass.

    Args:
        stem: all before the first stage.
        earlier_blocks: in every stage, the blocks before the last one that runs (ProX, section 2.2).
        head: the exits.
        inner_kernels: "off" trains all of each kernel that runs, "on_sample" only its outermost ring (ProX, section
            5); a kernel size, such as 5, only the outermost ring of kernels of that size, and what is around it.
            Other than "off" only with the kernel rule "rings".
    """

    stem: bool = False
    earlier_blocks: bool = False
    head: bool = False
    inner_kernels: Literal["off", "on_sample"] | int = "off"

    def __post_init__(self) -> None:
        for name in ("stem", "earlier_blocks", "head"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{name} {getattr(self, name)!r} of what is frozen: must be true or false.")
        kernels, words = self.inner_kernels, ("off", "on_sample")
        if kernels not in words and not (is_whole(kernels) and kernels > 0):
            near = suggestion(kernels, words)
            raise UserError(f"inner_kernels {kernels!r}: must be 'off', 'on_sample' or a kernel size.{near}")

    def part(self, whole: bool) -> Frozen:
        """What is frozen of a part with elastic kernels, given whether it is frozen as a whole."""
        if whole or self.inner_kernels == "off":
            return whole
        return "inner" if self.inner_kernels == "on_sample" else self.inner_kernels

    def blocks(self, stage: Stage) -> tuple[Frozen, ...]:
        """For each block of `stage`, what of it is frozen."""
        return (self.part(self.earlier_blocks),) * (len(stage.blocks) - 1) + (self.part(False),)


class Supernet(nn.Module, ABC):
    """An elastic network.

    It has no notion of an active sub-network: `supernet(x, architecture)` runs that architecture. A sub-network is
    a supernet whose space holds one architecture; it alone may be called with the input only.

    A network of this kind builds its modules in `__init__` from `space` and `options`, and says in `run` and
    `measure` which of them an architecture uses. Extraction needs nothing more: the sub-network is the same class
    built for the smaller space, and every elastic layer asks its namesake for the tensors it owns. All tensors are
    therefore held by elastic layers; they have no values until `initialise` or `load_state_dict` was called.

    Args:
        space: the architectures that it can run.
        options: the other arguments of its class, from which it can be built again; JSON types only. Among them are
            `num_classes`, `in_channels` and, where they are not 2, `spatial_dims`.
    """

    changed_by_growth: tuple[str, ...] = ()
    """Factors (names of `Factors`) whose growth changes what a network made larger computes; see `grow`."""

    def __init__(self, space: SearchSpace, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.space = space
        self.options = dict(options)
        axes = self.options.get("spatial_dims", 2)
        for size in space.resolutions:
            if not isinstance(size, int) and len(size) != axes:
                raise UserError(f"resolution {size}: this network takes one size, or one for each of its {axes} axes.")
        self._single = space.single()

    @abstractmethod
    def run(self, x: Tensor, architecture: Architecture, freeze: Freeze) -> Outputs:
        """The outputs of `architecture` for `x`."""

    @abstractmethod
    def measure(self, architecture: Architecture) -> Cost:
        """Analytic cost of `architecture` for one input at its resolution."""

    @abstractmethod
    def channel_groups(self) -> Iterator[ChannelGroup]:
        """Every elastic width, with all places where its channels appear."""

    def forward(self, x: Tensor, architecture: Architecture | None = None, freeze: Freeze | None = None) -> Outputs:
        """Run `architecture` on `x` (N, channels, ...).

        Returns a tensor, or a tuple with one for each exit where the architecture has several. The spatial size of
        `x` may differ from `architecture.resolution`. Raises `UserError` for an architecture outside the space, a
        missing one where there is a choice, and an input with the wrong number of channels or axes.
        """
        if architecture is not None:
            self.space.check(architecture)
        elif self._single is not None:
            architecture = self._single
        else:
            raise UserError(
                "a supernet is called with an architecture: supernet(x, arch); only supernet.subnet(arch) is not."
            )
        channels, axes = self.options["in_channels"], 2 + self.options.get("spatial_dims", 2)
        if x.ndim != axes or x.shape[1] != channels:
            raise UserError(
                f"input of shape {tuple(x.shape)}: this network takes {axes} axes with {channels} channels."
            )
        return self.run(x, architecture, freeze or Freeze())

    def elastic_layers(self) -> Iterator[tuple[str, ElasticLayer]]:
        """Name and module of every elastic layer."""
        for name, module in self.named_modules():
            if isinstance(module, ElasticLayer):
                yield name, module

    def subnet(self, architecture: Architecture) -> Self:
        """`architecture` as a network of its own, with copies of the weights and running statistics it uses.

        Evaluate it only after `calibrate`: the running statistics of a supernet belong to no one architecture.
        """
        self.space.check(architecture)
        with torch.device("meta"):
            net = type(self)(SearchSpace.only(architecture), **self.options)
        state = {}
        for name, layer in net.elastic_layers():
            own = self.get_submodule(name)
            assert isinstance(own, ElasticLayer)
            tensors = own.tensors(*layer.sizes)
            state |= {f"{name}.{key}": tensor.detach().clone() for key, tensor in tensors.items()}
        net.load_state_dict(state, assign=True)
        return net.train(self.training)

    def grow(self, space: SearchSpace, seed: int = 0) -> Self:
        """A network of its own for the larger `space` that computes, before it is trained, what this one does.

        Every architecture of this network gives the same outputs, bit for bit. So does, up to rounding and in both
        modes, one that is made larger than any of these: deeper, wider or with larger kernels, except where

        - `changed_by_growth` names the factor (dense skips: a deeper stage adds up more outputs),
        - a level that is new runs other paths than the one with an identity, or one that was there runs others,
        - the network is taller: its exit is new.

        What is new and does not start at zero is drawn as `initialise(seed)` draws it. Raises `UserError` where
        `space` lacks an architecture of this network's; `network.space.extend(...)` makes one that does not.
        """
        check_extension(self.space, space)
        net = type(self)(space, **self.options).initialise(seed).to(next(self.parameters()))
        take_over(net, self)
        return net.train(self.training)

    def set_dropout(self, rate: float) -> None:
        """Set the rate of every dropout layer."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate

    def use_batch_statistics(self, enabled: bool = True) -> None:
        """Normalise by the batch in every mode and move no running statistics; as a teacher does."""
        for module in self.modules():
            if isinstance(module, ElasticBatchNorm):
                module.batch_statistics = enabled

    def initialise(self, seed: int = 0) -> Self:
        """Set all parameters anew; a layer's values depend on the seed and its name only.

        Raises `UserError` where the network holds a tensor outside its elastic layers.
        """
        elastic = tuple(f"{name}." for name, _ in self.elastic_layers())
        for name in self.state_dict():
            if not name.startswith(elastic):
                raise UserError(
                    f"{type(self).__name__} holds {name!r} outside its elastic layers; a network that sub-networks are "
                    "extracted from is made of ElasticConv, ElasticLinear and ElasticBatchNorm."
                )
        for name, layer in self.elastic_layers():
            key = random.Random(f"{seed}:{name}").getrandbits(63)
            layer.reset(torch.Generator().manual_seed(key))
        return self
