"""Oracles: a folder whose every fault was put there by hand."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from onceforall.data import check_data
from onceforall.data.assembly import DataOptions, data_from_files
from onceforall.data.layouts import list_images
from onceforall.data.volume_loading import VolumeOptions
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
        check_data(tmp_path, DataOptions(kind="digits"))


def test_a_folder_of_the_other_kind_is_refused(image_folder, volume_folder):
    with pytest.raises(UserError, match="has no folder imagesTr"):
        check_data(image_folder({"cat": 3, "dog": 3}), VolumeOptions(max_resolution=16))
    with pytest.raises(UserError, match="holds volumes"):
        check_data(volume_folder(3), DataOptions())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"classes": 99}, ["classes 99 is out of range; this data set has 3"]),
        ({"classes": ["a", "cow"]}, ["class 'cow' is not in this data set"]),
        ({"group_pattern": r"zzz(\d+)"}, ["does not match 16 of 16 files"]),
        ({"group_csv": "m.csv", "group_column": "p"}, ["cannot be read"]),
        ({"split_csv": "none.csv"}, ["split_csv 'none.csv' cannot be read"]),
        ({"channels": 4}, ["channels 4 is not possible for image files"]),
        ({"train_per_class": 3}, ["'tiny_imagenet' only"]),
        ({"maximum": 4095}, ["maximum 4095 is out of range for 8-bit images"]),
        (
            {"mean": (0.1, 0.2), "std": (1.0, 1.0), "test_fraction": 0.9},
            ["leave nothing to train on", "give 1 finite number"],
        ),
        ({"test_fraction": 0.0}, []),
        ({"classes": 2, "mean": (0.5,), "std": (0.5,)}, []),
    ],
)
def test_the_folder_is_judged_as_it_will_be_loaded(image_folder, options, expected):
    root = image_folder({"a": 6, "b": 6, "c": 4})
    options = DataOptions(**options)
    report = check_data(root, options)
    assert len(report.errors) == len(expected)
    assert all(text in line for text, line in zip(expected, report.errors, strict=True))
    loads = True
    try:
        data_from_files(list_images(root, "folder", options), options)
    except UserError as error:
        loads = False
        assert str(error).removesuffix(".") == report.errors[0]
    assert loads == (not expected) == ("ready to be trained on" in report.text())
    assert report.classes == (("a", "b") if options.classes == 2 else ("a", "b", "c"))


def test_unreadable_files_that_are_skipped_leave_enough_or_not(image_folder):
    root = image_folder({"a": 4, "b": 3})
    (root / "a" / "notes.txt").touch()
    skipping = DataOptions(skip_unreadable=True)
    report = check_data(root, skipping)
    assert report.errors == [] and report.warnings == ["1 file(s) cannot be read as images and are left out"]
    next((root / "b").iterdir()).write_bytes(b"x")
    assert [line.split(";")[0] for line in check_data(root, skipping).errors] == [
        "fewer images than splits in class b (2)"
    ]
    assert [line.split(";")[0] for line in check_data(root).errors] == ["2 file(s) cannot be read as images"]


def test_files_that_a_table_does_not_know_are_told(image_folder, tmp_path):
    root = image_folder({"a": 6, "b": 6})
    table = tmp_path / "old.csv"
    table.write_text("file,split\na/gone.png,train\n")
    report = check_data(root, DataOptions(split_csv=table))
    assert report.errors == [] and report.warnings[0].startswith("0 of the 1 files in ")


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
