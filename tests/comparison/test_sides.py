"""What is read of a run, what makes two runs incomparable, and what is warned of."""

import copy
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from onceforall.comparison.sides import (
    at_equal_time,
    check_comparable,
    differences,
    equalities,
    open_sides,
    same_test_images,
)
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.training.ledger import PARTS


@pytest.fixture(scope="module")
def sides(two_runs):
    return open_sides(two_runs)


def changed(side, **run):
    return replace(side, run=replace(side.run, **run))


def with_options(side, **options):
    recipe = side.run.recipe
    return changed(side, recipe=replace(recipe, run=replace(recipe.run, **options)))


def test_costs_are_sums_of_the_ledger(two_runs, sides):
    for folder, side in zip(two_runs, sides, strict=True):
        entries = json.loads((folder / "ledger.json").read_text())
        costs = side.costs()
        for name in ("macs", "steps", "samples"):
            assert costs[name] == sum(entry[name] for entry in entries)
        for part in PARTS:
            assert costs["seconds"][part] == pytest.approx(sum(entry["seconds"][part] for entry in entries))
        assert costs["seconds"]["total"] == pytest.approx(sum(costs["seconds"][part] for part in PARTS))
        assert costs["epochs"] == len((folder / "metrics.jsonl").read_text().splitlines()) == 6
    assert [side.name for side in sides] == ["ps", "sandwich"]


def test_curves_end_with_the_work_of_the_run(sides):
    for side in sides:
        curve, costs = side.curves("accuracy"), side.costs()
        assert curve["points"][-1]["step"] == costs["steps"]
        assert curve["points"][-1]["macs"] == pytest.approx(costs["macs"])
        assert [start["phase"] for start in curve["starts"]] == [entry["phase"] for entry in side.ledger]
        steps = np.cumsum([0, *(entry["steps"] for entry in side.ledger[:-1])])
        assert [start["step"] for start in curve["starts"]] == steps.tolist()
        assert all(np.diff([point["macs"] for point in curve["points"]]) > 0)
        assert all(np.diff([point["seconds"] for point in curve["points"]]) > 0)
        assert curve["points"][-1]["seconds"] == pytest.approx(costs["seconds"]["total"])
        first, last = (side.lines[i]["validation"] for i in (0, -1))
        assert curve["points"][-1]["smallest"] == last["smallest"]["accuracy"]
        if side.name == "ps":  # its first phase trains the largest only, and validates it at each resolution
            assert curve["points"][0]["largest"] == first["largest_24"]["accuracy"]
            assert curve["points"][0]["smallest"] is None


def test_a_phase_that_is_not_complete_has_no_multiply_adds(sides):
    ps = replace(sides[0], ledger=sides[0].ledger[:2])
    curve = ps.curves("accuracy")
    known = ps.ledger[0]["steps"] + ps.ledger[1]["steps"]
    assert [point["macs"] is None for point in curve["points"]] == [p["step"] > known for p in curve["points"]]
    assert [start["phase"] for start in curve["starts"]] == [phase["name"] for phase in ps.run.described["phases"]]
    assert curve["starts"][2] == {"phase": sides[0].ledger[2]["phase"], "step": known, "macs": None}


def test_wrong_runs_are_refused(two_runs, tmp_path):
    with pytest.raises(UserError, match="1 run: give at least two"):
        open_sides(two_runs[:1])
    with pytest.raises(UserError, match="is given twice"):
        open_sides([*two_runs, two_runs[0] / ".." / two_runs[0].name])
    with pytest.raises(UserError, match="holds no run"):
        open_sides([two_runs[0], tmp_path])
    copy = tmp_path / "ps"
    shutil.copytree(two_runs[0], copy)
    assert [side.name for side in open_sides([two_runs[0], copy])] == [
        f"{two_runs[0].parent.name}/ps",
        f"{tmp_path.name}/ps",
    ]
    (copy / "ledger.json").write_text("[{")
    with pytest.raises(UserError, match="ledger.json is damaged"):
        open_sides([two_runs[0], copy])


def test_other_tasks_and_classes_are_refused(sides):
    one, other = sides
    check_comparable(sides)
    with pytest.raises(UserError, match="ps and sandwich have different tasks, 'classification' and 'segmentation'"):
        check_comparable([one, changed(other, task=replace(other.run.task, name="segmentation"))])
    with pytest.raises(UserError, match="different classes, 2 .dark, light.* and 3 .a, b, c"):
        check_comparable([one, changed(other, data=SimpleNamespace(classes=["a", "b", "c"]))])


