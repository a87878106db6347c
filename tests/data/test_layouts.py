import pytest

from onceforall.data.assembly import DataOptions
from onceforall.data.layouts import check_layout, list_images, say_kind
from onceforall.errors import UserError


def test_the_kind_is_as_the_folder_looks(image_folder, volume_folder):
    assert say_kind(None, "auto") == "digits" and say_kind("anywhere", "folder") == "folder"
    assert say_kind(image_folder({"cat": 1, "dog": 1}), "auto") == "folder"
    assert say_kind(image_folder({"CNV": 1, "DME": 1}, root="oct"), "auto") == "retinal_oct"
    with pytest.raises(UserError, match="holds volumes; load it by load_volumes"):
        say_kind(volume_folder(2), "auto")
    with pytest.raises(UserError, match="kind 'digits' is built in and takes no path; got 'x'"):
        say_kind("x", "digits")
    with pytest.raises(UserError, match="kind 'folder' needs the path"):
        say_kind(None, "folder")


def test_options_of_one_kind_are_not_for_another():
    with pytest.raises(UserError, match="apply to kind 'tiny_imagenet' only"):
        check_layout("folder", DataOptions(rest_to_test=False))
    with pytest.raises(UserError, match="channels 4 is not possible for image files"):
        check_layout("folder", DataOptions(channels=4))
    check_layout("digits", DataOptions(channels=4))


def test_names_of_patients_are_read_where_no_groups_are_given(image_folder):
    root = image_folder({"CNV": 2, "DME": 2})
    assert list_images(root, "retinal_oct", DataOptions()).groups == ("00", "00", "10", "10")
    assert list_images(root, "retinal_oct", DataOptions(group_pattern="(.)")).groups is None
    assert list_images(root, "folder", DataOptions(classes=["DME", "CNV"])).classes == ("DME", "CNV")
