"""What every elastic network is, shown on a small one for volumes that is written here."""

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from common_checks import CHECKS, changes, distance, images, randomised, snapshot
from onceforall.architecture import Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.layers.blocks import ConvNorm, Exit, InvertedResidual, parts
from onceforall.layers.channels import ChannelGroup
from onceforall.layers.elastic import Cost, ElasticConv
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets import Freeze, Supernet, create_supernet


class VolumeNet(Supernet):
    """One stage of inverted residuals for volumes, behind an elastic stem."""

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int = 3,
        in_channels: int = 2,
        spatial_dims: int = 3,
        kernel_rule: str = "transform",
    ) -> None:
        options = {"num_classes": num_classes, "in_channels": in_channels, "spatial_dims": spatial_dims}
        super().__init__(space, options | {"kernel_rule": kernel_rule})
        rule = {"kernel_rule": kernel_rule, "spatial_dims": spatial_dims}
        self.entry = ConvNorm(ElasticConv(in_channels, 8, (1,), spatial_dims=spatial_dims), "relu")
        assert space.stem is not None
        self.stem = InvertedResidual(8, 8, space.stem, stride=2, squeeze=True, **rule)
        self.blocks = nn.ModuleList(InvertedResidual(8, 8, choices, **rule) for choices in space.stages[0].blocks)
        self.exit = Exit(8, 16, 16, num_classes, dropout=0.2, spatial_dims=spatial_dims)

    def run(self, x: Tensor, architecture: Architecture, freeze: Freeze) -> Tensor:
        (stage,) = architecture.stages
        x = self.stem(self.entry(x, frozen=freeze.stem), architecture.stem, freeze.part(freeze.stem))
        blocks = parts(self.blocks, InvertedResidual)
        for module, block, frozen in zip(blocks, stage.blocks, freeze.blocks(stage), strict=False):
            x = module(x, block, frozen)
        return self.exit(x, freeze.head)

    def measure(self, architecture: Architecture) -> Cost:
        size = architecture.resolution
        shape = (size,) * self.options["spatial_dims"] if isinstance(size, int) else size
        total, shape = self.entry.cost(shape, *self.entry.conv.sizes)
        assert architecture.stem is not None
        modules = [self.stem, *parts(self.blocks, InvertedResidual)]
        for module, block in zip(modules, (architecture.stem, *architecture.stages[0].blocks), strict=False):
            cost, shape = module.cost(shape, block)
            total += cost
        return total + self.exit.cost(shape)

    def channel_groups(self) -> Iterator[ChannelGroup]:
        yield from self.stem.channel_groups("stem")
        for i, block in enumerate(parts(self.blocks, InvertedResidual)):
            yield from block.channel_groups(f"stages.0.blocks.{i}")


def volumes(**changes_of_space: object) -> VolumeNet:
    facts = {
        "resolutions": (8, (8, 9, 10)),
        "depths": (1, 2, 3),
        "kernel_sizes": (1, 3),
        "expand_ratios": (1, 2),
        "stem": BlockChoices((1, 3), (1, 2, 4)),
    }
    return VolumeNet(SearchSpace.build(1, **(facts | changes_of_space))).initialise()


