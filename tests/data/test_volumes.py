import itertools
import json

import nibabel
import numpy as np
import pytest

from onceforall.data.label_schemes import OUTSIDE
from onceforall.data.volumes import (
    VolumeGeometry,
    VolumePreparation,
    check_grid,
    network_labels,
    network_volume,
    pad_to,
    prepare_labels,
    prepare_volume,
    read_labels,
    read_volume,
    to_original,
)
from onceforall.errors import UserError

SHAPE = (9, 10, 11)
ORIENTATIONS = [
    "".join(code) for axes in itertools.permutations(("LR", "PA", "SI")) for code in itertools.product(*axes)
]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(50.0, 20.0, shape).astype(np.float32)


def classes(*shape, seed=0):
    return np.random.default_rng(seed).choice([0, 1, 2], shape).astype(np.uint8)


def oriented(array, code, spacing=(1.0, 1.0, 1.0)):
    """The array (X, Y, Z), given as RAS, stored along `code`, and the affine of it, by nibabel."""
    affine = np.diag([*spacing, 1.0])
    orientations = nibabel.orientations
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(code))
    stored = orientations.apply_orientation(array, turn)
    return stored, affine @ orientations.inv_ornt_aff(turn, array.shape)


def dice(a, b, value):
    return 2 * np.sum((a == value) & (b == value)) / (np.sum(a == value) + np.sum(b == value))


# Values ----------------------------------------------------------------------------------------------------------


def test_json_there_and_back():
    preparation = VolumePreparation(2, (8, 8, 16), "crop", "LPS", (1, 1, 2.5), (1, 99), True)
    assert VolumePreparation.from_dict(json.loads(json.dumps(preparation.to_dict()))) == preparation
    _, geometry = prepare_volume(noise(2, *SHAPE), np.eye(4), preparation)
    assert VolumeGeometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry
    with pytest.raises(UserError, match="has no key 'boxes'"):
        VolumePreparation.from_dict({"channels": 1, "boxes": None})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 0}, "channels 0"),
        ({"box": (8, 8)}, "2 sizes"),
        ({"box": (8, 8, 0)}, "box 0"),
        ({"fit": "squeeze"}, "'squeeze' is not one of"),
        ({"fit": "stretch"}, "needs a box"),
        ({"orientation": "RAX"}, "orientation 'RAX'"),
        ({"orientation": "RLS"}, "orientation 'RLS'"),
        ({"spacing": (1.0, 0.0, 1.0)}, "above 0"),
        ({"spacing": (1.0, 1.0)}, "three numbers"),
        ({"clip": (99.0, 1.0)}, "lower < upper"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(UserError, match=message):
        VolumePreparation(**{"channels": 1, **values})


def test_a_resolution_is_a_cube_or_three_sizes():
    assert check_grid("resolution", 8) == (8, 8, 8)
    assert check_grid("resolution", [8, 16, 24]) == (8, 16, 24)
    with pytest.raises(UserError, match="resolution"):
        check_grid("resolution", 8.0)


# To the network --------------------------------------------------------------------------------------------------


def test_normalisation_is_that_of_the_voxels_that_are_not_zero():
    volume = noise(2, *SHAPE)
    volume[0, :3] = 0.0
    got, _ = prepare_volume(volume, np.eye(4), VolumePreparation(2))
    for channel, result in zip(volume, got, strict=True):
        low, high = np.percentile(channel[channel != 0], [0.5, 99.5])
        clipped = np.clip(channel.astype(np.float64), low, high)
        kept = clipped[channel != 0]
        np.testing.assert_allclose(result, (clipped - kept.mean()) / kept.std(), atol=1e-4)


@pytest.mark.parametrize("factor", [0.01, 1e4])
def test_the_unit_of_the_intensities_makes_no_difference(factor):
    one, _ = prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1))
    other, _ = prepare_volume(noise(1, *SHAPE) * np.float32(factor), np.eye(4), VolumePreparation(1))
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_every_orientation_is_brought_to_the_same_and_back(code):
    volume, labels = noise(1, *SHAPE), classes(*SHAPE)
    preparation = VolumePreparation(1, (12, 12, 12))
    expected, _ = prepare_volume(volume, np.diag([1.0, 2.0, 3.0, 1.0]), preparation)
    stored, affine = oriented(volume[0], code, (1.0, 2.0, 3.0))
    stored_labels, _ = oriented(labels, code)
    got, geometry = prepare_volume(stored[None], affine, preparation)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert geometry.oriented_spacing == (1.0, 2.0, 3.0)
    np.testing.assert_allclose(geometry.spacing, nibabel.affines.voxel_sizes(affine))
    prepared = prepare_labels(stored_labels, geometry)
    assert set(np.unique(prepared)) == {0, 1, 2, OUTSIDE}
    np.testing.assert_array_equal(to_original(prepared, geometry), stored_labels)