def test_other_images_are_refused(sides):
    one, other = sides
    moved = SimpleNamespace(classes=other.run.data.classes, name="others", files=lambda split: [f"{split}/x.png"])
    with pytest.raises(UserError, match="ps and sandwich have no image in common, 'photos' and 'others'"):
        check_comparable([one, changed(other, data=moved)])


def test_a_run_of_one_network(sides):
    one, _ = sides
    assert one.single is None
    largest = one.space.largest()
    assert replace(one, space=SearchSpace.only(largest)).single == largest


def test_what_is_reached_at_a_time():
    def point(seconds, largest, step=0):
        return {"seconds": seconds, "largest": largest, "step": step}

    points = [point(1.0, 0.5), point(2.0, None), point(3.0, 0.7), point(None, 0.9)]
    curves = {"a": {"points": points}, "b": {"points": [point(5.0, 0.4)]}, "c": {"points": []}}
    assert at_equal_time(curves, 2.5) == {"a": points[0], "b": None, "c": None}
    assert at_equal_time(curves, 3.0)["a"] is points[2]
    assert at_equal_time(curves, 99.0) == {"a": points[2], "b": {"seconds": 5.0, "largest": 0.4, "step": 0}, "c": None}


def test_runs_that_differ_in_the_method_only_get_no_warning(sides):
    assert differences(sides, "test") == []
    assert same_test_images(sides, "test")
    [line] = differences(sides, "validation")
    assert "too good" in line


def test_each_difference_has_its_line(sides):
    one, other = sides

    def warned(side, **options):
        return differences([one, side], "test", **options)

    assert warned(with_options(other, seed=5)) == ["the runs differ in seed: ps 0, sandwich 5."]
    assert warned(replace(other, epochs=9)) == ["the runs differ in epochs: ps 6, sandwich 9."]
    fewer = with_options(other, calibration_images=8)
    assert warned(fewer) == ["the runs differ in calibration images: ps 16, sandwich 8."]
    assert warned(fewer, calibration_images=16) == []
    grown = {**other.run.described, "settings": {**other.run.described["settings"], "parent": {"folder": "runs/old"}}}
    [line] = warned(changed(other, described=grown))
    assert line == "sandwich began with the weights of a trained network; what that one cost is not counted."
    [line] = warned(changed(other, finished=False))
    assert line.startswith("sandwich is unfinished: measured after its phase 'sandwich'")
    [line] = warned(replace(other, space=other.space.restrict(kernel_sizes=(3,))))
    assert "search space" in line
    described = json.loads(json.dumps(other.run.described))
    described["environment"]["cpu"] = "abacus"
    described["network"]["class"] = "ProXMobileNet"
    described["network"]["options"]["width_mult"] = 0.5
    network, options, machine = warned(changed(other, described=described))
    assert "the class of their network" in network and "ps's networks" in network
    assert "{width_mult: 0.25}" in options and "{width_mult: 0.5}" in options
    assert "machine" in machine and "abacus" in machine and "multiply-adds rather than times" in machine


def test_other_splits_are_not_paired(sides):
    one, other = sides
    files = {split: other.run.data.files(split) for split in ("train", "validation", "test")}
    data, same = copy.copy(other.run.data), copy.copy(other.run.data)
    data.fingerprint = same.fingerprint = "other"
    data.files = lambda split: files[split][::-1] if split == "test" else files[split]
    moved = changed(other, data=data)
    assert not same_test_images([one, moved], "test") and same_test_images([one, moved], "validation")
    [line] = differences([one, moved], "test")
    assert "split" in line and "not paired" in line
    [line] = differences([one, changed(other, data=same)], "test")
    assert "content of their images" in line
    labels = copy.copy(other.run.data)
    labels.labels = lambda split: 1 - other.run.data.labels(split)
    assert not same_test_images([one, changed(other, data=labels)], "test")


def test_at_what_it_is_equal(sides):
    def side(name, epochs, macs, seconds):
        entry = {"phase": "a", "seconds": {"student": seconds}, "steps": 1, "samples": 1, "macs": macs}
        return replace(sides[0], name=name, epochs=epochs, ledger=[entry])

    one = side("a", 100, 1000, 10.0)
    assert equalities([one, side("b", 105, 960, 10.4)]) == "equal in epochs, multiply-adds, time."
    text = equalities([one, side("b", 100, 500, 10.0), side("c", 100, 1000, 12.0)])
    assert (
        text == "equal in epochs; not in multiply-adds (b 0.50 times, c 1.00 times), time (b 1.00 times, c 1.20 times)."
    )
    text = equalities([one, side("b", 50, 500, 5.0)])
    assert text.startswith("equal in none of epochs, multiply-adds and time; not in epochs (b 0.50 times)")
    assert "unknown" in equalities([replace(one, ledger=[]), one])
