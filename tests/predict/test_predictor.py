"""Oracles: networks whose answer is known by hand, and the evaluation of the network that was exported."""

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from exported_files import BRIGHT, bright_box, bright_network, write_network
from onceforall.data import LabelScheme, Preparation, VolumePreparation
from onceforall.data.preparation import prepare
from onceforall.deploying.export_run import export_run
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import calibrated_subnet
from onceforall.predict import Predictor
from onceforall.recipes import build_data, build_supernet, build_task, make_recipe
from onceforall.runs import Run
from volume_files import make_volumes

BOX = (16, 16, 16)
WHOLE = VolumePreparation(1, BOX, spacing=(1.0, 1.0, 1.0))
PATCHES = VolumePreparation(1, spacing=(1.0, 1.0, 1.0))


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Predictor(bright_network(tmp_path_factory.mktemp("whole") / "net", WHOLE, BOX))


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    return Predictor(bright_network(tmp_path_factory.mktemp("patches") / "net", PATCHES, (6, 18, 6)))


# -- volumes -----------------------------------------------------------------------------------------------------------


def test_labels_lie_on_the_grid_of_any_orientation(whole, patches):
    volume, labels = bright_box()
    image, truth = nibabel.Nifti1Image(volume, np.eye(4)), nibabel.Nifti1Image(labels, np.eye(4))
    seen = set()
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turn = np.array(list(zip(axes, flips, strict=True)))
            turned, expected = image.as_reoriented(turn), truth.as_reoriented(turn)
            for predictor in (whole, patches):
                found = predictor.predict_volume(np.asarray(turned.dataobj), turned.affine)
                assert found.dtype == np.uint8
                np.testing.assert_array_equal(found, np.asarray(expected.dataobj))
            seen.add(found.tobytes())
    assert len(seen) == 48


def test_labels_lie_on_the_grid_of_any_spacing(whole, patches):
    shape, step = (20, 8, 15), np.array([0.6, 1.6, 0.7])
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * step  # mm
    truth = (np.abs(places - (6.0, 6.0, 5.0)) < (2.5, 3.0, 3.2)).all(axis=-1)
    affine = np.diag([*step, 1.0]) @ np.diag([-1.0, 1.0, -1.0, 1.0])
    for predictor in (whole, patches):
        found = predictor.predict_volume(np.where(truth, 200.0, 100.0), affine)
        assert found.shape == shape
        assert dice(found == 7, truth) > 0.85
        # with a spacing of 1 mm written into it, the same array is another volume
        other = predictor.predict_volume(np.where(truth, 200.0, 100.0)[:16, :, :], np.eye(4))
        assert dice(other == 7, truth[:16]) == 1.0


def test_volumes_smaller_than_a_window_and_of_a_smaller_grid(tmp_path, patches):
    volume, labels = bright_box((5, 14, 10))  # smaller than the window along X and Y
    np.testing.assert_array_equal(patches.predict_volume(volume, np.eye(4)), labels)
    coarse = Predictor(bright_network(tmp_path / "net", WHOLE, (12, 12, 12)))
    volume, labels = bright_box()
    assert dice(coarse.predict_volume(volume, np.eye(4)) > 0, labels > 0) > 0.75


def test_regions_and_several_modalities(tmp_path):
    scheme = LabelScheme("tumours", "regions", ("whole", "core"), ((1, 2), (2,)))
    path = bright_network(tmp_path / "net", VolumePreparation(2, BOX), BOX, scheme)
    volume, labels = bright_box()
    predictor = Predictor(path)
    maps = predictor.volume_probabilities(np.stack([volume, volume[::-1]]), np.eye(4))
    assert maps.shape == (2, *volume.shape) and maps.dtype == np.float32
    np.testing.assert_allclose(maps[0], 0.5, atol=1e-6)  # its logit is 0 everywhere
    np.testing.assert_array_equal(maps[1] >= 0.5, labels == 7)
    found = predictor.predict_volume(np.stack([volume, volume[::-1]]), np.eye(4))
    np.testing.assert_array_equal(found, np.where(labels == 7, 2, 1))
    with pytest.raises(UserError, match="2 channel"):
        predictor.predict_volume(volume, np.eye(4))


SMALL = (
    "network.poolings=1",
    "network.width_mult=0.25",
    "network.depths=[1,2]",
    "network.kernel_sizes=[3]",
    "run.calibration_images=3",
    "data.validation_fraction=0.2",
    "data.test_fraction=0.4",
)


