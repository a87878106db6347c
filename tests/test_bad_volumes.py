"""Volumes that cannot be used, by the command line: each is told by name with the remedy, before training."""

import gzip
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from onceforall.cli import main
from volume_files import head, make_volumes, save_nifti

SHAPE = (9, 10, 11)  # of the first volume
TINY = ("network.poolings=1", "network.width_mult=0.125", "network.resolutions=[12]", "schedule.total_epochs=4")
FIRST = "imagesTr/s0.nii.gz"


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def html(root):
    (root / FIRST).write_bytes(b"<!DOCTYPE html><html>not found</html>")


def truncated(root):
    (root / FIRST).write_bytes((root / FIRST).read_bytes()[:200])


def no_label(root):
    (root / "labelsTr/s0.nii.gz").unlink()


def no_image(root):
    (root / FIRST).unlink()


def other_shape(root):
    save_nifti(root / "labelsTr/s0.nii.gz", head((9, 10, 12), 0)[1])


def other_affine(root):
    affine = np.eye(4)
    affine[0, 3] = 5.0
    save_nifti(root / "labelsTr/s0.nii.gz", head(SHAPE, 0)[1], affine)


def strange_label(root):
    save_nifti(root / "labelsTr/s0.nii.gz", np.full(SHAPE, 7, np.uint8))


def four_dimensions(root):
    save_nifti(root / FIRST, np.stack([head(SHAPE, 0)[0]] * 2, axis=-1))


def no_modality(root):
    described = json.loads((root / "dataset.json").read_text()) | {"modality": {"0": "T1", "1": "T2"}}
    (root / "dataset.json").write_text(json.dumps(described))
    for path in sorted((root / "imagesTr").iterdir()):
        stem = path.name.removesuffix(".nii.gz")
        shutil.copy(path, path.with_name(f"{stem}_0000.nii.gz"))
        path.rename(path.with_name(f"{stem}_0001.nii.gz"))
    (root / "imagesTr/s0_0001.nii.gz").unlink()


def not_finite(root):
    volume = head(SHAPE, 0)[0]
    volume[1, 1, 1] = np.nan
    save_nifti(root / FIRST, volume)


def constant(root):
    save_nifti(root / FIRST, np.full(SHAPE, 3.0, np.float32))


def zero_spacing(root):
    data = bytearray(gzip.decompress((root / FIRST).read_bytes()))
    data[80:84] = bytes(4)  # pixdim[1]
    (root / FIRST).write_bytes(gzip.compress(bytes(data)))


def flat(root):
    for folder, array in zip(("imagesTr", "labelsTr"), head(SHAPE, 0), strict=True):
        save_nifti(root / folder / "s0.nii.gz", array[:, :, :1])


def dicom(root):
    shutil.rmtree(root / "imagesTr")
    (root / "imagesTr").mkdir()
    (root / "imagesTr/I0.dcm").write_bytes(bytes(128) + b"DICM")


BAD = [
    (html, f"{FIRST}: is an HTML page, not a NIfTI file; download the file itself"),
    (truncated, f"{FIRST}: is a truncated or damaged .gz file; copy or download it again"),
    (no_label, f"{FIRST}: has no label; add labelsTr/s0.nii.gz or remove the image"),
    (no_image, "labelsTr/s0.nii.gz: has no image; add it to imagesTr or remove the label"),
    (other_shape, "labelsTr/s0.nii.gz: has the shape 9 x 10 x 12, but imagesTr/s0.nii.gz 9 x 10 x 11; resample"),
    (other_affine, "labelsTr/s0.nii.gz: lies elsewhere than imagesTr/s0.nii.gz: their affines differ by 5 mm"),
    (strange_label, "labelsTr/s0.nii.gz: has label values 7, allowed are 0, 1, 2 (scheme classes); correct it"),
    (four_dimensions, f"{FIRST}: has 2 channels (4-D) where a 3-D volume is expected; split it"),
    (no_modality, "imagesTr/s0_0001.nii.gz: modality T2 is missing; add it or remove s0"),
    (not_finite, f"{FIRST}: has 1 voxels that are not finite (NaN); replace them"),
    (constant, f"{FIRST}: is constant: all voxels but zeros and outliers have one value; remove this subject"),
    (zero_spacing, f"{FIRST}: has a spacing of [0.0, 1.0, 1.0] mm; correct the header's pixdim"),
    (flat, f"{FIRST}: has a side of 1 voxels, less than the total stride"),
    (dicom, "holds DICOM files (I0.dcm), which are not read; convert each series with dcm2niix -z y"),
]


