import numpy as np
import pytest

from onceforall.data.listing import Listing, existing_folder, files_below, select_classes, subfolders
from onceforall.errors import UserError


def test_files_are_sorted_and_what_file_managers_leave_is_passed_over(tmp_path):
    for name in ("b/2.png", "b/deep/er/1.png", "a.png", ".hidden", ".git/x.png", "Thumbs.db", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_below(tmp_path) == ["a.png", "b/2.png", "b/deep/er/1.png", "b/notes.txt"]
    assert subfolders(tmp_path) == ["b"]


def test_wrong_folders_are_named(tmp_path):
    (tmp_path / "mednist").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(UserError, match="mednits' does not exist.*Did you mean 'mednist'"):
        existing_folder(tmp_path / "mednits")
    with pytest.raises(UserError, match="does not exist"):
        existing_folder(tmp_path / "none" / "deeper")
    with pytest.raises(UserError, match="mednist' is empty"):
        existing_folder(tmp_path / "mednist")
    with pytest.raises(UserError, match="is a file"):
        existing_folder(tmp_path / "file.txt")


def test_classes_by_number_name_and_other_name():
    assert select_classes(["b", "a", "c"], 2) == ["b", "a"]
    assert select_classes(["b", "a", "c"], np.int64(2)) == ["b", "a"]
    assert select_classes(["b", "a", "c"], None) == ["b", "a", "c"]
    assert select_classes(["b", "a"], ["cat", "b", "a"], {"cat": "a"}) == ["a", "b"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (1, "classes 1 .* has 3"),
        (4, "classes 4 .* has 3"),
        (True, "classes True"),
        (2.5, "classes 2.5"),
        ("cat", "classes 'cat' .* list"),
        (["cat", "doge"], "'doge' is not in this data set; it has: cat, dog, hen. Did you mean 'dog'"),
        (["cat"], r"one class only \(cat\)"),
        ([], "one class only"),
    ],
)
def test_wrong_choices_of_classes(wanted, message):
    with pytest.raises(UserError, match=message):
        select_classes(["cat", "dog", "hen"], wanted)


def test_lengths_must_agree(tmp_path):
    with pytest.raises(ValueError, match="length"):
        Listing("x", tmp_path, ("a", "b"), ("1",), (0, 1), ("", ""))
