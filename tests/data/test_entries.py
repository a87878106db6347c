import pytest

from onceforall.data.entries import building, make_folder, read_json, remove_stale
from onceforall.errors import UserError


def whole(entry):
    return (entry / "done").exists()


def build(place, content="new"):
    with building(place, "key", whole) as folder:
        (folder / "done").write_text(content)


def test_an_entry_appears_whole(tmp_path):
    make_folder(tmp_path / "a" / "b")
    build(tmp_path / "a" / "b")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["key"]
    assert (tmp_path / "a" / "b" / "key" / "done").read_text() == "new"


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), building(tmp_path, "key", whole) as folder:
        (folder / "done").write_text(str(1 // 0))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_entry_is_replaced_and_a_whole_one_kept(tmp_path):
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "rest").touch()
    build(tmp_path, "first")
    build(tmp_path, "second")
    assert (tmp_path / "key" / "done").read_text() == "first"
    assert not (tmp_path / "key" / "rest").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written .*ONCEFORALL_CACHE"):
        make_folder(tmp_path / "file" / "cache")
    with pytest.raises(UserError, match="cannot be written"):
        build(tmp_path / "missing")


def test_a_fresh_building_folder_is_not_stale(tmp_path):
    (tmp_path / ".building-x").mkdir()
    remove_stale(tmp_path)
    assert (tmp_path / ".building-x").exists()


def test_json_that_is_none(tmp_path):
    (tmp_path / "a.json").write_text("{")
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "b.json") == {}