@pytest.mark.parametrize(("spoil", "expected"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
def test_a_bad_file_is_named_with_its_remedy(spoil, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    root = make_volumes(tmp_path / "heads", 4)
    spoil(root)
    checked = invoke("data", "check", root)
    assert checked.exit_code == 2 and [line for line in checked.output.splitlines() if expected in line]
    words = [word for text in TINY for word in ("--set", text)]
    trained = invoke("train", "hippocampus-quick", "--data", root, "--out", tmp_path / "run", *words)
    assert trained.exit_code == 2 and trained.output.startswith("error: ") and expected in trained.output
    assert trained.output.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_folder_is_judged_as_a_recipe_reads_it(tmp_path):
    root = make_volumes(tmp_path / "heads", 4)
    assert invoke("data", "check", root).exit_code == 0
    assert invoke("data", "check", root, "--recipe", "hippocampus-quick").exit_code == 0
    small = ("--recipe", "hippocampus-quick", "--set", "network.resolutions=[9,12]")
    assert invoke("data", "check", root, *small).exit_code == 0
    boxed = invoke("data", "check", root, *small, "--set", "data.volumes.box=[9,12,12]")
    assert boxed.exit_code == 2 and "resolution (12, 12, 12) is larger than the box (9, 12, 12)" in boxed.output
    boxed = invoke("data", "check", root, "--recipe", "hippocampus-quick", "--set", "network.resolutions=[9]")
    refused = [line for line in boxed.output.splitlines() if "do not fit into the box (9, 9, 9)" in line]
    assert boxed.exit_code == 2 and len(refused) == 4 and "ready" not in boxed.output
    deeper = invoke("data", "check", root, "--recipe", "hippocampus-quick", "--set", "network.poolings=6")
    assert deeper.exit_code == 2 and "less than the total stride 64" in deeper.output
    images = invoke("data", "check", root, "--recipe", "images-ps")
    assert images.exit_code == 2 and "holds volumes" in images.output
    for key in (
        "network.width_mult=0.5",
        "schedule.total_epochs=4",
        "data.volumes.augmentation.noise=0",
        "data.path=x",
    ):
        other = invoke("data", "check", root, "--recipe", "hippocampus-quick", "--set", key)
        assert other.exit_code == 2 and f"--set {key.split('=')[0]} does not count for a check" in other.output
    ignored = invoke("data", "check", root, "--recipe", "hippocampus-quick", "--set", "data.classes=2")
    assert ignored.exit_code == 2 and "data.classes=2 does not count for volumes" in ignored.output
    alone = invoke("data", "check", root, "--set", "network.poolings=6")
    assert alone.exit_code == 2 and "--set goes with --recipe" in alone.output


def test_a_split_that_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    root = make_volumes(tmp_path / "heads", 2)
    checked = invoke("data", "check", root)
    assert checked.exit_code == 2 and "2 subject(s) cannot be divided into train, validation, test" in checked.output
    trained = invoke("train", "hippocampus-quick", "--data", root, "--out", tmp_path / "run")
    assert trained.exit_code == 2 and "cannot be divided into train, validation, test; add subjects" in trained.output
    table = tmp_path / "split.csv"
    table.write_text("file,split\nimagesTr/s0.nii.gz,train\nimagesTr/s1.nii.gz,train\n")
    words = [word for text in (*TINY, f"data.split_csv={table}") for word in ("--set", text)]
    trained = invoke("train", "hippocampus-quick", "--data", root, "--out", tmp_path / "run", *words)
    assert trained.exit_code == 2 and "validation" in trained.output and trained.output.count("\n") == 1
