"""What every elastic network must do, as functions that take `build`, which returns a freshly initialised one.

    from common_checks import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_network(check):
        check(build)

The network should be tiny: each check runs it, or several of its sub-networks, some times. `build` returns an equal
network each time it is called.
"""

import itertools
import json
import random
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from onceforall.architecture import MAIN_PATH, Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.evaluation.calibration import calibrate
from onceforall.evaluation.cost import cost
from onceforall.layers.channels import sort_channels
from onceforall.layers.elastic import ElasticBatchNorm, ElasticConv, ElasticLinear
from onceforall.layers.kernels import Rings, TransformMatrices
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets import Freeze, Supernet

Build = Callable[[], Supernet]
Outputs = Tensor | tuple[Tensor, ...]


# -- tools -----------------------------------------------------------------------------------------------------------


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """`net` with weights of about unit gain, random normalisation (scale, shift, statistics) and matrices off identity.

    A new network normalises by 0 and 1 and its transform matrices do nothing, so that mistakes in which numbers a
    smaller one takes would not show.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor, scale: float) -> Tensor:
        return scale * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, ElasticConv | ElasticLinear):
                module.weight.copy_(normal(module.weight, (2 / module.weight[0].numel()) ** 0.5))
                if module.bias is not None:
                    module.bias.copy_(normal(module.bias, 0.3))
            elif isinstance(module, ElasticBatchNorm):
                for tensor, middle in ((module.weight, 1), (module.bias, 0), (module.running_mean, 0)):
                    tensor.copy_(middle + normal(tensor, 0.3))
                module.running_var.copy_(0.5 + normal(module.running_var, 0.5).abs())
            elif isinstance(module, TransformMatrices):
                for matrix in module.matrices.values():
                    matrix.copy_(torch.eye(len(matrix)) + normal(matrix, 0.5 / len(matrix) ** 0.5))
            elif isinstance(module, Rings):
                for ring in module.rings.values():
                    ring.copy_(normal(ring, 0.2))
    return net


def images(net: Supernet, architecture: Architecture, count: int = 4, seed: int = 0) -> Tensor:
    """(count, channels, ...) random images at the architecture's resolution."""
    size = architecture.resolution
    shape = (size,) * net.options.get("spatial_dims", 2) if isinstance(size, int) else size
    dtype = next(net.parameters()).dtype
    return torch.randn(count, net.options["in_channels"], *shape, generator=torch.Generator().manual_seed(seed)).to(
        dtype
    )


def architectures(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    """The largest, the smallest and random architectures, all different, `count` or as many as there are."""
    rng = random.Random(seed)
    drawn = [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(50 * count))]
    return list(dict.fromkeys(drawn))[:count]


def tensors(outputs: Outputs) -> list[Tensor]:
    """The outputs as a list."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def distance(one: Outputs, other: Outputs) -> float:
    """The largest difference of two outputs."""
    pairs = zip(tensors(one), tensors(other), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def differ(one: Outputs, other: Outputs) -> bool:
    """Whether two outputs are clearly not the same; maps of different sizes are not."""
    pairs = zip(tensors(one), tensors(other), strict=False)
    return any(a.shape != b.shape or distance(a, b) > 1e-3 for a, b in pairs)


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def changes(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names of the parameters and buffers that are not what they were."""
    return {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}


def statistics(net: nn.Module) -> set[str]:
    """Names of all running statistics."""
    return {name for name in net.state_dict() if name.rpartition(".")[2] in ("running_mean", "running_var")}


def settings(net: nn.Module) -> dict[str, str]:
    """Every attribute of every module that is neither tensor nor module."""
    tensors_and_modules = ("_parameters", "_buffers", "_modules")
    return {
        f"{name}.{key}": repr(value)
        for name, module in net.named_modules()
        for key, value in vars(module).items()
        if key not in tensors_and_modules
    }


# -- checks ----------------------------------------------------------------------------------------------------------


def check_building_is_repeatable(build: Build) -> None:
    """The same network each time, from keyed numbers; it can be made again from its space and options as JSON."""
    state = torch.random.get_rng_state()
    net, other = build(), build()
    assert torch.equal(torch.random.get_rng_state(), state), "building the network drew from the global generator"
    assert not changes(net, snapshot(other))
    assert {"num_classes", "in_channels"} <= set(net.options)
    space = SearchSpace.from_dict(json.loads(json.dumps(net.space.to_dict())))
    assert space == net.space
    again = type(net)(space, **json.loads(json.dumps(net.options)))
    again.load_state_dict(net.state_dict())
    small = net.space.smallest()
    x = images(net, small)
    assert distance(again.eval()(x, small), net.eval()(x, small)) == 0
    weights = {f"{name}.weight" for name, layer in net.elastic_layers() if not isinstance(layer, ElasticBatchNorm)}
    assert weights <= changes(net.initialise(1), snapshot(other)), "another seed gives other weights"