def flat() -> VolumeNet:
    factors = {"resolutions": (9, 10), "depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (1, 2)}
    space = SearchSpace.build(1, **factors, stem=BlockChoices((3,), (1, 2)))
    return VolumeNet(space, spatial_dims=2).initialise()


def flat_rings() -> VolumeNet:
    return VolumeNet(flat().space, spatial_dims=2, kernel_rule="rings").initialise()


def volume_rings() -> VolumeNet:
    return VolumeNet(volumes().space, kernel_rule="rings").initialise()


@pytest.mark.parametrize("build", [volumes, flat, volume_rings, flat_rings])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_common_checks(check, build):
    check(build)


def test_it_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Supernet(volumes().space, {})


def test_resolutions_must_have_its_axes():
    with pytest.raises(UserError, match=r"resolution \(8, 9\): .* 3 axes"):
        volumes(resolutions=(8, (8, 9)))


# -- calls -------------------------------------------------------------------------------------------------------


def test_a_network_of_one_architecture_needs_none():
    net = volumes()
    small = net.space.smallest()
    alone = VolumeNet(SearchSpace.only(small)).initialise().eval()
    x = images(net, small)
    assert distance(alone(x), alone(x, small)) == 0
    with pytest.raises(UserError, match=r"only supernet\.subnet\(arch\)"):
        volumes(depths=(1,))(x)


def test_the_image_may_have_another_size():
    net = volumes().eval()
    x = torch.randn(2, 2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    assert net(x, net.space.smallest()).shape == (2, 3)


# -- sub-networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_type_and_mode_are_kept(dtype):
    net = volumes().to(dtype).train()
    subnet = net.subnet(net.space.smallest())
    assert subnet.training and {tensor.dtype for tensor in subnet.state_dict().values()} == {dtype}
    assert not net.eval().subnet(net.space.smallest()).training


def test_parameters_of_a_frozen_network_can_be_trained():
    net = volumes().requires_grad_(False)
    subnet = net.subnet(net.space.largest())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in subnet.parameters())


def test_a_subnet_learns_by_itself():
    net = randomised(volumes()).train()
    architecture = net.space.smallest()
    subnet, before = net.subnet(architecture), snapshot(net)
    optimizer = torch.optim.SGD(subnet.parameters(), 0.1)
    x = images(net, architecture)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(subnet(x).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < losses[0].item()
    assert not changes(net, before)


def test_batch_statistics_are_not_handed_on():
    net = randomised(volumes()).eval()
    architecture = net.space.smallest()
    x = images(net, architecture)
    net.use_batch_statistics()
    subnet = net.subnet(architecture)
    assert distance(subnet(x), net(x, architecture)) > 1e-3
    net.use_batch_statistics(False)
    assert distance(subnet(x), net(x, architecture)) == 0


# -- freezing ----------------------------------------------------------------------------------------------------


def test_which_blocks_are_frozen():
    stage = Stage((Block(3, 4),) * 3)
    assert Freeze().blocks(stage) == (False, False, False)
    assert Freeze(earlier_blocks=True).blocks(stage) == (True, True, False)
    assert Freeze(earlier_blocks=True).blocks(Stage((Block(3, 4),))) == (False,)


KERNELS = {  # what of the depthwise kernels gets a gradient when the size runs: the stored 3x3, the ring of 5x5
    ("off", 3): {"weight"},
    ("off", 5): {"weight", "kernel_rule.rings.5"},
    ("on_sample", 3): {"weight"},
    ("on_sample", 5): {"kernel_rule.rings.5"},
    (5, 3): set(),
    (5, 5): {"kernel_rule.rings.5"},
    (7, 5): {"weight", "kernel_rule.rings.5"},  # there is no kernel of 7 to be inside of
}


@pytest.mark.parametrize(("inner_kernels", "size"), KERNELS)
def test_inner_kernels(inner_kernels, size):
    """Nothing else is frozen with them; with earlier blocks frozen only the last one's kernels learn."""
    space = SearchSpace.build(
        1,
        resolutions=(9,),
        depths=(1, 2),
        kernel_sizes=(3, 5),
        expand_ratios=(2,),
        stem=BlockChoices((3, 5), (1,)),
    )
    net = VolumeNet(space, spatial_dims=2, kernel_rule="rings").initialise()
    randomised(net).train()
    architecture = space.uniform(kernel_size=size)
    x, expected = images(net, architecture), KERNELS[inner_kernels, size]
    net(x, architecture, Freeze(inner_kernels=inner_kernels)).square().sum().backward()
    frozen = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    for place in ("stem", "blocks.0", "blocks.1"):
        kernels = {f"{place}.depthwise.conv.{part}" for part in ("weight", "kernel_rule.rings.5")}
        assert kernels - frozen == {f"{place}.depthwise.conv.{part}" for part in expected}
        frozen -= kernels
    assert not frozen
    net.zero_grad()
    net(x, architecture, Freeze(earlier_blocks=True, inner_kernels=inner_kernels)).square().sum().backward()
    assert all(parameter.grad is None for parameter in net.blocks[0].parameters())
    last = {name for name, parameter in net.blocks[1].depthwise.conv.named_parameters() if parameter.grad is not None}
    assert last == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"inner_kernels": "on-sample"}, "inner_kernels 'on-sample': must be .* Did you mean 'on_sample'"),
        ({"inner_kernels": "hard"}, "inner_kernels 'hard': must be 'off', 'on_sample' or a kernel size"),
        ({"inner_kernels": True}, "inner_kernels True"),
        ({"inner_kernels": 0}, "inner_kernels 0"),
        ({"stem": 5}, "stem 5 of what is frozen: must be true or false"),
        ({"earlier_blocks": "maybe"}, "earlier_blocks 'maybe'"),
        ({"head": None}, "head None"),
    ],
)
def test_what_a_freeze_may_not_be(given, expected):
    with pytest.raises(UserError, match=expected):
        Freeze(**given)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_only_the_last_block_learns(depth):
    """Also where all blocks of a stage are the same value."""
    net = randomised(volumes()).train()
    block = Block(3, 2)
    architecture = Architecture(8, (Stage((block,) * depth),), stem=Block(3, 2))
    net(images(net, architecture), architecture, Freeze(earlier_blocks=True)).square().sum().backward()
    learned = [any(parameter.grad is not None for parameter in module.parameters()) for module in net.blocks]
    assert learned == [i == depth - 1 for i in range(3)]
    assert net.stem.project.conv.weight.grad is not None and net.exit.mix.weight.grad is not None


