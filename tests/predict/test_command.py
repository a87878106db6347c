"""`onceforall predict` as it is typed; the `data` test does so with real volumes turned and resampled."""

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from exported_files import bright_box, bright_network, write_network
from onceforall.cli import main
from onceforall.data import VolumePreparation
from volume_files import save_nifti

BOX = (48, 64, 48)


def invoke(*words):
    return CliRunner().invoke(main, ["predict", *(str(word) for word in words)])


@pytest.fixture
def model(tmp_path):
    preparation = VolumePreparation(1, BOX, spacing=(1.0, 1.0, 1.0))
    return bright_network(tmp_path / "net", preparation, BOX)


def test_the_others_are_predicted_and_the_exit_code_tells(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    volume, labels = bright_box()
    save_nifti(tmp_path / "a.nii.gz", volume)
    good = invoke(model, "a.nii.gz", "--out", "labels")
    assert good.exit_code == 0 and good.stdout.startswith("predicted 1 of 1, written to labels\n")
    assert "volumes a second" in good.stdout
    np.testing.assert_array_equal(np.asarray(nibabel.load("labels/a.nii.gz").dataobj), labels)
    (tmp_path / "b.nii.gz").write_bytes(b"<html>")
    mixed = invoke(model, "*.nii.gz")
    assert mixed.exit_code == 2
    assert (tmp_path / "predictions" / "a.nii.gz").is_file() and not (tmp_path / "predictions" / "b.nii.gz").exists()
    assert mixed.stdout.startswith("predicted 1 of 2, written to predictions\n")
    lines = [line for line in mixed.stderr.splitlines() if line.strip()]
    assert lines[-2].startswith("b.nii.gz: is an HTML page")
    assert lines[-1] == "error: 1 of 2 could not be predicted; they are listed above."


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("net",), "Missing argument 'FILES...'"),
        (("missing", "a.nii.gz"), "missing does not exist: give the folder of a bundle"),
        (("net", "*.nii"), "there is no file .nii, .nii.gz"),
    ],
)
def test_mistakes_exit_with_two(model, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2 and expected in result.output
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("option", ["--top", "--batch"])
def test_what_only_images_have_is_refused_for_volumes(model, tmp_path, option):
    save_nifti(tmp_path / "a.nii.gz", bright_box()[0])
    result = invoke(model, tmp_path / "a.nii.gz", "--out", tmp_path / "labels", option, 3)
    assert result.exit_code == 2 and f"{option} goes with images, and {model} labels volumes" in result.output
    assert result.output.count("\n") == 1 and not (tmp_path / "labels").exists()
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(tmp_path / "a.png")
    images = write_network(tmp_path / "images", np.array([[-1.0], [1.0]]), [0.0, 0.0], (8, 8))
    result = invoke(images, tmp_path / "a.png", "--out", tmp_path / "labels", option, 1)
    assert result.exit_code == 0, result.output


def test_help_shows_an_example_and_the_rules():
    text = " ".join(invoke("--help").output.split())
    for words in (
        "onceforall predict runs/hippocampus/bundle-openvino-fp32",
        "x_0000.nii.gz",
        "exit code is 2",
        "its own grid",
    ):
        assert words in text


# -- real volumes ------------------------------------------------------------------------------------------------------

STEP = np.array([0.8, 1.3, 1.1])  # mm


def elsewhere(array, affine, order):
    """The same volume of other spacing and orientation: (1.1, 0.8, 1.3) mm, mirrored along X and Z, by scipy."""
    from scipy.ndimage import affine_transform

    shape = np.round(np.array(array.shape) / STEP).astype(int)
    offset = np.array(array.shape) / 2 - 0.5 - (shape / 2 - 0.5) * STEP
    array = affine_transform(array, STEP, offset, tuple(shape), order=order, mode="nearest")
    matrix = np.diag([*STEP, 1.0])
    matrix[:3, 3] = offset
    turn = np.array([[1, -1], [2, 1], [0, -1]])
    image = nibabel.Nifti1Image(array, affine @ matrix).as_reoriented(turn)
    return np.asarray(image.dataobj), image.affine


@pytest.mark.data
def test_a_real_volume_elsewhere_gets_the_same_labels(data_root, model, tmp_path):
    """Of three volumes the label itself, made grey, is what the network finds, so that the truth is known."""
    root = data_root / "Task04_Hippocampus" / "labelsTr"
    for path in sorted(root.glob("hippocampus_*.nii.gz"))[:3]:
        image = nibabel.load(path)
        truth = (np.asarray(image.dataobj) > 0).astype(np.uint8) * 7
        scores = []
        for name, order in (("plain", None), ("turned", 1)):
            volume, labels, affine = truth * 10.0 + 100.0, truth, image.affine
            if order is not None:
                volume, affine = elsewhere(truth * 10.0 + 100.0, image.affine, order)
                labels, _ = elsewhere(truth, image.affine, 0)
                assert nibabel.aff2axcodes(affine) != nibabel.aff2axcodes(image.affine)
            file = tmp_path / name / path.name
            file.parent.mkdir(exist_ok=True)
            save_nifti(file, volume.astype(np.float32), affine)
            result = invoke(model, file, "--out", tmp_path / f"{name}-labels")
            assert result.exit_code == 0, result.output
            found = nibabel.load(tmp_path / f"{name}-labels" / path.name)
            assert found.shape == labels.shape
            np.testing.assert_allclose(found.affine, affine, atol=1e-5)
            wrong = np.asarray(found.dataobj) != labels
            scores.append(1 - np.count_nonzero(wrong) / (2 * np.count_nonzero(labels)))
        assert scores[0] == 1.0 and scores[1] > 0.9, scores