def test_another_orientation_can_be_asked_for():
    volume = noise(1, *SHAPE)
    got, _ = prepare_volume(volume, np.eye(4), VolumePreparation(1, orientation="SLA"))
    ras, _ = prepare_volume(volume, np.eye(4), VolumePreparation(1))
    np.testing.assert_array_equal(got[0], ras[0].transpose(2, 0, 1)[:, ::-1])


def test_the_box_holds_the_volume_in_its_middle_and_zeros_around():
    got, geometry = prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1, (13, 10, 16)))
    own, _ = prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1))
    np.testing.assert_array_equal(got[:, 2:11, :, 2:13], own)
    outside = np.ones((13, 10, 16), bool)
    outside[2:11, :, 2:13] = False
    assert not got[:, outside].any()
    labels = prepare_labels(classes(*SHAPE), geometry)
    np.testing.assert_array_equal(labels == OUTSIDE, outside)
    np.testing.assert_array_equal(labels[2:11, :, 2:13], classes(*SHAPE))


def test_a_volume_larger_than_the_box_is_refused_unless_cropping_is_asked_for():
    with pytest.raises(UserError, match=r"\(9, 10, 11\) voxels do not fit into the box \(9, 8, 16\).*\(9, 10, 16\)"):
        prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1, (9, 8, 16)))
    preparation = VolumePreparation(1, (9, 7, 12), "crop")
    got, geometry = prepare_volume(noise(1, *SHAPE), np.eye(4), preparation)
    own, _ = prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1))
    np.testing.assert_array_equal(got[..., :11], own[:, :, 1:8])
    labels = classes(*SHAPE)
    back = to_original(prepare_labels(labels, geometry), geometry)
    np.testing.assert_array_equal(back[:, 1:8], labels[:, 1:8])
    assert not back[:, [0, 8, 9]].any()  # what the network did not see


def test_a_foreground_crop_cuts_zeros_and_puts_them_back():
    volume, labels = noise(2, *SHAPE), classes(*SHAPE)
    volume[:, :2], volume[:, 8:], labels[:2], labels[8:] = 0, 0, 0, 0
    volume[1, ..., 7:], volume[0, ..., 9:], labels[..., 9:] = 0, 0, 0
    got, geometry = prepare_volume(volume, np.eye(4), VolumePreparation(2, foreground_crop=True))
    assert got.shape == (2, 6, 10, 9) and geometry.cut == ((2, 8), (0, 10), (0, 9))
    np.testing.assert_array_equal(to_original(prepare_labels(labels, geometry), geometry), labels)


def test_stretching_fills_the_box_and_comes_back():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:7, 2:6], labels[5:8, 3:7, 2:6] = 1, 2
    got, geometry = prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1, (20, 20, 20), "stretch"))
    prepared = prepare_labels(labels, geometry)
    assert got.shape == (1, 20, 20, 20) and set(np.unique(prepared)) == {0, 1, 2}
    np.testing.assert_array_equal(to_original(prepared, geometry), labels)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.ones((1, 4, 4, 4), np.float32), "one value only"),
        (np.zeros((1, 4, 4, 4), np.float32), "one value only"),
        (np.full((1, 4, 4, 4), np.nan, np.float32), "not finite"),
        (np.ones((2, 4, 4, 4), np.float32), "does not have 1 channel"),
        (np.ones((4, 4, 4), np.float32), "does not have 1 channel"),
    ],
)
def test_volumes_that_cannot_be_prepared(volume, message):
    with pytest.raises(UserError, match=message):
        prepare_volume(volume, np.eye(4), VolumePreparation(1))