def test_nothing_is_kept_of_a_frozen_beginning():
    net = randomised(volumes()).train()
    seen = {}
    net.stem.register_forward_hook(lambda module, args, output: seen.setdefault("stem", output))
    architecture = net.space.largest()
    net(images(net, architecture), architecture, Freeze(stem=True))
    assert seen.pop("stem").grad_fn is None
    net(images(net, architecture), architecture)
    assert seen["stem"].grad_fn is not None


# -- initial values ----------------------------------------------------------------------------------------------


def test_initial_values_depend_on_seed_and_name_only():
    state, chance = torch.random.get_rng_state(), random.getstate()
    deep, shallow = volumes(), volumes(depths=(1,), resolutions=(4,))
    assert torch.equal(torch.random.get_rng_state(), state) and random.getstate() == chance
    common = shallow.state_dict()
    assert {"stem.expand.conv.weight", "exit.mix.weight", "blocks.0.expand.conv.weight"} <= set(common)
    assert all(torch.equal(tensor, deep.state_dict()[name]) for name, tensor in common.items())
    weights = [deep.blocks[i].expand.conv.weight for i in range(3)]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    torch.random.manual_seed(7)
    assert not changes(volumes(), snapshot(deep)), "the global generator has no influence"
    assert "blocks.0.expand.conv.weight" in changes(volumes().initialise(1), snapshot(deep))


def test_initialise_forgets_all():
    net = randomised(volumes())
    assert changes(net, snapshot(volumes())) == set(net.state_dict())
    assert net.initialise() is net
    assert not changes(net, snapshot(volumes()))
    double = randomised(volumes()).double().initialise().state_dict()
    assert all(distance(double[name].float(), tensor) < 1e-6 for name, tensor in net.state_dict().items())


def test_tensors_outside_elastic_layers_are_refused():
    net = volumes()
    net.extra = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"VolumeNet holds 'extra.weight' outside its elastic layers"):
        net.initialise()


def test_set_dropout():
    net = create_supernet("ofa_mbv3", width_mult=0.35, depths=(1,), resolutions=(32,), dropout=0.3)
    rates = [module.p for module in net.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.3]
    net.set_dropout(0.6)
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.6]
    assert net.subnet(net.space.smallest()).options["dropout"] == 0.3
