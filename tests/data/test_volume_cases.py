import re

import nibabel
import numpy as np
import pytest

from onceforall.data.label_schemes import LabelScheme
from onceforall.data.volume_cases import read_case
from onceforall.data.volumes import VolumePreparation

SCHEME = LabelScheme("classes", "softmax", ("background", "a"), ((0,), (1,)))
SHAPE = (9, 10, 11)
OWN_GRID = VolumePreparation(1)


def image(*shape, seed=0):
    return np.random.default_rng(seed).normal(100.0, 10.0, shape or SHAPE).astype(np.float32)


def label(*shape):
    labels = np.zeros(shape or SHAPE, np.uint8)
    labels[3:5, 3:5, 3:5] = 1
    return labels


def case(tmp_path, images, labels, channels=1, stride=4, affines=None, preparation=OWN_GRID):
    """Reads files a0, a1, ... and l; an array is saved, bytes are written as they are."""
    names = [f"a{i}.nii.gz" for i in range(len(images))]
    everything = {**dict(zip(names, images, strict=True)), "l.nii.gz": labels}
    for name, content in everything.items():
        affine = (affines or {}).get(name, np.eye(4))
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            nibabel.save(nibabel.Nifti1Image(content, affine), tmp_path / name)
    return read_case(tmp_path, names, "l.nii.gz", channels, SCHEME, stride, preparation)


def test_a_good_subject(tmp_path):
    got = case(tmp_path, [image(), image(seed=1)], label(), channels=2)
    assert got.problems == () and got.volume is not None and got.labels is not None
    np.testing.assert_array_equal(got.volume, [image(), image(seed=1)])
    np.testing.assert_array_equal(got.labels, label())


def test_a_small_difference_of_affines_is_none(tmp_path):
    near = np.eye(4)
    near[:3, 3] = 0.01
    assert case(tmp_path, [image()], label(), affines={"l.nii.gz": near}).problems == ()


SHIFTED = np.eye(4)
SHIFTED[0, 3] = 3.0
NAN = image()
NAN[0, 0, :2] = np.nan
FLAT = np.zeros(SHAPE, np.float32)
FLAT[2:6, 2:6] = 7.0  # 0 is outside, and the rest has one value

BAD = {
    "a0.nii.gz: is an HTML page": {"images": [b"<html></html>"], "labels": label()},
    "l.nii.gz: is an HTML page": {"images": [image()], "labels": b"<html></html>"},
    "l.nii.gz: has the shape 9 x 10 x 12, but a0.nii.gz 9 x 10 x 11; resample": {
        "images": [image()],
        "labels": label(9, 10, 12),
    },
    "l.nii.gz: lies elsewhere than a0.nii.gz: their affines differ by 3 mm": {
        "images": [image()],
        "labels": label(),
        "affines": {"l.nii.gz": SHIFTED},
    },
    "a1.nii.gz: lies elsewhere": {
        "images": [image(), image()],
        "labels": label(),
        "channels": 2,
        "affines": {"a1.nii.gz": SHIFTED},
    },
    "a1.nii.gz: has the shape": {"images": [image(), image(9, 10, 12)], "labels": label(), "channels": 2},
    "l.nii.gz: has label values 2, allowed are 0, 1": {"images": [image()], "labels": label() * 2},
    "a0.nii.gz: has 2 channels .4-D. where a 3-D": {"images": [image(*SHAPE, 2)], "labels": label()},
    "a0.nii.gz: is 3-D where 4 modalities": {"images": [image()], "labels": label(), "channels": 4},
    "a0.nii.gz: has 3 channels instead of 4": {"images": [image(*SHAPE, 3)], "labels": label(), "channels": 4},
    "a0.nii.gz: has 2 voxels that are not finite": {"images": [NAN], "labels": label()},
    "a0.nii.gz: is constant: all voxels": {"images": [np.full(SHAPE, 7.0, np.float32)], "labels": label()},
    "a0.nii.gz: is constant: all voxels but zeros": {"images": [FLAT], "labels": label()},
    "a0.nii.gz: has a side of 9 voxels, less than the total stride 16": {
        "images": [image()],
        "labels": label(),
        "stride": 16,
    },
}


@pytest.mark.parametrize("problem", BAD)
def test_each_problem_names_file_and_remedy(tmp_path, problem):
    lines = case(tmp_path, **BAD[problem]).problems
    assert len(lines) == 1 and re.match(problem, lines[0]) and ";" in lines[0] and "\n" not in lines[0]


def test_all_problems_are_found_at_once(tmp_path):
    volume = image(*SHAPE, 2)
    volume[..., 1] = 3.0
    lines = case(tmp_path, [volume], label(9, 10, 12) * 3, stride=16).problems
    assert [line.split(":")[0] for line in lines] == ["a0.nii.gz"] * 3 + ["l.nii.gz"] * 2


def test_a_box_that_is_too_small_is_a_problem_of_the_image(tmp_path):
    got = case(tmp_path, [image()], label(), preparation=VolumePreparation(1, (9, 9, 12)))
    assert len(got.problems) == 1 and got.problems[0].startswith(
        "a0.nii.gz: (9, 10, 11) voxels do not fit into the box"
    )
    zeros = image()
    zeros[:, 8:] = 0.0  # cut off, so that 8 of its 10 voxels are left
    cut = VolumePreparation(1, (9, 9, 12), foreground_crop=True)
    got = case(tmp_path, [zeros], label(), preparation=cut)
    assert got.problems == () and got.geometry is not None and got.geometry.size == (9, 8, 11)