def test_padding_to_a_patch():
    got = pad_to(np.ones((2, 3, 4, 5)), (6, 4, 4), 7.0)
    assert got.shape == (2, 6, 4, 5) and (got[:, 1:4] == 1).all() and (got[:, [0, 4, 5]] == 7).all()


# Back ------------------------------------------------------------------------------------------------------------


def ellipsoid(shape, affine):
    """1 and 2: the halves of an ellipsoid around (5, -4, 8) mm with half axes 12, 9, 7 mm, on any grid."""
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    mm = voxels @ affine[:3, :3].T + affine[:3, 3] - [5.0, -4.0, 8.0]
    inside = np.square(mm / [12.0, 9.0, 7.0]).sum(axis=-1) <= 1.0
    return np.where(inside, np.where(mm[..., 0] < 0, 1, 2), 0).astype(np.uint8)


@pytest.mark.parametrize("code", ["RAS", "PIL", "SRA"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.3, 2.0), (2.0, 1.1, 0.7)])
@pytest.mark.parametrize(("box", "fit"), [((48, 48, 48), "pad"), ((40, 48, 32), "stretch")])
def test_a_body_in_space_comes_back_to_its_own_grid(code, spacing, box, fit):
    size = tuple(round(side / mm) for side, mm in zip((36, 30, 28), spacing, strict=True))
    _, affine = oriented(np.zeros(size), code, spacing)
    shape = oriented(np.zeros(size), code)[0].shape
    middle = affine[:3, :3] @ (np.array(shape) - 1.0) / 2.0
    affine[:3, 3] = np.array([5.0, -4.0, 8.0]) - middle + 0.3
    labels = ellipsoid(shape, affine)
    volume = (labels * 50.0 + noise(*shape) + 1.0)[None].astype(np.float32)
    preparation = VolumePreparation(1, box, fit, spacing=(1.0, 1.0, 1.0))
    _, geometry = prepare_volume(volume, affine, preparation)
    prepared = prepare_labels(labels, geometry)
    if fit == "pad":  # the prepared grid has 1 mm voxels along RAS around the same middle
        own = np.eye(4)
        own[:3, 3] = (
            affine[:3, :3] @ ((np.array(shape) - 1.0) / 2.0) + affine[:3, 3] - (np.array(geometry.size) - 1) / 2
        )
        inner = tuple(slice((b - s) // 2, (b - s) // 2 + s) for b, s in zip(box, geometry.size, strict=True))
        assert min(dice(prepared[inner], ellipsoid(geometry.size, own), value) for value in (1, 2)) > 0.93
    back = to_original(prepared, geometry)
    assert back.shape == labels.shape and back.dtype == np.uint8
    assert min(dice(back, labels, value) for value in (1, 2)) > 0.93
    maps = np.stack([prepared == value for value in (0, 1, 2)]).astype(np.float32)
    returned = to_original(maps, geometry)
    assert returned.shape == (3, *labels.shape)
    agree = returned.argmax(axis=0) == back
    assert agree.mean() > 0.999


def test_a_smaller_resolution_shows_the_same_physical_box():
    labels = np.zeros((16, 24, 16), np.uint8)
    labels[4:8, 8:16, 4:8] = 1
    small = network_labels(labels, (8, 12, 8))
    expected = np.zeros((8, 12, 8), np.uint8)
    expected[2:4, 4:8, 2:4] = 1
    np.testing.assert_array_equal(small, expected)
    image = network_volume(labels[None].astype(np.float16), (8, 12, 8))
    assert image.dtype == np.float32 and image.shape == (1, 8, 12, 8)
    np.testing.assert_allclose(image.sum() * 8, labels.sum(), rtol=1e-3)
    same = np.random.default_rng(0).standard_normal((1, 4, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(network_volume(same, 4), same)


def test_an_answer_on_a_padded_grid_of_its_own():
    labels = classes(*SHAPE)
    _, geometry = prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1))
    padded = pad_to(prepare_labels(labels, geometry), (16, 16, 8), OUTSIDE)
    np.testing.assert_array_equal(to_original(padded, geometry), labels)
    with pytest.raises(UserError, match="does not cover"):
        to_original(padded[:5], geometry)


@pytest.mark.parametrize("answer", [np.zeros((2, 4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.float32)])
def test_answers_of_another_shape(answer):
    _, geometry = prepare_volume(noise(1, *SHAPE), np.eye(4), VolumePreparation(1))
    with pytest.raises(UserError, match="is not"):
        to_original(answer, geometry)


# Real volumes ----------------------------------------------------------------------------------------------------


def hippocampi(data_root, step):
    folder = data_root / "Task04_Hippocampus"
    for path in sorted((folder / "imagesTr").iterdir())[::step]:
        yield *read_volume(path), read_labels(folder / "labelsTr" / path.name)[0]


@pytest.mark.data
def test_the_box_of_48_64_48_holds_every_hippocampus(data_root):
    shapes = [nibabel.load(path).shape for path in sorted((data_root / "Task04_Hippocampus" / "imagesTr").iterdir())]
    assert len(shapes) == 200 and (np.max(shapes, axis=0) <= (48, 64, 48)).all()


@pytest.mark.data
def test_real_labels_keep_their_classes_there_and_back(data_root):
    preparation = VolumePreparation(1, (48, 64, 48))
    for volume, affine, labels in hippocampi(data_root, 10):
        _, geometry = prepare_volume(volume, affine, preparation)
        prepared = prepare_labels(labels, geometry)
        np.testing.assert_array_equal(to_original(prepared, geometry), labels)
        for resolution, least in (((32, 40, 32), 0.85), ((24, 32, 24), 0.75)):
            small = network_labels(prepared, resolution)
            back = to_original(small, geometry)
            assert set(np.unique(small)) == {0, 1, 2, OUTSIDE} and set(np.unique(back)) == {0, 1, 2}
            assert min(dice(back, labels, value) for value in (1, 2)) > least


@pytest.mark.data
def test_dark_and_bright_scans_get_the_same_range(data_root):
    folder = data_root / "Task04_Hippocampus" / "imagesTr"
    volumes = {path: read_volume(path) for path in folder.iterdir()}
    by_maximum = sorted(volumes.values(), key=lambda item: float(item[0].max()))
    assert by_maximum[0][0].max() == 112 and by_maximum[-1][0].max() > 1e6
    for volume, affine in (by_maximum[0], by_maximum[-1]):
        got, _ = prepare_volume(volume, affine, VolumePreparation(1))
        assert abs(got.mean()) < 0.01 and abs(got.std() - 1.0) < 0.01
        assert -3.5 < got.min() < -1.5 and 1.5 < got.max() < 3.5


@pytest.mark.data
def test_a_real_volume_of_another_grid_comes_back_to_it(data_root):
    """Resampled to other voxels, turned and mirrored by nibabel, prepared for 1 mm and brought back."""
    processing = pytest.importorskip("nibabel.processing")
    preparation = VolumePreparation(1, (48, 64, 48), spacing=(1.0, 1.0, 1.0))
    for volume, affine, labels in hippocampi(data_root, 50):
        grid = (tuple(round(side / mm) for side, mm in zip(labels.shape, (0.8, 1.3, 1.1), strict=True)), np.eye(4))
        target = affine @ np.diag([0.8, 1.3, 1.1, 1.0])
        moved = [
            processing.resample_from_to(nibabel.Nifti1Image(array, affine), (grid[0], target), order=order)
            for array, order in ((volume[0], 1), (labels, 0))
        ]
        turn = nibabel.orientations.axcodes2ornt("PSL")
        image, truth = (item.as_reoriented(turn_of(item, turn)) for item in moved)
        _, geometry = prepare_volume(np.asarray(image.dataobj, np.float32)[None], image.affine, preparation)
        expected = np.asarray(truth.dataobj).astype(np.uint8)
        back = to_original(prepare_labels(expected, geometry), geometry)
        assert back.shape == expected.shape and set(np.unique(back)) == {0, 1, 2}
        assert min(dice(back, expected, value) for value in (1, 2)) > 0.93


def turn_of(image, wanted):
    return nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(image.affine), wanted)