def check_extraction(build: Build) -> None:
    """A sub-network computes, bit for bit, what the supernet does, at every resolution; different ones differ."""
    net = randomised(build()).eval()
    chosen = architectures(net.space, 8)
    chosen += [net.space.uniform(resolution=size) for size in net.space.resolutions]
    outputs: dict[Architecture, Outputs] = {}
    with torch.no_grad():
        for architecture in chosen:
            x = images(net, architecture)
            expected = net(x, architecture)
            subnet = net.subnet(architecture)
            assert not subnet.training
            assert distance(subnet(x), expected) == 0, architecture
            assert distance(subnet(x, architecture), expected) == 0
            outputs[architecture] = expected
    assert len(outputs) > 2
    for (one, a), (other, b) in itertools.combinations(outputs.items(), 2):
        assert differ(a, b), f"{one} and {other} give the same outputs"


def check_extraction_in_training(build: Build) -> None:
    """The same in training mode, where batches are normalised by themselves: outputs and moved statistics."""
    net = randomised(build()).double().train()
    net.set_dropout(0.0)
    for architecture in architectures(net.space, 3):
        x = images(net, architecture, count=16)
        subnet = net.subnet(architecture)
        subnet.set_dropout(0.0)
        assert subnet.training
        before = snapshot(subnet)
        assert distance(subnet(x), net(x, architecture)) < 1e-10
        assert changes(subnet, before) == statistics(subnet)
        moved = net.subnet(architecture).state_dict()
        assert all(distance(moved[name], tensor) < 1e-10 for name, tensor in subnet.state_dict().items())


def check_subnet_stands_alone(build: Build) -> None:
    """It is of the same class, holds one architecture, takes no other, and shares no memory with the supernet."""
    net = randomised(build()).eval()
    one, other = architectures(net.space, 2)
    subnet = net.subnet(other)
    assert type(subnet) is type(net)
    assert subnet.space == SearchSpace.only(other) and subnet.space.size() == 1
    assert subnet.options == net.options
    assert all(parameter.requires_grad for parameter in subnet.parameters())
    with pytest.raises(UserError, match="outside the search space"):
        subnet(images(net, one), one)
    with pytest.raises(UserError, match=r"supernet\(x, arch\)"):
        net(images(net, one))
    x = images(net, other)
    with torch.no_grad():
        expected, inner = net(x, other), subnet.subnet(other)
        for tensor in (*subnet.parameters(), *subnet.buffers()):
            tensor.add_(1.0)
        assert distance(net(x, other), expected) == 0
        assert distance(inner(x), expected) == 0
        assert distance(subnet(x), expected) > 1e-3


def check_full_size_is_not_copied(build: Build) -> None:
    """A sub-network runs on its own parameters: each elastic layer of full size lends the tensors themselves."""
    net = build()
    for name, layer in net.subnet(net.space.smallest()).elastic_layers():
        for key, tensor in layer.tensors(*layer.sizes).items():
            assert tensor is getattr(layer, key), f"{name}.{key}"


def check_cost(build: Build) -> None:
    """The analytic numbers are those of the real sub-network; MACs as torch's own counter counts them."""
    net = build()
    seen = set()
    for architecture in architectures(net.space, 5):
        subnet = net.subnet(architecture).eval()
        result = cost(net, architecture)
        assert result == cost(subnet, architecture)
        assert result.params == sum(parameter.numel() for parameter in subnet.parameters()), architecture
        assert result.weight_bytes == 4 * sum(tensor.numel() for tensor in subnet.state_dict().values())
        written, at_once = [], []

        def count(
            layer: object, inputs: tuple, output: torch.Tensor, to: tuple[list, list] = (written, at_once)
        ) -> None:
            read = inputs[0] if isinstance(inputs[0], tuple) else inputs[:1]  # several parts side by side
            to[0].append(output.numel())
            to[1].append(output.numel() + sum(part.numel() for part in read))

        counted = [layer for _, layer in subnet.elastic_layers() if isinstance(layer, ElasticConv | ElasticLinear)]
        hooks = [layer.register_forward_hook(count) for layer in counted]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            subnet(images(net, architecture, count=1))
        for hook in hooks:
            hook.remove()
        assert result.activations == sum(written) and result.peak_bytes == 4 * max(at_once)
        assert 2 * result.macs == counter.get_total_flops(), architecture
        seen.add(result)
    assert len(seen) > 1
    with pytest.raises(UserError, match="outside the search space"):
        cost(net.subnet(net.space.smallest()), net.space.largest())


