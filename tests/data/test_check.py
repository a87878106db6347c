"""Oracles: a folder whose every fault was put there by hand."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from onceforall.data import check_data
from onceforall.errors import UserError


def test_a_good_folder(image_folder):
    report = check_data(image_folder({"cat": 3, "dog": 4}, shape=(6, 9)))
    assert report.counts == {"undivided": {"cat": 3, "dog": 4}}
    assert (report.sizes, report.modes, report.bit_depths) == ({"9 x 6": 7}, {"L": 7}, {8: 7})
    assert report.errors == [] and report.warnings == [] and report.unreadable == {}
    assert "ready to be trained on" in report.text() and "dog" in report.text()


def test_every_fault_is_found_in_one_pass(image_folder):
    root = image_folder({"train/cat": 3, "train/dog": 2, "val/cat": 1, "val/dog": 1})
    first = next((root / "train/cat").iterdir())
    shutil.copy(first, root / "train/cat/again.png")
    shutil.copy(first, root / "train/dog/other-class.png")
    leak = next((root / "train/dog").glob("dog-*"))
    shutil.copy(leak, root / "val/dog/leak.png")
    (root / "train/cat/empty.png").touch()
    (root / "train/cat/notes.txt").write_text("no image")
    (root / "train/cow").mkdir()
    (root / "train/readme.md").touch()
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(root / "val/cat/colour.png")
    Image.fromarray(np.ones((5, 4), np.uint16)).save(root / "val/cat/deep.png")
    calls = []
    report = check_data(root, progress=lambda *call: calls.append(call))
    assert report.counts["train"] == {"cat": 6, "cow": 0, "dog": 3}
    assert report.counts["validation"] == {"cat": 3, "cow": 0, "dog": 2}
    assert report.unreadable.keys() == {"train/cat/empty.png", "train/cat/notes.txt"}
    assert sorted(map(sorted, report.copies)) == [
        sorted([first.relative_to(root).as_posix(), "train/cat/again.png", "train/dog/other-class.png"]),
        sorted([leak.relative_to(root).as_posix(), "val/dog/leak.png"]),
    ]
    assert report.copies_within == 1
    assert report.ignored == ("train/readme.md",)
    assert (report.modes, report.bit_depths) == ({"L": 10, "RGB": 1, "I;16": 1}, {8: 11, 16: 1})
    assert [line.split(";")[0] for line in report.errors] == [
        "no files for class cow",
        "2 file(s) cannot be read as images",
    ]
    assert len(report.warnings) == 4
    assert calls == [("check", 14, 14)]
    assert json.loads(json.dumps(report.to_dict()))["unreadable"]["train/cat/empty.png"] == "empty (0 bytes)"
    for part in ("empty.png: empty", "leak.png", "readme.md", "error: no files for class cow", "warning: "):
        assert part in report.text()


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        ({"only": 2}, r"1 class folder(s) (only)"),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "val/c": 1}, "no training files for class c"),
        ({"train/a": 1, "train/b": 1, "test/a": 0}, "no files in class folders for the split test"),
        ({"a": 2, "b": 3}, "fewer images than splits in class a (2); each class needs at least 3 images"),
    ],
)
def test_what_keeps_from_training(image_folder, classes, error):
    report = check_data(image_folder(classes))
    assert len(report.errors) == 1 and report.errors[0].startswith(error)
    assert "ready" not in report.text()


def test_copies_inside_a_class_are_only_counted(image_folder):
    root = image_folder({"cat": 2, "dog": 3})
    shutil.copy(next((root / "cat").iterdir()), root / "cat/again.png")
    report = check_data(root)
    assert (report.copies, report.copies_within, report.errors) == ((), 1, [])
    assert report.warnings == ["1 byte-identical copies inside a class: a split may part them"]


def test_no_class_folders(tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    (folder / "x.png").touch()
    report = check_data(folder)
    assert report.errors[0].startswith("0 class folder(s) (none)") and report.ignored == ("x.png",)
    assert report.text()


def test_missing_and_empty_folders_raise(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        check_data(tmp_path / "empty")
    with pytest.raises(UserError, match="does not exist"):
        check_data(tmp_path / "none")
    with pytest.raises(UserError, match="kind 'digits'"):
        check_data(tmp_path, kind="digits")


def test_options_of_volumes_are_not_for_images(image_folder):
    with pytest.raises(UserError, match="holds images; scheme, stride and clip are of volumes"):
        check_data(image_folder({"cat": 3, "dog": 3}), stride=16)


@pytest.mark.data
def test_real_tiny_imagenet_and_oct(data_root):
    report = check_data(data_root / "oct")
    assert report.counts == {"undivided": {"CNV": 17, "DME": 16, "DRUSEN": 16, "NORMAL": 16}}
    assert report.modes == {"L": 62, "RGB": 3} and report.ignored == ("manifest.csv",) and report.errors == []
    assert (report.kind, report.patients, report.unnamed) == ("retinal_oct", {"undivided": 45}, ())


def test_patients_of_retinal_oct(image_folder):
    names = ("CNV", "DME", "DRUSEN", "NORMAL")
    root = image_folder(
        {f"{split}/{name}": 2 for split in ("train", "test") for name in names if split + name != "testDME"}
    )
    report = check_data(root)  # the fixture counts patients 00 to 60, a folder after the other
    assert report.kind == "retinal_oct" and report.patients == {"train": 4, "test": 3}
    assert report.errors == ["no test images of class DME; add some or remove that folder"]
    shutil.copy(root / "train/CNV/CNV-00-0.png", root / "test/CNV/CNV-00-9.png")
    (root / "train/DME/DME-10-0.png").rename(root / "train/DME/scan.png")
    report = check_data(root)
    assert report.shared_patients == ("00",) and report.patients == {"train": 4, "test": 4}
    assert "1 file(s) are not named <CLASS>-<patient>-<n>.jpeg (first: train/DME/scan.png)" in report.errors
    assert any("1 patient(s) stand in several split folders (00)" in line for line in report.warnings)
    assert "patients    train (4), test (4)" in report.text()
    assert report.to_dict()["shared_patients"] == ["00"]
