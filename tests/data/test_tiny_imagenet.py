from collections import Counter

import pytest

from onceforall.data.tiny_imagenet import is_tiny_imagenet, list_tiny_imagenet
from onceforall.errors import UserError

WNIDS = ("n03", "n01", "n02")


@pytest.fixture
def tiny(tmp_path):
    """3 classes of 12 training images, numbered 0 to 11, and 2 official validation images each."""
    root = tmp_path / "tiny"
    for wnid in WNIDS:
        (root / f"train/{wnid}/images").mkdir(parents=True)
        (root / f"train/{wnid}/{wnid}_boxes.txt").touch()
        for i in range(12):
            (root / f"train/{wnid}/images/{wnid}_{i}.JPEG").touch()
    (root / "val/images").mkdir(parents=True)
    lines = [f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t1\t2\t3" for i in range(6)]
    for i in range(6):
        (root / f"val/images/val_{i}.JPEG").touch()
    (root / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\tcrane\nn03\tcrane\nn99\tother\n")
    return root


def rows(listing):
    return list(zip(listing.files, listing.labels, listing.splits, strict=True))


def test_official_layout(tiny):
    assert is_tiny_imagenet(tiny)
    listing = list_tiny_imagenet(tiny)
    assert listing.classes == ("crane (n03)", "goldfish", "crane (n02)")  # order of wnids.txt; shared words told apart
    counts = Counter((label, split) for _, label, split in rows(listing))
    assert counts == {(label, split): n for label in range(3) for split, n in (("", 12), ("test", 2))}
    assert ("val/images/val_4.JPEG", 1, "test") in rows(listing)


def test_first_classes_and_names(tiny):
    assert list_tiny_imagenet(tiny, 2).classes == ("crane (n03)", "goldfish")
    assert list_tiny_imagenet(tiny, ["goldfish", "n02"]).classes == ("goldfish", "crane (n02)")


def test_division_per_class(tiny):
    listing = list_tiny_imagenet(tiny, 2, train_per_class=6, validation_per_class=3, seed=1)
    counts = Counter((label, split) for _, label, split in rows(listing))
    sizes = {"train": 6, "validation": 3, "test": 3 + 2}
    assert counts == {(label, split): n for label in range(2) for split, n in sizes.items()}
    for name, _, split in rows(listing):
        number = int(name.rsplit("_", 1)[1].split(".")[0])  # 10 and 11 come after 9, though not in the alphabet
        if name.startswith("train"):
            assert (split == "test") == (number >= 9)
    assert listing == list_tiny_imagenet(tiny, 2, train_per_class=6, validation_per_class=3, seed=1)
    assert listing != list_tiny_imagenet(tiny, 2, train_per_class=6, validation_per_class=3, seed=2)
    rest_out = list_tiny_imagenet(tiny, 2, train_per_class=6, validation_per_class=3, rest_to_test=False)
    assert Counter(split for _, _, split in rows(rest_out)) == {"train": 12, "validation": 6, "test": 4}


def test_without_the_lists_folders_name_the_classes(tiny):
    (tiny / "wnids.txt").unlink()
    (tiny / "words.txt").unlink()
    assert list_tiny_imagenet(tiny).classes == ("n01", "n02", "n03")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_per_class": 6}, "go together"),
        ({"train_per_class": 10, "validation_per_class": 3}, "10 and .* 3 do not fit class n03 of 12"),
        ({"train_per_class": 10, "validation_per_class": 0}, "at least 1"),
        ({"classes": 4}, "classes 4 .* has 3"),
        ({"classes": ["n01", "n1"]}, "'n1' .* Did you mean 'n01'"),
    ],
)
def test_wrong_options(tiny, options, message):
    with pytest.raises(UserError, match=message):
        list_tiny_imagenet(tiny, **options)


def test_other_layouts_are_refused(tmp_path, tiny):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="looked for train/<wnid>/images and val/val_annotations.txt"):
        list_tiny_imagenet(tmp_path)
    for file in (tiny / "train/n01/images").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="n01 holds no training images"):
        list_tiny_imagenet(tiny)
