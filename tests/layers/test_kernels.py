"""Kernel rules against numpy: crops by index, matrices by explicit sums."""

import numpy as np
import pytest
import torch

from onceforall.errors import UserError
from onceforall.layers.elastic import ElasticConv
from onceforall.layers.kernels import KERNEL_RULES, CenterCrop, Rings, TransformMatrices, center_crop


def weight(size: int, axes: int, out: int = 4, inner: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size + 10 * axes)
    return torch.randn((out, inner) + (size,) * axes, generator=generator, dtype=torch.float64)


def transform(sizes: tuple[int, ...], axes: int) -> TransformMatrices:
    """The rule with matrices away from the identity."""
    rule = TransformMatrices(sizes, axes).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for matrix in rule.matrices.values():
            matrix.add_(0.3 * torch.randn(matrix.shape, generator=generator, dtype=torch.float64))
    return rule


def crop_by_index(array: np.ndarray, size: int) -> np.ndarray:
    """The entries whose distance from the centre is at most size // 2 on every axis."""
    middle, reach = array.shape[-1] // 2, size // 2
    keep = [i for i in range(array.shape[-1]) if abs(i - middle) <= reach]
    for axis in range(2, array.ndim):
        array = np.take(array, keep, axis)
    return array


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("size", "small"), [(7, 7), (7, 5), (7, 3), (7, 1), (5, 3), (3, 3), (3, 1)])
def test_center_crop(size, small, axes):
    full = weight(size, axes, inner=2)
    crop = center_crop(full, small)
    assert np.array_equal(crop.numpy(), crop_by_index(full.numpy(), small))
    assert crop.untyped_storage().data_ptr() == full.untyped_storage().data_ptr(), "a view"
    assert small != size or crop is full
    rule = CenterCrop((small, size), axes)
    assert torch.equal(rule(full, small), crop)
    assert not list(rule.parameters())


def chain_by_hand(full: np.ndarray, sizes: list[int], matrices: dict[str, np.ndarray]) -> np.ndarray:
    """out[c, a] = sum_b M[a, b] crop[c, b], flattened row by row, from each size to the next smaller."""
    for large, small in zip(sizes, sizes[1:], strict=False):
        crop = crop_by_index(full, small)
        matrix = matrices[f"{large}to{small}"]
        flat = crop.reshape(*crop.shape[:2], -1)  # (out, in, k^n)
        out = np.zeros_like(flat)
        for a in range(flat.shape[-1]):
            for b in range(flat.shape[-1]):
                out[..., a] += matrix[a, b] * flat[..., b]
        full = out.reshape(crop.shape)
    return full


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [((3, 5, 7), 7), ((3, 5, 7), 5), ((3, 5, 7), 3), ((3, 7), 3), ((5, 7), 5), ((3, 5), 3), ((7,), 7), ((1, 3), 1)],
)
def test_transform_chain(sizes, wanted, axes):
    if axes == 3 and max(sizes) == 7 and 5 in sizes and wanted == 3:
        sizes = (3, 5)  # a matrix of 125 x 125 is enough
    rule = transform(sizes, axes)
    full = weight(max(sizes), axes)
    matrices = {name: matrix.detach().numpy() for name, matrix in rule.matrices.items()}
    chain = [size for size in sorted(sizes, reverse=True) if size >= wanted]
    expected = chain_by_hand(full.numpy(), chain, matrices)
    got = rule(full, wanted)
    assert got.shape == full.shape[:2] + (wanted,) * axes
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    crop = center_crop(full, wanted)
    assert wanted == max(sizes) or not torch.allclose(got, crop), "the matrices do something"
    assert wanted != max(sizes) or got is full


def test_matrices_of_once_for_all():
    """7 to 5 and 5 to 3: 625 + 81 numbers for each layer, none where there is one size."""
    rule = TransformMatrices((3, 5, 7), 2)
    assert {name: tuple(matrix.shape) for name, matrix in rule.matrices.items()} == {"7to5": (25, 25), "5to3": (9, 9)}
    assert sum(parameter.numel() for parameter in rule.parameters()) == 706
    assert list(TransformMatrices((3, 7), 2).matrices) == ["7to3"]
    assert not list(TransformMatrices((7,), 2).parameters())
    assert TransformMatrices((3, 5), 3).matrices["5to3"].shape == (27, 27)


@pytest.mark.parametrize("axes", [2, 3])
def test_at_the_start_it_is_the_centre_crop(axes):
    rule = transform((3, 5), axes)
    full = weight(5, axes)
    assert not torch.allclose(rule(full, 3), center_crop(full, 3))
    rule.reset()
    assert torch.equal(rule(full, 3), center_crop(full, 3))


def test_gradients_reach_the_chain():
    rule = transform((3, 5, 7), 2)
    full = weight(7, 2).requires_grad_()
    rule(full, 5).square().sum().backward()
    assert rule.matrices["7to5"].grad is not None and rule.matrices["5to3"].grad is None
    assert full.grad is not None
    assert not full.grad[..., 0, :].any() and full.grad[..., 1:6, 1:6].all()
    rule(full, 3).square().sum().backward()
    assert rule.matrices["5to3"].grad is not None


def test_one_matrix_serves_all_channels():
    rule, full = transform((3, 5, 7), 2), weight(7, 2, out=6)
    assert torch.allclose(rule(full[2:4], 3), rule(full, 3)[2:4], rtol=1e-13)


def test_table_of_rules():
    assert {"center_crop": CenterCrop, "transform": TransformMatrices, "rings": Rings} == KERNEL_RULES


# -- rings -------------------------------------------------------------------------------------------------------


