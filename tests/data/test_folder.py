import pytest

from onceforall.data.folder import list_folder, split_folders
from onceforall.errors import UserError


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_class_folders_with_files_at_any_depth(tmp_path):
    listing = list_folder(make(tmp_path, "dog/b.png", "cat/p1/a.png", "cat/z.png", "manifest.csv", "cat/.x"))
    assert listing.classes == ("cat", "dog")
    assert listing.files == ("cat/p1/a.png", "cat/z.png", "dog/b.png")
    assert listing.labels == (0, 0, 1)
    assert listing.splits == ("", "", "")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST")])
def test_given_splits(tmp_path, names):
    train, validation, test = names
    listing = list_folder(
        make(tmp_path, *(f"{split}/{c}/1.png" for split in names for c in "ab"), f"{train}/a/2.png", "other/x/1.png")
    )
    assert listing.classes == ("a", "b")
    found = dict(zip(listing.files, listing.splits, strict=True))
    assert found[f"{train}/a/2.png"] == "train"
    assert found[f"{validation}/b/1.png"] == "validation" and found[f"{test}/b/1.png"] == "test"
    assert len(found) == 7


def test_a_missing_split_stays_open(tmp_path):
    listing = list_folder(make(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"))
    assert set(zip(listing.files, listing.splits, strict=True)) == {
        ("train/a/1.png", ""),
        ("train/b/1.png", ""),
        ("test/a/1.png", "test"),
        ("test/b/1.png", "test"),
    }


def test_a_class_called_test_is_a_class(tmp_path):
    make(tmp_path, "test/1.png", "control/1.png")
    assert split_folders(tmp_path) == {}
    assert list_folder(tmp_path).classes == ("control", "test")


def test_chosen_classes(tmp_path):
    make(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    assert list_folder(tmp_path, 2).files == ("a/1.png", "b/1.png")
    assert list_folder(tmp_path, ["c", "a"]).labels == (1, 0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/1.png",), r"one class only \(a\)"),
        (("1.png", "2.png"), "no class folders; looked for <class>"),
        (("a/1.png", "b/.hidden"), "no files for class b"),
        (("train/a/1.png", "train/b/1.png", "val/c/1.png"), "no files in 'train' for class c"),
        (("train/a/1.png", "train/b/1.png", "val/a/1.png"), "no images of class b in 'val', the validation split"),
        (("train/a/1.png", "train/b/1.png", "test/1.png"), "'test' holds no files in class folders"),
        (("train/a/1.png", "val/a/1.png", "valid/a/1.png"), "both 'val' and 'valid'"),
    ],
)
def test_wrong_layouts(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        list_folder(make(tmp_path, *names))
