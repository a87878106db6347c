"""Files with known answers, broken ones among them, predicted into a folder."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from exported_files import bright_box, bright_network, conv_model, write_bundle, write_network
from onceforall.data import Preparation, VolumePreparation
from onceforall.errors import UserError
from onceforall.predict import Predictor
from onceforall.predict.predicting import predict_files
from volume_files import save_nifti


@pytest.fixture
def bright(tmp_path):
    return Predictor(bright_network(tmp_path / "bright", VolumePreparation(1, (16, 16, 16)), (16, 16, 16)))


@pytest.fixture
def grey(tmp_path):
    """Class "low" for images darker than a half, "high" for others; "never" is never likely."""
    preparation = Preparation(1, fit="stretch").to_dict()
    about = {"classes": ["low", "high", "never"], "task": {"kind": "classification"}, "preparation": preparation}
    path = write_network(tmp_path / "grey", np.array([[-1.0], [1.0], [0.0]]), [0.0, 0.0, -9.0], (8, 8), **about)
    return Predictor(path)


def test_volumes_are_written_and_what_is_broken_is_told(tmp_path, bright):
    volume, labels = bright_box()
    affine = np.diag([-0.5, 2.0, 1.0, 1.0])
    (tmp_path / "in" / "deep").mkdir(parents=True)
    save_nifti(tmp_path / "in" / "good.nii.gz", volume, affine)
    save_nifti(tmp_path / "in" / "deep" / "also.nii", volume)
    save_nifti(tmp_path / "in" / "constant.nii.gz", np.ones((4, 4, 4), np.float32))
    (tmp_path / "in" / "page.nii.gz").write_text("<!doctype html><html>not found</html>")
    whole = (tmp_path / "in" / "good.nii.gz").read_bytes()
    (tmp_path / "in" / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    told = []
    paths = [str(tmp_path / "in"), str(tmp_path / "missing.nii.gz")]
    found = predict_files(bright, paths, tmp_path / "out", progress=lambda *numbers: told.append(numbers))
    assert told == [(i, 6) for i in range(7)] and found.inputs == 6
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["deep/also.nii.gz", "good.nii.gz"]
    assert sorted(found.written) == [tmp_path / "out" / name for name in written]
    image = nibabel.load(tmp_path / "out" / "good.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels)
    np.testing.assert_array_equal(image.affine, affine)
    assert image.get_data_dtype() == np.uint8
    told_of = " ".join(found.problems)
    assert len(found.problems) == 4 and all(len(problem.splitlines()) == 1 for problem in found.problems)
    for file, what in (
        ("constant", "one value only"),
        ("page", "is an HTML page"),
        ("cut", "truncated or damaged"),
        ("missing", "cannot be opened"),
    ):
        [line] = [problem for problem in found.problems if f"{file}.nii.gz" in problem]
        assert what in line and line.count(f"{file}.nii.gz") == 1, told_of


def table(path):
    return list(csv.reader(path.read_text().splitlines()))


def test_images_fill_a_table(tmp_path, grey):
    (tmp_path / "in").mkdir()
    for name, value in (("a", 64), ("b", 200)):
        Image.fromarray(np.full((10, 12), value, np.uint8)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "c.jpg").write_bytes(b"")
    found = predict_files(grey, [str(tmp_path / "in")], tmp_path / "out", top=2)
    assert found.written == (tmp_path / "out" / "predictions.csv",) and found.inputs == 3
    assert found.problems == (f"{tmp_path / 'in' / 'c.jpg'}: empty (0 bytes).",)
    rows = table(tmp_path / "out" / "predictions.csv")
    assert rows[0] == ["file", "class", "probability", "class_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == [str(tmp_path / "in" / f"{name}.png") for name in "ab"]
    assert [row[1] for row in rows[1:]] == ["low", "high"] and [row[3] for row in rows[1:]] == ["high", "low"]
    level = (200 / 255 - 0.5) / 0.5  # what the network reads of the second; the other logits are its negative and -9
    likely = np.exp(level) / (np.exp(level) + np.exp(-level) + np.exp(-9))
    assert float(rows[2][2]) == pytest.approx(likely, abs=1e-5)
    predict_files(grey, [str(tmp_path / "in" / "a.png")], tmp_path / "out", top=9)
    assert len(table(tmp_path / "out" / "predictions.csv")[0]) == 7, "three classes are all"


def test_nothing_is_half_written(tmp_path, bright, monkeypatch):
    volume, _ = bright_box()
    save_nifti(tmp_path / "a.nii.gz", volume)
    (tmp_path / "out").write_text("a file in the way")
    with pytest.raises(UserError, match="cannot write"):
        predict_files(bright, [str(tmp_path / "a.nii.gz")], tmp_path / "out")
    out = tmp_path / "labels"
    first = predict_files(bright, [str(tmp_path / "a.nii.gz")], out).written[0].read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        predict_files(bright, [str(tmp_path / "a.nii.gz")], out)
    assert [path.name for path in out.iterdir()] == ["a.nii.gz"] and (out / "a.nii.gz").read_bytes() == first


def test_images_as_json_in_batches_of_any_size(tmp_path, grey):
    (tmp_path / "in").mkdir()
    for i in range(5):
        Image.fromarray(np.full((10, 12), 60 * i, np.uint8)).save(tmp_path / "in" / f"{i}.png")
    (tmp_path / "in" / "2b.png").write_bytes(b"broken")
    found, told = {}, []
    for batch in (1, 2, 16):
        out = tmp_path / f"out{batch}"
        result = predict_files(
            grey, [str(tmp_path / "in")], out, format="json", top=2, batch=batch, progress=lambda *n: told.append(n)
        )
        assert result.written == (out / "predictions.json",) and len(result.problems) == 1
        assert result.seconds >= result.network_seconds > 0 and result.per_second > 0 and result.answered_by == ()
        found[batch] = json.loads((out / "predictions.json").read_text())
    assert told[-3:] == [(6, 6), (0, 6), (6, 6)]
    assert [Path(row["file"]).name for row in found[1]] == [f"{i}.png" for i in range(5)]
    assert [row["classes"][0]["class"] for row in found[1]] == ["low", "low", "low", "high", "high"]
    for batch in (2, 16):
        for one, other in zip(found[1], found[batch], strict=True):
            for a, b in zip(one["classes"], other["classes"], strict=True):
                assert a["class"] == b["class"] and a["probability"] == pytest.approx(b["probability"], abs=2e-6)


def test_formats_belong_to_images_or_volumes(tmp_path, grey, bright):
    for predictor, format, allowed in ((grey, "nifti", "'csv', 'json'"), (bright, "csv", "'nifti'")):
        with pytest.raises(UserError, match=f"is not one of: {allowed}"):
            predict_files(predictor, [str(tmp_path)], tmp_path / "out", format=format)


def test_pixels_of_every_kind(tmp_path, grey):
    """The same grey, three quarters of white, in each way in which files hold it; all are "high", equally probable."""
    level = np.full((10, 12), 191, np.uint8)
    colour = np.repeat(level[:, :, None], 3, axis=2)
    opaque = np.concatenate([colour, np.full((10, 12, 1), 255, np.uint8)], axis=2)
    images = {
        "grey": Image.fromarray(level),
        "grey16": Image.fromarray(level.astype(np.uint16) * 257),
        "colour": Image.fromarray(colour),
        "rgba": Image.fromarray(opaque),
        "palette": Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE),
        "grey_alpha": Image.fromarray(level).convert("LA"),
    }
    (tmp_path / "in").mkdir()
    for name, image in images.items():
        image.save(tmp_path / "in" / f"{name}.png")
    Image.fromarray(level.astype(np.float32)).save(tmp_path / "in" / "float.tiff")
    found = predict_files(grey, [str(tmp_path / "in")], tmp_path / "out")
    rows = table(tmp_path / "out" / "predictions.csv")[1:]
    assert len(rows) == len(images) and {row[1] for row in rows} == {"high"}
    assert {round(float(row[2]), 3) for row in rows} == {round(float(rows[0][2]), 3)}
    [problem] = found.problems
    assert "float.tiff: holds floating-point pixels; save it with 8 or 16 bits." in problem


def test_a_chain_tells_which_part_answered(tmp_path):
    models = [
        conv_model(np.array([[1.0], [-1.0]]), [0.0, 0.0], (8, 8)),
        conv_model(np.array([[2.0], [-2.0]]), [0.0] * 2, (8, 8)),
    ]
    preparation = Preparation(1, fit="stretch").to_dict()
    predictor = Predictor(write_bundle(tmp_path / "net", models, 1, (8, 8), thresholds=[0.8], preparation=preparation))
    (tmp_path / "in").mkdir()
    for value in (0, 100, 255):  # raw outputs -1, -0.2 and 1
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / "in" / f"{value:03}.png")
    found = predict_files(predictor, [str(tmp_path / "in")], tmp_path / "out", top=1)
    assert found.answered_by == (2, 1)
    rows = table(tmp_path / "out" / "predictions.csv")
    assert rows[0] == ["file", "class", "probability", "part"] and [row[3] for row in rows[1:]] == ["0", "1", "0"]