def rings(sizes: tuple[int, ...], axes: int, channels: tuple[int, int] = (4, 1)) -> Rings:
    """The rule with random rings."""
    rule = Rings(sizes, axes, channels).double()
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for ring in rule.rings.values():
            ring.copy_(torch.randn(ring.shape, generator=generator, dtype=torch.float64))
    return rule


CHAINS = [((3, 5), 1), ((3, 5, 7), 1), ((3, 5), 2), ((3, 5, 7), 2), ((3, 7), 2), ((1, 3, 5, 9), 2), ((3, 5), 3)]
CHAINS += [((1, 3, 7), 3)]


@pytest.mark.parametrize(("sizes", "axes"), CHAINS)
@pytest.mark.parametrize("channels", [(4, 1), (3, 2)])
def test_each_kernel_is_the_next_smaller_one_in_a_ring(sizes, axes, channels):
    rule, stored = rings(sizes, axes, channels), weight(min(sizes), axes, *channels)
    assert rule.stored_size == min(sizes) and rule(stored, min(sizes)) is stored
    kernels = {size: rule(stored, size).detach().numpy() for size in sizes}
    for small, large in zip(sizes, sizes[1:], strict=False):
        assert kernels[large].shape == (*channels, *(large,) * axes)
        assert np.array_equal(crop_by_index(kernels[large], small), kernels[small])
        ring = rule.rings[str(large)].detach().numpy()
        assert ring.shape == (*channels, large**axes - small**axes)
        middle = (large - small) // 2
        around = np.ones((large,) * axes, bool)
        around[(slice(middle, large - middle),) * axes] = False
        found = np.sort(kernels[large][:, :, around], axis=2)
        assert np.array_equal(found, np.sort(ring, axis=2)), "every entry of the ring stands once, in its channel"


def test_rings_take_little_room():
    """49 numbers for each channel, where kernels of their own would take 9 + 25 + 49."""
    rule = Rings((3, 5, 7), 2, (6, 1))
    assert sum(parameter.numel() for parameter in rule.parameters()) + 6 * rule.stored_size**2 == 6 * 49


def test_rings_start_at_zero():
    rule, stored = rings((3, 5, 7), 2), weight(3, 2)
    rule.reset()
    assert torch.equal(rule(stored, 7), torch.nn.functional.pad(stored, (2,) * 4))


def test_rings_of_fewer_channels():
    rule, stored = rings((3, 5), 2, (4, 3)), weight(3, 2, 4, 3)
    assert torch.equal(rule(stored[:2, :1], 5), rule(stored, 5)[:2, :1])


@pytest.mark.parametrize(
    ("frozen", "size", "trained"),
    [
        (False, 3, {"3"}),
        (False, 5, {"3", "5"}),
        (False, 7, {"3", "5", "7"}),
        ("inner", 3, {"3"}),
        ("inner", 5, {"5"}),
        ("inner", 7, {"7"}),
        (7, 3, set()),
        (7, 5, set()),
        (7, 7, {"7"}),
        (5, 3, set()),
        (5, 5, {"5"}),
        (5, 7, {"5", "7"}),
    ],
)
def test_what_of_a_kernel_is_trained(frozen, size, trained):
    rule, stored = rings((3, 5, 7), 2), weight(3, 2).requires_grad_()
    kernel = rule(stored, size, frozen)
    assert torch.equal(kernel, rule(stored, size))
    assert kernel.requires_grad == bool(trained)
    if trained:
        kernel.square().sum().backward()
    held = {"3": stored} | dict(rule.rings.items())
    assert {name for name, tensor in held.items() if tensor.grad is not None} == trained


@pytest.mark.parametrize(("sizes", "frozen"), [((1,), 5), ((3,), 5), ((3, 5), 7), ((1,), "inner")])
def test_a_layer_without_that_kernel_has_nothing_inside(sizes, frozen):
    """A head of 1x1 convolutions learns while kernels of 5 are trained."""
    rule, stored = rings(sizes, 2), weight(sizes[0], 2).requires_grad_()
    rule(stored, sizes[0], frozen).square().sum().backward()
    assert stored.grad is not None


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_no_optimiser_moves_what_is_frozen(optimizer):
    """Also after steps that trained it, which leave momentum behind, and with weight decay."""
    conv = ElasticConv(4, 4, (3, 5), depthwise=True, kernel_rule="rings")
    conv.reset(torch.Generator().manual_seed(0))
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    kinds = {
        "adam": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.5),
        "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.5),
    }
    steps = kinds[optimizer](conv.parameters())

    def step(size: int, frozen) -> None:
        steps.zero_grad()
        conv(x, kernel_size=size, frozen=frozen).square().sum().backward()
        steps.step()

    step(5, False)
    ring = conv.kernel_rule.rings["5"]
    for size, frozen, still, moves in ((5, "inner", conv.weight, ring), (3, "inner", ring, conv.weight)):
        before = still.detach().clone(), moves.detach().clone()
        for _ in range(3):
            step(size, frozen)
        assert torch.equal(still, before[0]) and not torch.equal(moves, before[1])


@pytest.mark.parametrize("rule", ["center_crop", "transform"])
def test_only_rings_can_be_frozen_in_part(rule):
    x = torch.zeros(1, 4, 6, 6)
    one_size = ElasticConv(4, 4, (3,), kernel_rule=rule)
    one_size.reset(torch.Generator())
    assert one_size(x, frozen="inner").requires_grad, "there is nothing inside"
    several = ElasticConv(4, 4, (3, 5), kernel_rule=rule)
    for part in ("inner", 5):
        with pytest.raises(UserError, match="inner_kernels: .* needs kernel_rule 'rings'"):
            several(x, frozen=part)
