import json

import pytest

from onceforall.data.msd import is_volume_folder, list_volumes
from onceforall.errors import UserError


def make(root, images=(), labels=(), described=None):
    for folder, names in (("imagesTr", images), ("labelsTr", labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).touch()  # listing reads no volume
    if described is not None:
        (root / "dataset.json").write_text(json.dumps(described))
    return root


MSD = {"name": "Brains", "modality": {"1": "T1", "0": "FLAIR"}, "labels": {"0": "background", "1": "tumour"}}


def test_the_decathlon_layout(tmp_path):
    root = make(
        tmp_path, ["b_02.nii.gz", "b_01.nii.gz", "._b_01.nii.gz", "notes.txt"], ["b_01.nii.gz", "b_02.nii"], MSD
    )
    got = list_volumes(root)
    assert (got.name, got.subjects, got.problems) == ("Brains", ("b_01", "b_02"), ())
    assert got.images == (("imagesTr/b_01.nii.gz",), ("imagesTr/b_02.nii.gz",))
    assert got.labels == ("labelsTr/b_01.nii.gz", "labelsTr/b_02.nii")
    assert got.modalities == ("FLAIR", "T1") and got.classes == {"0": "background", "1": "tumour"}


def test_the_list_of_the_decathlon_decides_who_counts(tmp_path):
    entries = [{"image": f"./imagesTr/{s}.nii.gz", "label": f"./labelsTr/{s}.nii.gz"} for s in ("a", "c")]
    root = make(tmp_path, ["a.nii.gz", "b.nii.gz"], ["a.nii.gz", "b.nii.gz"], {**MSD, "training": entries})
    got = list_volumes(root)
    assert got.subjects == ("a",) and got.unlisted == ("imagesTr/b.nii.gz",)
    assert [line.split(":")[0] for line in got.problems] == ["imagesTr/c"]


@pytest.mark.parametrize("described", [None, {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0}}])
def test_one_file_for_each_modality(tmp_path, described):
    images = [f"b_{s}_000{i}.nii.gz" for s in "12" for i in range(2)]
    got = list_volumes(make(tmp_path / "set", images, ["b_1.nii.gz", "b_2.nii.gz"], described))
    assert got.subjects == ("b_1", "b_2") and got.problems == ()
    assert got.images[1] == ("imagesTr/b_2_0000.nii.gz", "imagesTr/b_2_0001.nii.gz")
    assert got.modalities == (("T1", "T2") if described else ("channel 0", "channel 1"))
    assert got.name == "set"


def test_a_plain_folder_names_nothing(tmp_path):
    got = list_volumes(make(tmp_path, ["a_0007.nii.gz"], ["a_0007.nii.gz"]))
    assert got.subjects == ("a_0007",) and got.modalities == () and got.classes is None


@pytest.mark.parametrize(
    ("labels", "order", "refused"),
    [
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}, [1, 2, 3], False),
        ({"background": 0, "enhancing": [3], "core": [2, 3], "whole": [1, 2, 3]}, [3, 2, 1], False),
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}, [1, 3, 2], True),
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}, [1, 2], True),
        ({"background": 0, "a": 1, "b": 2}, [2, 1], False),  # classes: nnU-Net does not look at it
    ],
)
def test_an_order_of_regions_that_would_write_other_labels_is_refused(tmp_path, labels, order, refused):
    described = {"channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": order}
    root = make(tmp_path, ["a_0000.nii.gz"], ["a.nii.gz"], described)
    if refused:
        with pytest.raises(UserError, match=r"regions_class_order is \[1, .*\], but .* \[1, 2, 3\] is written"):
            list_volumes(root)
    else:
        assert list_volumes(root).subjects == ("a",)


def test_what_is_incomplete_is_a_problem_with_file_and_remedy(tmp_path):
    images = ["a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "c_0000.nii", "c_0001.nii.gz", "d.nii.gz"]
    images += ["e_0000.nii.gz", "e_0001.nii.gz", "e_0001.nii", "e_0002.nii.gz"]
    described = {"channel_names": {"0": "T1", "1": "T2"}}
    got = list_volumes(make(tmp_path, images, ["a.nii.gz", "b.nii.gz", "e.nii.gz", "x.nii.gz"], described))
    problems = {line.split(":")[0]: line for line in got.problems}
    assert got.subjects == ("a",)
    assert "modality T1 is missing; add it or remove b" in problems["imagesTr/b_0000.nii.gz"]
    assert "has no label; add labelsTr/c.nii.gz" in problems["imagesTr/c_0000.nii"]
    assert "has no image" in problems["labelsTr/x.nii.gz"]
    assert "name it d_0000.nii.gz" in problems["imagesTr/d.nii.gz"]
    assert "names 2 modalities only" in problems["imagesTr/e_0002.nii.gz"]
    assert "remove one of the two" in problems["imagesTr/e_0001.nii.gz"]


@pytest.mark.parametrize("place", ["", "imagesTr", "imagesTr/series"])
@pytest.mark.parametrize(("name", "content"), [("a.dcm", b""), ("IM0001", b"\0" * 128 + b"DICM")])
def test_dicom_is_refused_with_the_remedy(tmp_path, place, name, content):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / name).write_bytes(content)
    (tmp_path / "labelsTr").mkdir()
    assert is_volume_folder(tmp_path)
    with pytest.raises(UserError, match=f"DICOM files .*{name}.*dcm2niix"):
        list_volumes(tmp_path)


def test_folders_of_another_kind(tmp_path):
    make(tmp_path / "set")
    with pytest.raises(UserError, match=r"does not exist.*Did you mean 'set'"):
        list_volumes(tmp_path / "sett")
    with pytest.raises(UserError, match="holds no NIfTI files"):
        list_volumes(tmp_path / "set")
    (tmp_path / "set" / "labelsTr").rmdir()
    with pytest.raises(UserError, match="has no folder labelsTr"):
        list_volumes(tmp_path / "set")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        list_volumes(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must be an object"),
        ('{"modality": {"T1": "0"}}', "must be whole numbers"),
        ('{"labels": ["a"]}', "labels must be an object"),
        ('{"training": [3]}', "entries of 'training'"),
    ],
)
def test_a_dataset_json_that_cannot_be_used(tmp_path, text, message):
    make(tmp_path, ["a.nii.gz"], ["a.nii.gz"])
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=message):
        list_volumes(tmp_path)


def test_other_folders_are_not_taken_for_volumes(tmp_path, image_folder):
    assert not is_volume_folder(image_folder({"a": 1, "b": 1}))
    (tmp_path / "x.nii").touch()
    assert is_volume_folder(tmp_path)


@pytest.mark.data
def test_the_real_folders(data_root):
    assert len(list_volumes(data_root / "Task04_Hippocampus").subjects) == 200
    assert list_volumes(data_root / "Task01_BrainTumour_crops").modalities == ("FLAIR", "T1w", "t1gd", "T2w")
