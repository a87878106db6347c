"""Oracles: counts worked out by hand, and what must hold for every split."""

import csv
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onceforall.data.splits import (
    assign_splits,
    by_hash,
    groups_from_csv,
    groups_from_pattern,
    kept_splits,
    write_split_file,
)
from onceforall.errors import UserError


def named(counts):
    """Files and labels of classes with so many images."""
    files = [f"{c}/{c}-{i}.png" for c, n in enumerate(counts) for i in range(n)]
    return files, [int(file[0]) for file in files]


def tally(labels, splits):
    return Counter(zip(labels, splits, strict=True))


def test_stratified_counts_by_hand():
    files, labels = named([20, 40, 10])
    found = tally(labels, assign_splits(files, labels, "abc", validation_fraction=0.2, test_fraction=0.1))
    assert found == {
        (0, "train"): 14,
        (0, "validation"): 4,
        (0, "test"): 2,
        (1, "train"): 28,
        (1, "validation"): 8,
        (1, "test"): 4,
        (2, "train"): 7,
        (2, "validation"): 2,
        (2, "test"): 1,
    }


def test_the_order_of_the_files_does_not_matter_but_the_seed_does():
    files, labels = named([30, 30])
    splits = assign_splits(files, labels, "ab")
    turned = assign_splits(files[::-1], labels[::-1], "ab")
    assert splits == turned[::-1]
    assert splits != assign_splits(files, labels, "ab", seed=1)
    assert by_hash(["x", "y", "z"], 3) == by_hash(["z", "y", "x"], 3)


def test_small_classes_reach_every_split():
    files, labels = named([3, 4, 50])
    found = tally(labels, assign_splits(files, labels, "abc", validation_fraction=0.05, test_fraction=0.05))
    assert all(found[label, split] >= 1 for label in range(3) for split in ("train", "validation", "test"))


def test_given_splits_are_kept_and_only_missing_ones_made():
    files, labels = named([20, 20])
    given = ["test" if i % 20 < 5 else "" for i in range(40)]
    splits = assign_splits(files, labels, "ab", given, validation_fraction=0.2)
    assert [split == "test" for split in splits] == [mark == "test" for mark in given]
    assert tally(labels, splits)[0, "validation"] == 3  # a fifth of the 15 that were open
    whole = ["train", "validation"] * 20
    assert assign_splits(files, labels, "ab", whole) == whole


def test_without_a_test_split():
    files, labels = named([10, 10])
    assert set(assign_splits(files, labels, "ab", test_fraction=0.0)) == {"train", "validation"}


def test_groups_stay_together_and_counts_stay_near():
    files, labels = named([60, 90])
    groups = [f"p{i // 3}" for i in range(150)]
    splits = assign_splits(files, labels, "ab", groups=groups, validation_fraction=0.2, test_fraction=0.2)
    assert all(len({s for s, g in zip(splits, groups, strict=True) if g == group}) == 1 for group in groups)
    found = tally(labels, splits)
    for label, n in ((0, 60), (1, 90)):
        assert abs(found[label, "validation"] - 0.2 * n) <= 3 and abs(found[label, "test"] - 0.2 * n) <= 3


@given(
    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2)), min_size=30, max_size=120),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.1, 0.3]),
)
def test_no_group_is_ever_on_two_sides(images, seed, test_fraction):
    # three groups of their own make a split of each class possible, whatever else is drawn
    images = images + [(100 + 3 * c + k, c) for c in range(3) for k in range(3)]
    files = [f"{i}.png" for i in range(len(images))]
    groups, labels = [str(group) for group, _ in images], [label for _, label in images]
    try:
        splits = assign_splits(files, labels, "abc", None, groups, 0.2, test_fraction, seed)
    except UserError as error:
        assume("shared with other classes" not in str(error))
        raise
    sides: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(where) == 1 for where in sides.values())
    wanted = {"train", "validation"} | ({"test"} if test_fraction else set())
    assert all({s for s, y in zip(splits, labels, strict=True) if y == label} == wanted for label in range(3))


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([2, 9, 1], {}, r"fewer images than splits in class a \(2\), c \(1\); each class needs at least 3"),
        ([1, 9], {"test_fraction": 0.0}, r"class a \(1\); .* 2 images \(train, validation\)"),
        ([9, 9], {"validation_fraction": 0.0}, "validation_fraction 0.0"),
        ([9, 9], {"validation_fraction": 1.0}, "validation_fraction 1.0"),
        ([9, 9], {"test_fraction": -0.1}, "test_fraction -0.1"),
        ([9, 9], {"validation_fraction": 0.5, "test_fraction": 0.5}, "nothing to train on"),
        ([4, 4], {"groups": ["p"] * 4 + ["q", "r", "s", "t"]}, r"fewer groups than splits in class a \(1\)"),
        ([3, 3], {"groups": list("pqrpqr"), "given": ["train", "", "", "test", "", ""]}, r"stand in more.*\(p\)"),
        ([3, 3], {"given": ["train", "validation", "test"] + ["test"] * 3}, "no training images for class b"),
        ([3, 3], {"given": ["train"] * 6}, "no validation images"),
    ],
)
def test_impossible_splits(counts, options, message):
    files, labels = named(counts)
    with pytest.raises(UserError, match=message):
        assign_splits(files, labels, "abc"[: len(counts)], **options)


