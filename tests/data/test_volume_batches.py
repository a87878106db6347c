import dataclasses

import numpy as np
import pytest
import torch

from onceforall.data.label_schemes import OUTSIDE
from onceforall.data.resampling import grid_matrices
from onceforall.data.volume_augmentation import NO_VOLUME_AUGMENTATION, VolumeAugmentation
from onceforall.data.volume_batches import affine_matrices, augment_volumes, draw_patches, resample_batch
from onceforall.data.volume_cache import CachedVolumes
from onceforall.data.volumes import network_labels, network_volume

GRID = (8, 10, 8)
EXTENT = (8.0, 10.0, 8.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=3, channels=2, grid=GRID):
    images = torch.randn((n, channels, *grid), generator=generator(1))
    labels = torch.randint(0, 3, (n, *grid), generator=generator(2)).to(torch.uint8)
    labels[:, 0], images[:, :, 0] = OUTSIDE, 0.0
    return images, labels


def only(**values):
    return dataclasses.replace(NO_VOLUME_AUGMENTATION, **values)


def augmented(augmentation, seed=0, extent=EXTENT, data=None):
    return augment_volumes(*(data or batch()), augmentation, generator(seed), extent)


# Augmentation ----------------------------------------------------------------------------------------------------


def test_nothing_switched_on_changes_nothing():
    images, labels = augmented(NO_VOLUME_AUGMENTATION)
    assert torch.equal(images, batch()[0]) and torch.equal(labels, batch()[1])


def test_flips_are_exact_and_of_image_and_label():
    images, labels = augmented(only(flip=(0.0, 1.0, 1.0)))
    assert torch.equal(images, batch()[0].flip(3, 4)) and torch.equal(labels, batch()[1].flip(2, 3))


def test_half_of_the_volumes_are_mirrored():
    data = batch(n=400, channels=1, grid=(2, 3, 2))
    images, _ = augmented(only(flip=(0.5, 0.0, 0.0)), data=data)
    mirrored = (images != data[0]).flatten(1).any(1).float().mean()
    assert 0.42 < mirrored < 0.58


def test_quarter_turns_stay_in_planes_of_equal_sides():
    data = batch(n=40, channels=1)
    images, labels = augmented(only(rotate90=True), data=data)
    seen = set()
    for k in range(40):
        turns = [t for t in range(4) if torch.equal(images[k], torch.rot90(data[0][k], t, (1, 3)))]
        assert len(turns) == 1 and torch.equal(labels[k], torch.rot90(data[1][k], turns[0], (0, 2)))
        seen.add(turns[0])
    assert seen == {0, 1, 2, 3}
    assert sum(not torch.equal(*pair) for pair in zip(images, data[0], strict=True)) < 20  # a third of three quarters
    uneven = batch(n=4, grid=(4, 5, 6))
    assert torch.equal(augmented(only(rotate90=True), data=uneven)[0], uneven[0])