def check_calibration(build: Build) -> None:
    """Evaluated on the batch from which it was calibrated, a network computes what it does in training mode."""
    net = randomised(build()).double()
    net.set_dropout(0.0)
    for architecture in architectures(net.space, 2):
        subnet = net.subnet(architecture)
        subnet.set_dropout(0.0)
        x = images(net, architecture, count=6)
        before = snapshot(subnet)
        with torch.no_grad():
            expected = net.train()(x, architecture)
            stale = subnet.eval()(x)
        calibrate(subnet, [x[:4], x[4:]], "population")
        assert changes(subnet, before) == statistics(subnet)
        with torch.no_grad():
            assert distance(subnet(x), expected) < 1e-9
        assert distance(stale, expected) > 1e-3


def check_channel_groups(build: Build) -> None:
    """Each group names a variable, has a size for each of its choices, and the groups cover whole tensors."""
    net = build()
    variables = dict(net.space.variables())
    layers = {id(layer): name for name, layer in net.elastic_layers()}
    covered: dict[tuple[str, str], list[tuple[int, int]]] = {}
    elastic = set()
    for group in net.channel_groups():
        assert tuple(group.sizes) == variables[group.variable]
        assert all(0 < size <= group.size for size in group.sizes.values())
        assert group.ranking in group.slices
        elastic.add(group.variable)
        for place in group.slices:
            for tensor, dim in place.layer.axis(place.axis):
                assert place.offset + group.size <= tensor.shape[dim]
            key = (layers[id(place.layer)], place.axis)
            covered.setdefault(key, []).append((place.offset, place.offset + group.size))
    for (name, axis), spans in covered.items():
        layer = net.get_submodule(name)
        (size,) = {tensor.shape[dim] for tensor, dim in layer.axis(axis)}
        spans.sort()
        ends = [0, *(end for _, end in spans)]
        assert [start for start, _ in spans] == ends[:-1] and ends[-1] == size, f"{name} {axis}: {spans} of {size}"
    widths = (".expand_ratio", ".width")
    named = {name for name, choices in variables.items() if name.endswith(widths) and len(choices) > 1}
    assert named <= elastic, f"no group for {named - elastic}"


def check_sorting(build: Build) -> None:
    """Sorting changes no network of the space it is told to keep, and does change others."""
    net = randomised(build()).double().eval()
    net.set_dropout(0.0)
    groups = list(net.channel_groups())
    largest = net.space.largest()
    chosen = architectures(net.space, 5)
    inputs = {architecture: images(net, architecture) for architecture in chosen}

    def outputs() -> dict[Architecture, Outputs]:
        with torch.no_grad():
            return {architecture: net(x, architecture) for architecture, x in inputs.items()}

    first = outputs()
    before = snapshot(net)
    sort_channels(groups, net.space)  # keeps every network
    kept = outputs()
    assert changes(net, before) or not groups
    scale = {a: max(float(output.abs().max()) for output in tensors(first[a])) for a in chosen}
    assert max(distance(first[a], kept[a]) / scale[a] for a in chosen) < 1e-13
    sort_channels(groups, SearchSpace.only(largest))
    sorted_freely = outputs()
    assert distance(first[largest], sorted_freely[largest]) / scale[largest] < 1e-13
    assert any(distance(first[a], sorted_freely[a]) > 1e-6 for a in chosen) or not groups
    before = snapshot(net)
    sort_channels(groups, SearchSpace.only(largest))
    assert not changes(net, before), "what is sorted stays as it is"