@pytest.mark.parametrize(("mode", "sizes"), [("whole", "[[10,10,12],[12,14,14]]"), ("patches", "[[6,8,8]]")])
def test_answers_are_those_of_the_evaluation(mode, sizes, tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    folder = make_volumes(tmp_path / "volumes", 6, (9, 13, 11))
    changes = (*SMALL, f"network.resolutions={sizes}", f"data.volumes.mode={mode}")
    recipe = make_recipe("hippocampus-quick", changes, folder)
    data = build_data(recipe)
    supernet, task = build_supernet(recipe, data), build_task(recipe, data)
    run = Run(tmp_path, recipe, data, task, supernet, "full", True, {"phases": [{"name": "full"}]})
    architecture = supernet.space.largest()
    architecture = replace(architecture, resolution=supernet.space.resolutions[0])
    report = export_run(run, architecture, tmp_path / "net")
    assert report.difference.agreement > 0.999 and report.difference.relative < 1e-4
    assert report.images == data.count("test") >= 2
    assert report.leftovers == {} and report.nodes["BatchNormalization"] == 3, "one for each residual unit"
    predictor = Predictor(report.path)
    assert predictor.segments and predictor.info["task"]["mode"] == mode
    assert predictor.info["task"]["scheme"] == data.scheme.to_dict()
    net = calibrated_subnet(supernet, architecture, data, images=3)
    for index, file in enumerate(data.files("test")):
        image = nibabel.load(folder / file)
        found = predictor.volume_probabilities(np.asarray(image.dataobj), image.affine)
        [(inputs, _)] = data.batches("test", architecture.resolution, 1, np.array([index]))
        answer = task.to_probabilities(task.infer(net, inputs, architecture.resolution)).detach().numpy()[0]
        expected = answer if mode == "patches" else to_box(answer, (12, 14, 14))
        inside = [slice((b - s) // 2, (b - s) // 2 + s) for b, s in zip(expected.shape[1:], image.shape, strict=True)]
        np.testing.assert_allclose(found, expected[:, *inside], atol=1e-5)
        assert found.argmax(0).std() > 0, "it does not say the same everywhere"


def to_box(maps, box):
    """(K, *grid) on a larger grid over the same box, by scipy: between centres, repeated beyond the outermost."""
    from scipy.ndimage import map_coordinates

    places = [(np.arange(b) + 0.5) * g / b - 0.5 for b, g in zip(box, maps.shape[1:], strict=True)]
    coordinates = np.meshgrid(*places, indexing="ij")
    return np.stack([map_coordinates(m, coordinates, order=1, mode="nearest") for m in maps])


# -- images ------------------------------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
COLOURS = Preparation(3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
WEIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
BIAS = [0.0, 0.1, 0.2, 0.3]


def colour_network(path: Path, **about):
    about = {"classes": ["red", "green", "blue", "yellow"], "task": {"kind": "classification"}, **about}
    return write_network(path, WEIGHT, BIAS, (16, 16), preparation=COLOURS.to_dict(), **about)


def test_an_image_gets_probabilities_of_its_classes(tmp_path):
    predictor = Predictor(str(colour_network(tmp_path / "net")), threads=1)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    logits = WEIGHT @ prepare(PIXELS, COLOURS, 16).mean((1, 2)) + BIAS
    expected = np.exp(logits) / np.exp(logits).sum()
    for source in (PIXELS, tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()):
        np.testing.assert_allclose(predictor.predict_image(source), expected, atol=1e-6)
    assert predictor.classes == ("red", "green", "blue", "yellow") and not predictor.segments


def test_exits_answer_with_their_weights(tmp_path):
    one = Predictor(colour_network(tmp_path / "one")).predict_image(PIXELS)
    three = Predictor(colour_network(tmp_path / "three", outputs=2, exit_weights=[1.0, 2.0]))
    expected = one**3 / (one**3).sum()  # both exits answer the same: logits times 3
    np.testing.assert_allclose(three.predict_image(PIXELS), expected, atol=1e-6)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_network_answers_to_its_own_kind_of_data(whole, tmp_path):
    with pytest.raises(UserError, match="labels volumes; give NIfTI files"):
        whole.predict_image(PIXELS)
    with pytest.raises(UserError, match="classifies images; give image files"):
        Predictor(colour_network(tmp_path / "net")).predict_volume(np.ones((4, 4, 4)), np.eye(4))


def test_what_cannot_be_prepared_or_answered_is_refused(whole, tmp_path):
    volume, _ = bright_box()
    with pytest.raises(UserError, match="one value only"):
        whole.predict_volume(np.ones((4, 4, 4)), np.eye(4))
    with pytest.raises(UserError, match="not finite"):
        whole.predict_volume(np.where(volume > 150, np.nan, volume), np.eye(4))
    with pytest.raises(UserError, match="do not fit into the box"):
        whole.predict_volume(np.pad(volume, 4), np.eye(4))
    task = {"kind": "segmentation", "scheme": BRIGHT.to_dict(), "mode": "whole"}
    about = {"classes": BRIGHT.outputs, "preparation": WHOLE.to_dict(), "task": task}
    path = write_network(tmp_path / "net", np.full((2, 1), np.nan), [0.0, 0.0], BOX, **about)
    with pytest.raises(UserError, match="did the network diverge"):
        Predictor(path).predict_volume(volume, np.eye(4))
    with pytest.raises(UserError, match="does not exist"):
        Predictor(tmp_path / "missing")


# -- without PyTorch ---------------------------------------------------------------------------------------------------

PROGRAM = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "monai", "sklearn", "omegaconf", "onnx", "onnxscript", "matplotlib"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Blocker())
try:
    import torch
except ImportError:
    print("blocked")
from onceforall.cli import main
for words in WORDS:
    main(words, standalone_mode=False)
assert not {"torch", "monai"} & set(sys.modules)
print("done")
"""


def test_it_needs_no_torch(tmp_path):
    volume, labels = bright_box()
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, 1.0, 1.0, 1.0])), tmp_path / "a.nii.gz")
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    patches = bright_network(tmp_path / "patches", PATCHES, (6, 18, 6))
    colours = colour_network(tmp_path / "colours")
    words = [
        ["predict", str(model), str(tmp_path / file), "--out", str(tmp_path / "out")]
        for model, file in ((patches, "a.nii.gz"), (colours, "b.png"))
    ]
    program = PROGRAM.replace("WORDS", repr(words))
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "blocked" and done.stdout.splitlines()[-1] == "done"
    found = nibabel.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels)
    assert (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1].startswith(str(tmp_path / "b.png"))