def test_groups_from_names_and_from_paths():
    files = ["CNV/CNV-81-2.jpeg", "DME/CNV-7-1.jpeg"]
    assert groups_from_pattern(files, r"-(\d+)-") == ["81", "7"]
    assert groups_from_pattern(files, r"^([A-Z]+)-") == ["CNV", "CNV"]  # of the name
    assert groups_from_pattern(files, r"^([A-Z]+)/") == ["CNV", "DME"]  # of the path


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"-(\d+", "no regular expression"),
        (r"-\d+-", "0 bracketed parts"),
        (r"(\w)-(\d+)", "2 bracketed parts"),
        (r"-(\d+)-9", r"does not match 1 of 2 files \(b/2.png\)"),
    ],
)
def test_wrong_patterns(pattern, message):
    with pytest.raises(UserError, match=message):
        groups_from_pattern(["a/1-2-9.png", "b/2.png"], pattern)


def test_groups_from_a_table(tmp_path):
    table = tmp_path / "m.csv"
    table.write_text("\ufefffile,patient\na/1.png,7\nb/1.png,8\n2.png,9\n", encoding="utf-8")
    assert groups_from_csv(["a/1.png", "b/1.png", "c/2.png"], table, "patient") == ["7", "8", "9"]
    with pytest.raises(UserError, match="no column 'patients'.*file, patient.*Did you mean 'patient'"):
        groups_from_csv(["a/1.png"], table, "patients")
    with pytest.raises(UserError, match=r"no patient for 2 of 3 files \(c/1.png, c/3.png\)"):
        groups_from_csv(["a/1.png", "c/1.png", "c/3.png"], table, "patient")
    with pytest.raises(UserError, match="cannot be read"):
        groups_from_csv(["a/1.png"], tmp_path / "none.csv", "patient")
    table.write_text("name,patient\na,1\n")
    with pytest.raises(UserError, match="no column with file names; looked for: file"):
        groups_from_csv(["a"], table, "patient")


def test_written_splits(tmp_path):
    write_split_file(tmp_path / "s.csv", ["b.png", 'a "1",2.png'], ["x", "y"], ["test", "train"], ["p", "q"])
    with (tmp_path / "s.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["file", "class", "split", "group"],
        ['a "1",2.png', "y", "train", "q"],
        ["b.png", "x", "test", "p"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


def test_splits_that_were_made_are_kept(tmp_path):
    path = tmp_path / "splits.csv"
    write_split_file(path, ["a1", "a2", "b1"], "xxx", ["test", "test", "validation"], ["a", "a", "b"])
    files, given, digests = ["a2", "a3", "b1", "c1", "c2"], ["", "", "train", "", "train"], list("12345")
    splits, note = kept_splits(path, files, digests, given, list("aabcc"))
    assert splits == ["test", "test", "validation", "", "train"]
    assert note.startswith(f"2 of the 3 files in {path} were found, by name alone, for it has no digests")
    assert kept_splits(path, files, digests, None, None)[0] == ["test", "", "validation", "", ""]
    assert kept_splits(path, ["a1", *files], ["0", *digests], None, None)[1] == ""
    for text, message in (("file,class\na,x\n", "needs columns"), ("file,split\na,tset\n", "needs columns")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            kept_splits(path, files, digests, None, None)
    with pytest.raises(UserError, match="cannot be read"):
        kept_splits(tmp_path / "none", files, digests, None, None)


def test_splits_are_kept_by_content(tmp_path):
    path = tmp_path / "splits.csv"
    # content A stands in train and test, B in test, C in train
    files, splits = ["a1", "a2", "b", "c", "d"], ["train", "test", "test", "train", "validation"]
    write_split_file(path, files, None, splits, None, list("AABCD"))
    kept = {
        ("a2", "A"): "test",  # as it was
        ("x", "A"): "train",  # a copy of what was trained on
        ("b", "C"): "train",  # names exchanged
        ("c", "B"): "test",
        ("deeper/d", "D"): "validation",
        ("b", "E"): "test",  # changed since; its name is all that is known
        ("y", "E"): "",
        ("z", ""): "",  # cannot be opened
    }
    for (file, digest), split in kept.items():
        assert kept_splits(path, [file], [digest], None, None)[0] == [split], (file, digest)
    assert kept_splits(path, ["y"], ["C"], ["test"], None)[0] == ["train"]  # the layout does not overrule it
    assert kept_splits(path, ["x", "y", "z"], list("ABC"), None, None)[1] == (
        f"4 of the 5 files in {path} were found, by name or content; all others here are new to it."
    )
    assert kept_splits(path, [*"vwxyz"], list("AABCD"), None, None)[1] == ""