def check_modes(build: Build) -> None:
    """Dropout acts in training only; batch statistics serve any mode and move nothing."""
    net = randomised(build()).double().eval()
    architecture = net.space.smallest()
    x = images(net, architecture)
    expected = net(x, architecture)
    net.set_dropout(0.5)
    assert distance(net(x, architecture), expected) == 0
    before = snapshot(net)
    net.use_batch_statistics()
    by_batch = net(x, architecture)
    assert distance(by_batch, expected) > 1e-3
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        dropped = net.train()(x, architecture)
    has_dropout = any(isinstance(module, nn.Dropout) for module in net.modules())
    assert distance(dropped, by_batch) > 1e-3 or not has_dropout
    net.set_dropout(0.0)
    assert distance(net(x, architecture), by_batch) < 1e-12
    assert not changes(net, before)
    net.use_batch_statistics(False)
    assert distance(net.eval()(x, architecture), expected) == 0
    assert distance(net.train()(x, architecture), by_batch) < 1e-12
    assert changes(net, before) and changes(net, before) <= statistics(net)


def check_all_is_trained(build: Build) -> None:
    """Every parameter learns: there are sub-networks that reach it.

    Images are larger than those of the other checks: on a map of one or two pixels the rim of a kernel meets padding.
    """
    net = randomised(build()).train()
    net.set_dropout(0.0)
    rng = random.Random(0)
    missing = {name for name, _ in net.named_parameters()}
    chosen = [net.space.largest(exits="all"), net.space.smallest(), *(net.space.sample(rng) for _ in range(400))]
    for architecture in chosen:
        net.zero_grad()
        size = architecture.resolution
        wide = 4 * size if isinstance(size, int) else tuple(4 * side for side in size)
        x = images(net, replace(architecture, resolution=wide), count=2)
        sum(output.square().sum() for output in tensors(net(x, architecture))).backward()
        missing -= {name for name, tensor in net.named_parameters() if tensor.grad is not None and tensor.grad.any()}
        if not missing:
            return
    raise AssertionError(f"never learn: {sorted(missing)}")


def check_freezing(build: Build) -> None:
    """Frozen parts get no gradient and move no statistics; the outputs stay what they are."""
    architecture = build().space.largest()
    trained: dict[Freeze, set[str]] = {}
    outputs = {}
    parts = (Freeze(stem=True), Freeze(earlier_blocks=True), Freeze(head=True), Freeze(True, True, True))
    for freeze in (Freeze(), *parts):
        net = randomised(build()).double().train()
        net.set_dropout(0.0)
        before = snapshot(net)
        outputs[freeze] = net(images(net, architecture), architecture, freeze)
        sum(output.square().sum() for output in tensors(outputs[freeze])).backward()
        trained[freeze] = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
        norms = {name for name, layer in net.named_modules() if isinstance(layer, ElasticBatchNorm)}
        moved = {name.rpartition(".")[0] for name in changes(net, before)}
        assert moved == {name for name in norms if f"{name}.weight" in trained[freeze]}
    free, stem, earlier, head, all_of_them = (trained[freeze] for freeze in outputs)
    assert all(distance(outputs[freeze], outputs[Freeze()]) < 1e-12 for freeze in outputs)
    assert stem < free and head < free and (earlier < free or max(architecture.depths) == 1)
    assert all_of_them == stem & earlier & head and all_of_them
    assert (free - stem) | (free - earlier) | (free - head) | all_of_them == free