def corner(grid):
    """A volume of zeros with an eighth of ones, and one of twos beside it along X."""
    labels = torch.zeros(grid, dtype=torch.uint8)
    x, y, z = (side // 2 for side in grid)
    labels[:x, :y, :z], labels[x:, :y, :z] = 1, 2
    return labels


def eighths(labels):
    """The label in the middle of each eighth of a volume, (2, 2, 2)."""
    x, y, z = (side // 4 for side in labels.shape)
    return labels[x :: 2 * x, y :: 2 * y, z :: 2 * z][:2, :2, :2]


@pytest.mark.parametrize("box", [(48, 48, 48), (48, 64, 48)])
def test_the_same_draw_turns_the_same_plane_at_any_resolution(box):
    labels = corner(box)[None].repeat(40, 1, 1, 1)
    data, mirrored = (labels[:, None].float(), labels), only(rotate90=True, flip=(0.5, 0.5, 0.5))
    seen = set()
    views = [
        augment_volumes(*data, mirrored, generator(), EXTENT, grid_matrices(box, size))[1]
        for size in (box, (48, 48, 48), (40, 56, 40), (24, 40, 32))
        if all(side <= room for side, room in zip(size, box, strict=True)) or size == (40, 56, 40)
    ]
    for row in zip(*views, strict=True):
        shown = [tuple(eighths(view).flatten().tolist()) for view in row]
        assert len(set(shown)) == 1
        seen.add(shown[0])
    assert len(seen) > (8 if box[1] == 64 else 14)  # turns in one plane, or in all three


def test_patches_of_two_sizes_never_turn_in_different_planes():
    cube, long = (corner(grid)[None].repeat(60, 1, 1, 1) for grid in ((8, 8, 8), (8, 12, 8)))
    turning = only(rotate90=True)
    turned = [
        augment_volumes(labels[:, None].float(), labels, turning, generator(), EXTENT)[1] for labels in (cube, long)
    ]
    shown = [[eighths(labels).flatten().tolist() for labels in part] for part in turned]
    rest = eighths(cube[0]).flatten().tolist()
    assert all(there in (here, rest) for here, there in zip(*shown, strict=True))
    assert sum(view != rest for view in shown[0]) > sum(view != rest for view in shown[1]) > 5


def middle(but=None):
    """Draws of one half, which leave everything in place, and one that is 1."""
    draws = torch.full((1, 13), 0.5, dtype=torch.float64)
    draws[0, [] if but is None else but] = 1.0
    return draws


def test_matrices_by_hand():
    identity = torch.eye(3, 4, dtype=torch.float64)[None]
    everything = VolumeAugmentation(rotation=90.0, scale=0.5, shift=0.25)
    torch.testing.assert_close(affine_matrices(middle(), everything, EXTENT), identity)
    # the largest shift along X: a quarter of the side, which is 0.5 of coordinates that run from -1 to 1
    torch.testing.assert_close(affine_matrices(middle(but=9), everything, EXTENT)[0, :, 3].tolist(), [0.5, 0.0, 0.0])
    # 1.5 times as large: the output shows 1 / 1.5 of the input
    torch.testing.assert_close(affine_matrices(middle(but=8), everything, EXTENT)[0, 0, 0].item(), 1 / 1.5)
    # a quarter turn about Z in a volume of 8 x 10: x_in = -y_out * 10 / 8, y_in = x_out * 8 / 10
    turn = affine_matrices(middle(but=7), everything, EXTENT)[0, :, :3]
    expected = torch.tensor([[0.0, -10 / 8, 0.0], [8 / 10, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(turn, expected)


def test_a_shift_moves_image_and_label_by_the_same_voxels():
    data = batch(n=200, channels=1)
    images, labels = augmented(only(shift=0.25), data=data)
    # of a shift by nearly whole voxels along each axis the result is known
    draws = torch.rand((200, 16), generator=generator(), dtype=torch.float64)
    voxels = (2 * draws[:, 9:12] - 1) * 0.25 * torch.tensor(EXTENT)
    near = [k for k in range(200) if (voxels[k] - voxels[k].round()).abs().max() < 0.1]
    assert near
    for k in near:
        want = torch.full(GRID, OUTSIDE, dtype=torch.uint8)
        moves = [int(v) for v in voxels[k].round()]
        source = tuple(slice(max(0, m), side + min(0, m)) for m, side in zip(moves, GRID, strict=True))
        target = tuple(slice(max(0, -m), side + min(0, -m)) for m, side in zip(moves, GRID, strict=True))
        want[target] = data[1][k][source]
        assert torch.equal(labels[k], want)


def test_image_and_label_go_through_the_same_transform():
    """The image is the label itself; interpolated linearly it agrees with the nearest label except at edges."""
    labels = torch.zeros((4, 24, 24, 24), dtype=torch.uint8)
    labels[:, 6:18, 4:20, 8:16] = 1
    moving = only(flip=(0.5, 0.5, 0.5), rotate90=True, rotation=25.0, scale=0.2, shift=0.1)
    images, moved = augment_volumes(labels[:, None].float(), labels, moving, generator(3), (24.0, 24.0, 24.0))
    sure = ((images[:, 0] < 0.05) | (images[:, 0] > 0.95)) & (moved != OUTSIDE)
    assert sure.float().mean() > 0.5 and not torch.equal(moved, labels)
    assert torch.equal((images[:, 0] > 0.5)[sure], (moved == 1)[sure])


def test_intensities_by_the_formula_and_padding_left_alone():
    data = batch(n=2, channels=2)
    images, labels = augmented(only(gamma=0.5, intensity_scale=0.2, intensity_shift=0.3), data=data)
    draws = torch.rand((2, 13 + 2 * 3), generator=generator(), dtype=torch.float64)
    signed = 2 * draws[:, 13:].reshape(2, 2, 3).numpy() - 1
    inside = labels[0].numpy() != OUTSIDE
    for k in range(2):
        for c in range(2):
            x = data[0][k, c].numpy().astype(np.float64)
            unit = (x - x.min()) / (x.max() - x.min())
            x = unit ** np.exp(0.5 * signed[k, c, 0]) * (x.max() - x.min()) + x.min()
            x = x * (1 + 0.2 * signed[k, c, 1]) + 0.3 * signed[k, c, 2]
            np.testing.assert_allclose(images[k, c].numpy()[inside], x[inside], atol=1e-5)
    assert not images[:, :, 0].any() and torch.equal(labels, data[1])


def test_noise_has_the_strength_that_is_asked_for():
    data = torch.zeros((60, 1, 8, 8, 8)), torch.zeros((60, 8, 8, 8), dtype=torch.uint8)
    images, _ = augmented(only(noise=0.4), data=data)
    stds = images.flatten(1).std(1)
    assert stds.max() < 0.45 and 0.15 < stds.mean() < 0.25 and stds.min() < 0.1


def test_the_generator_alone_decides():
    everything = VolumeAugmentation(flip=(0.5, 0.5, 0.5), rotate90=True)
    state = torch.get_rng_state()
    first, second, third = augmented(everything), augmented(everything), augmented(everything, seed=1)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], third[0])
    assert torch.equal(torch.get_rng_state(), state)
    quiet = dataclasses.replace(everything, noise=0.0)
    whole = augmented(quiet)[0]
    images, labels = batch()
    alone = augmented(quiet, data=(images[:1], labels[:1]))[0]  # its row is the first
    torch.testing.assert_close(alone, whole[:1], rtol=1e-5, atol=1e-5)  # torch's powers differ by a bit with the size


@pytest.mark.gpu
def test_every_device_gives_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no accelerator")
    everything = VolumeAugmentation(flip=(0.5, 0.5, 0.5), rotate90=True)
    images, labels = augmented(everything)
    on_device = augmented(everything, data=tuple(tensor.cuda() for tensor in batch()))
    torch.testing.assert_close(on_device[0].cpu(), images, atol=1e-4, rtol=1e-4)
    assert (on_device[1].cpu() == labels).float().mean() > 0.999


# Another resolution ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("want", [(6, 8, 5), (8, 10, 8), (4, 5, 4)])
def test_another_resolution_is_that_of_evaluation(want):
    images, labels = batch()
    got_images, got_labels = resample_batch(images, labels, grid_matrices(GRID, want))
    np.testing.assert_allclose(got_images.numpy(), network_volume(images.numpy(), want), atol=1e-5)
    np.testing.assert_array_equal(got_labels.numpy(), network_labels(labels.numpy(), want))


# Patches ---------------------------------------------------------------------------------------------------------


def stored(*grids, foreground=((4, 4, 4),)):
    """Volumes whose voxels hold their own flat position (up to float16), with one voxel of value 1 each."""
    images = [np.arange(np.prod(grid)).astype(np.float16) for grid in grids]
    labels = [np.zeros(np.prod(grid), np.uint8) for grid in grids]
    positions = np.full((len(grids), 1, 4), -1, np.int64)
    for i, (grid, where) in enumerate(zip(grids, foreground, strict=False)):
        positions[i, 0, 0] = np.ravel_multi_index(where, grid)
        labels[i][positions[i, 0, 0]] = 1
    sizes = [int(np.prod(grid)) for grid in grids]
    return CachedVolumes(
        geometries=(),
        grids=grids,
        counts=(),
        digests=(),
        foreground_values=(1,),
        foreground=positions,
        channels=1,
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        starts=tuple(sum(sizes[:i]) for i in range(len(sizes))),
    )


def test_a_patch_is_a_window_of_image_and_label():
    volumes = stored((12, 12, 12), (12, 12, 12), foreground=((4, 4, 4), (9, 2, 6)))
    images, labels = draw_patches(volumes, [1, 0, 1, 0], (4, 6, 4), generator())
    assert images.shape == (4, 1, 4, 6, 4) and labels.shape == (4, 4, 6, 4)
    for k, row in enumerate([1, 0, 1, 0]):
        first = np.unravel_index(int(images[k, 0, 0, 0, 0]), (12, 12, 12))
        window = tuple(slice(f, f + s) for f, s in zip(first, (4, 6, 4), strict=True))
        np.testing.assert_array_equal(images[k], volumes.image(row)[:, *window])
        np.testing.assert_array_equal(labels[k], volumes.label(row)[*window])


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_at_least_half_of_a_batch_holds_foreground(n):
    volumes = stored((30, 30, 30), foreground=((4, 29, 0),))
    for seed in range(20):
        _, labels = draw_patches(volumes, [0] * n, (4, 4, 4), generator(seed))
        assert sum(bool((patch == 1).any()) for patch in labels) >= n / 2


def test_a_batch_of_one_holds_it_in_half_of_the_cases():
    volumes = stored((30, 30, 30), foreground=((15, 15, 15),))
    one = [bool((draw_patches(volumes, [0], (4, 4, 4), generator(s))[1] == 1).any()) for s in range(400)]
    assert 0.42 < np.mean(one) < 0.6


def test_the_patch_lies_around_the_foreground_voxel():
    volumes = stored((12, 12, 12), foreground=((6, 6, 6),))
    _, labels = draw_patches(volumes, [0, 0], (4, 4, 4), generator())
    assert labels[0, 2, 2, 2] == 1


def test_patches_without_foreground_lie_everywhere():
    volumes = stored((6, 5, 5), foreground=())
    firsts = [draw_patches(volumes, [0], (3, 5, 5), generator(s))[0][0, 0, 0, 0, 0] for s in range(200)]
    assert set(np.array(firsts) // 25) == {0, 1, 2, 3}


def test_a_volume_smaller_than_the_patch_is_padded_around_its_middle():
    volumes = stored((4, 12, 5), foreground=((1, 1, 1),))
    images, labels = draw_patches(volumes, [0], (8, 4, 8), generator())
    inside = np.zeros((8, 4, 8), bool)
    inside[2:6, :, 1:6] = True
    np.testing.assert_array_equal(labels[0] == OUTSIDE, ~inside)
    assert not images[0, 0][~inside].any()