def check_no_state(build: Build) -> None:
    """Running an architecture leaves no trace, so threads that run different ones get the right answers."""
    net = randomised(build()).eval()
    before, attributes = snapshot(net), settings(net)
    assert not [name for name in attributes if "active" in name or "runtime" in name]
    chosen = architectures(net.space, 2)
    inputs = [images(net, architecture) for architecture in chosen]
    with torch.no_grad():
        expected = [net(x, architecture) for x, architecture in zip(inputs, chosen, strict=True)]
    assert not changes(net, before)
    assert settings(net) == attributes
    worst = [0.0, 0.0]
    start = threading.Barrier(2)

    def work(number: int) -> None:
        start.wait()
        with torch.no_grad():
            for _ in range(20):
                outputs = net(inputs[number], chosen[number])
                worst[number] = max(worst[number], distance(outputs, expected[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == [0.0, 0.0]


def check_wrong_input(build: Build) -> None:
    """One line for what is no image of this network, and for what is no architecture of it."""
    net = build().eval()
    architecture = net.space.smallest()
    x = images(net, architecture)
    with pytest.raises(UserError, match=f"axes with {net.options['in_channels']} channels"):
        net(torch.cat([x, x], 1), architecture)
    with pytest.raises(UserError, match="axes with"):
        net(x[0], architecture)
    with pytest.raises(UserError, match="give an Architecture"):
        net(x, architecture.to_dict())
    with pytest.raises(UserError, match="resolution 7777, allowed"):
        net(x, replace(architecture, resolution=7777))
    with pytest.raises(UserError, match="resolution"):
        net.subnet(replace(architecture, resolution=7777))


def smaller_network(build: Build, **options: object) -> Supernet:
    """The network that `build` returns, built for the smaller choices of each factor, in float64, without dropout."""
    net = build()
    smaller = {
        "depths": net.space.depths[:-1] or net.space.depths,
        "expand_ratios": net.space.expand_ratios[:-1] or net.space.expand_ratios,
        "kernel_sizes": net.space.kernel_sizes[:-1] or net.space.kernel_sizes,
        "widths": net.space.widths[:-1] or net.space.widths,
        "resolutions": net.space.resolutions[:1],
    }
    present = {factor: choices for factor, choices in smaller.items() if choices}
    old = type(net)(net.space.restrict(**present), **net.options | options).initialise()
    randomised(old).double().set_dropout(0.0)
    return old


def cut_back(architecture: Architecture, space: SearchSpace) -> Architecture:
    """The architecture of `space` that is left when each factor is cut to the largest choice that `space` has."""

    def block(block: Block, choices: BlockChoices) -> Block:
        if MAIN_PATH not in block.paths:
            return block
        ratio = None if block.expand_ratio is None else min(block.expand_ratio, choices.expand_ratios[-1])
        return Block(min(block.kernel_size or 1, choices.kernel_sizes[-1]), ratio, block.paths)

    stages = [
        Stage(
            tuple(map(block, stage.blocks, choices.blocks)),
            None if stage.width is None else min(stage.width, choices.widths[-1]),
        )
        for stage, choices in zip(architecture.stages, space.stages, strict=False)
    ]
    ends = {
        name: None if part is None else block(part, choices)
        for name, part, choices in (("stem", architecture.stem, space.stem), ("head", architecture.head, space.head))
    }
    return replace(architecture, resolution=space.resolutions[-1], stages=tuple(stages), **ends)


def with_identities(architecture: Architecture, space: SearchSpace) -> Architecture:
    """`architecture` with only the main path in the levels that are too deep for `space`."""

    def block(block: Block, is_new: bool) -> Block:
        like = next(b for stage in architecture.stages for b in (*stage.blocks, block) if MAIN_PATH in b.paths)
        return Block(like.kernel_size, like.expand_ratio) if is_new else block

    stages = [
        Stage(tuple(block(b, i >= len(choices.blocks)) for i, b in enumerate(stage.blocks)), stage.width)
        for stage, choices in zip(architecture.stages, space.stages, strict=False)
    ]
    return replace(architecture, stages=tuple(stages))


@torch.no_grad()
def check_growth(build: Build) -> None:
    """A grown network gives for what was there the same bits, and for what is larger the same up to rounding."""
    old, space = smaller_network(build), build().space
    net = old.grow(space)
    assert type(net) is type(old) and (net.space, net.options) == (space, old.options)
    assert space.size() > old.space.size()
    net.set_dropout(0.0)
    before, grown = snapshot(old), snapshot(net)
    rng = random.Random(0)
    larger = [space.largest(), *(space.sample(rng) for _ in range(12))]
    if "depths" in net.changed_by_growth:
        shallow = space.restrict(depths=old.space.depths)
        larger = [shallow.largest(), *(shallow.sample(rng) for _ in range(12))]
    usable = [a for a in larger if any(MAIN_PATH in b.paths for stage in a.stages for b in stage.blocks)]
    larger = [with_identities(architecture, old.space) for architecture in usable]
    assert len(set(larger)) > 5 and not set(larger) & set(architectures(old.space, 5))
    for architecture in (a for chosen in (architectures(old.space, 5), larger) for a in chosen):
        x = images(net, architecture, count=16)
        cut = cut_back(architecture, old.space)
        for training in (False, True):
            net.load_state_dict(grown)  # running statistics moved
            old.load_state_dict(before)
            expected = old.train(training)(x, cut)
            scale = max(float(output.detach().abs().max()) for output in tensors(expected))
            difference = distance(net.train(training)(x, architecture), expected)
            assert difference == 0 if architecture in old.space else difference < 1e-12 * scale, architecture
    net.load_state_dict(grown)
    old.load_state_dict(before)
    for architecture in architectures(old.space, 3):
        assert not changes(net.subnet(architecture), snapshot(old.subnet(architecture)))
    assert not {t.data_ptr() for t in old.parameters()} & {t.data_ptr() for t in net.parameters()}


def check_growth_learns(build: Build) -> None:
    """What was added is reached by gradients and moves within three steps, like in a network that did not grow."""
    old, space = smaller_network(build), build().space
    grown, plain = old.grow(space).train(), randomised(build()).double().train()
    plain.set_dropout(0.0)
    grown.set_dropout(0.0)
    rng = random.Random(0)
    chosen = [space.largest(exits="all"), *(space.sample(rng) for _ in range(6))]

    def backward(net: Supernet) -> None:
        net.zero_grad()
        for architecture in chosen:
            outputs = tensors(net(images(net, architecture, count=8), architecture))
            sum(output.tanh().square().sum() for output in outputs).backward()

    backward(plain)
    reached = {name for name, p in plain.named_parameters() if p.grad is not None and p.grad.any()}
    kept = {name: torch.zeros_like(tensor, dtype=torch.bool) for name, tensor in grown.state_dict().items()}
    layers = dict(grown.elastic_layers())
    for name, layer in old.elastic_layers():  # True where the old network's numbers stand: leading, and in the centre
        for key, tensor in layer.state_dict().items():
            if f"{name}.{key}" in kept and "matrices" not in key:
                mask = kept[f"{name}.{key}"]
                for dim, size in enumerate(tensor.shape):
                    start = (mask.shape[dim] - size) // 2 if dim > 1 else 0
                    mask = mask.narrow(dim, start, size)
                mask.fill_(True)
    added = {name for name, mask in kept.items() if not mask.all() and name in reached and "matrices" not in name}
    assert any(name.rpartition(".")[0] in layers for name in added)
    for make in (lambda p: torch.optim.SGD(p, 0.01), lambda p: torch.optim.Adam(p, 0.001)):
        net = old.grow(space).train()
        net.set_dropout(0.0)
        optimizer, before = make(net.parameters()), snapshot(net)
        for _ in range(3):
            backward(net)
            optimizer.step()
        parameters = dict(net.named_parameters())
        assert all(bool(parameter.isfinite().all()) for parameter in parameters.values())
        still = {name for name in added if not (parameters[name] != before[name])[~kept[name]].any()}
        assert not still, f"never learn: {sorted(still)}"


def check_growth_is_announced(build: Build) -> None:
    """Deeper networks change where the network says so, and only there; all that was there stays."""
    if len(build().space.depths) == 1:
        return  # a network of fixed depth need not take more
    old = smaller_network(build).eval()
    deep = max(old.space.depths) + 2
    net = old.grow(old.space.extend(depths=(*old.space.depths, deep)))
    shallow = old.space.largest()
    stages = tuple(
        Stage(stage.blocks + (next(b for b in stage.blocks if MAIN_PATH in b.paths),) * 2, stage.width)
        for stage in shallow.stages
    )
    x = images(net, shallow)
    deeper = with_identities(replace(shallow, stages=stages), old.space)
    expected = old(x, shallow)
    assert distance(net(x, shallow), expected) == 0
    scale = max(float(output.detach().abs().max()) for output in tensors(expected))
    changed = distance(net(x, deeper), expected) > 1e-9 * scale
    assert changed == ("depths" in net.changed_by_growth)


def check_growth_is_refused(build: Build) -> None:
    """A space that lacks something is one line that says what."""
    net = build()
    smaller = net.space.restrict(resolutions=net.space.resolutions[:1])
    with pytest.raises(UserError, match=r"resolution .* is missing; make it with space\.extend"):
        net.grow(smaller)
    kernels = net.space.restrict(kernel_sizes=net.space.kernel_sizes[:1])
    with pytest.raises(UserError, match=r"kernel_size \d.* is missing"):
        net.grow(kernels)


CHECKS: tuple[Callable[[Build], None], ...] = (
    check_building_is_repeatable,
    check_extraction,
    check_extraction_in_training,
    check_subnet_stands_alone,
    check_full_size_is_not_copied,
    check_cost,
    check_calibration,
    check_channel_groups,
    check_sorting,
    check_modes,
    check_all_is_trained,
    check_freezing,
    check_no_state,
    check_wrong_input,
    check_growth,
    check_growth_learns,
    check_growth_is_announced,
    check_growth_is_refused,
)
"""All of them; each takes `build`."""
