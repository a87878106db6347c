"""A whole comparison of two small runs, against the runs' own evaluation; and again, from what was kept."""

import json

import numpy as np
import pytest

from onceforall.architecture import Architecture
from onceforall.comparison import comparing, drawing
from onceforall.comparison.comparing import compare_runs
from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import evaluate
from onceforall.evaluation.latency import Latency
from onceforall.runs import open_run
from onceforall.supernets.supernet import Supernet


def test_scores_are_those_of_an_evaluation(two_runs, contents):
    architectures = [Architecture.from_dict(network["architecture"]) for network in contents["networks"]]
    assert len(set(architectures)) == 6
    scores = []
    for name, folder in zip(("ps", "sandwich"), two_runs, strict=True):
        run = open_run(folder)
        found = evaluate(run.supernet, architectures, run.task, run.data, calibration_images=16, seed=0)
        for network, result in zip(contents["networks"], found, strict=True):
            assert network["runs"][name]["accuracy"] == pytest.approx(result.metrics["accuracy"])
            assert network["runs"][name]["log_loss"] == pytest.approx(result.metrics["log_loss"], rel=1e-4)
            assert network["cost"] == network["macs"] == cost(run.supernet, result.architecture).macs
        scores.append(np.array([result.metrics["accuracy"] for result in found]))
    first, second = contents["overall"]
    assert (first["score"], second["score"]) == pytest.approx((scores[0].mean(), scores[1].mean()))
    assert second["difference"] == pytest.approx((scores[1] - scores[0]).mean())
    assert second["interval"] == "paired" and second["verdict"] in ("better", "worse", "undecided")
    assert second["difference_low"] <= second["difference"] <= second["difference_high"]
    place = 0
    for number, bucket in enumerate(contents["buckets"], start=1):
        members = contents["networks"][place : place + bucket["networks"]]
        assert {network["bucket"] for network in members} == {number}
        assert all(bucket["low"] <= network["cost"] <= bucket["high"] for network in members)
        assert bucket["rows"][1]["score"] == pytest.approx(scores[1][place : place + bucket["networks"]].mean())
        place += bucket["networks"]
    assert place == 6


def test_the_rest_of_it(contents):
    json.dumps(contents, allow_nan=False)
    assert [run["name"] for run in contents["runs"]] == ["ps", "sandwich"]
    assert contents["runs"][0]["ratio"] == {"epochs": 1.0, "macs": 1.0, "seconds": 1.0}
    one, other = contents["runs"]
    assert other["ratio"]["macs"] == pytest.approx(other["macs"] / one["macs"])
    assert other["ratio"]["seconds"] == pytest.approx(other["seconds"]["total"] / one["seconds"]["total"])
    assert contents["equal"].startswith("equal in epochs") and contents["warnings"] == []
    assert set(contents["ends"]) == {"smallest", "largest"} and len(contents["ends"]["largest"]) == 2
    assert set(contents["curves"]) == {"ps", "sandwich"} and contents["images"][0] == contents["images"][1] > 0


def test_a_second_call_measures_nothing(two_runs, contents, tmp_path, monkeypatch):
    monkeypatch.setattr(Supernet, "subnet", lambda *_: pytest.fail("a sub-network was extracted"))
    told = []
    again = compare_runs(
        two_runs,
        tmp_path,
        networks=6,
        buckets=2,
        by="macs",
        progress=lambda name: lambda done, total: told.append((name, done, total)),
    )
    assert again == contents
    assert told == [("ps", 8, 8), ("sandwich", 8, 8)]


def test_an_interrupted_one_goes_on(two_runs, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Stop

    options = {"networks": 4, "buckets": 1, "by": "macs", "seed": 77}
    with pytest.raises(Stop):
        compare_runs(two_runs, tmp_path, **options, progress=lambda _: stop)
    first = []
    compare_runs(two_runs, tmp_path, **options, progress=lambda _: lambda done, _: first.append(done))
    assert first[0] >= 2


def test_images_are_scored_one_by_one(two_runs, contents):
    for row in contents["overall"]:
        answers = contents["answers"][row["run"]]
        assert len(answers) == contents["images"][0] and np.mean(answers) == pytest.approx(row["score"])
        whole = 6 * np.array(answers)  # of six networks so many answer an image rightly
        np.testing.assert_allclose(whole, whole.round(), atol=1e-9)
    run = open_run(two_runs[0])
    architectures = [Architecture.from_dict(network["architecture"]) for network in contents["networks"]]
    found = evaluate(run.supernet, architectures, run.task, run.data, calibration_images=16, seed=0)
    expected = np.mean([result.correct for result in found], axis=0)
    np.testing.assert_allclose(contents["answers"]["ps"], expected)


def test_a_run_of_one_network_is_a_row_of_its_own(two_runs, single_run, with_single):
    assert [run["name"] for run in with_single["runs"]] == ["ps", "sandwich", "alone"]
    assert [row["run"] for row in with_single["overall"]] == ["ps", "sandwich"]
    assert len(with_single["networks"]) == 4 and set(with_single["networks"][0]["runs"]) == {"ps", "sandwich"}
    assert with_single["runs"][2]["ratio"]["macs"] < 1.5 and with_single["runs"][0]["ratio"]["macs"] == 1
    [single] = with_single["singles"]
    largest = open_run(two_runs[0]).supernet.space.largest()
    assert Architecture.from_dict(single["architecture"]) == largest
    run = open_run(single_run)
    assert run.supernet.space.size() == 1
    [expected] = evaluate(run.supernet, [largest], run.task, run.data, calibration_images=16, seed=0)
    own, *others = single["rows"]
    assert (own["run"], own["score"]) == ("alone", pytest.approx(expected.metrics["accuracy"]))
    assert len(with_single["answers"]["alone"]) == with_single["images"][0]
    ends = {row["run"]: row["score"] for row in with_single["ends"]["largest"]}  # the same network
    assert {row["run"]: row["score"] for row in others} == ends
    assert [row["difference"] for row in others] == pytest.approx([ends[name] - own["score"] for name in ends])
    assert {row["macs"] for row in single["rows"]} == {cost(run.supernet, largest).macs} == {single["cost"]}
    assert not any("search space" in line for line in with_single["warnings"])
    assert "alone" not in with_single["equal"]


def test_a_single_network_beside_one_run(two_runs, single_run, tmp_path):
    found = compare_runs([two_runs[1], single_run], tmp_path, networks=2, buckets=1, by="macs", names=["b", "a"])
    assert [row["run"] for row in found["overall"]] == ["b"]
    assert [row["run"] for row in found["singles"][0]["rows"]] == ["a", "b"]


def test_at_equal_time(contents):
    totals = {run["name"]: run["seconds"]["total"] for run in contents["runs"]}
    equal = contents["equal_time"]
    assert equal["seconds"] == min(totals.values()) == totals[equal["run"]]
    last = contents["curves"][equal["run"]]["points"][-1]
    assert equal["reached"][equal["run"]] == last
    for name, point in equal["reached"].items():
        later = [p["seconds"] for p in contents["curves"][name]["points"] if p["step"] > point["step"]]
        assert point["seconds"] <= equal["seconds"] * (1 + 1e-9) and all(s > equal["seconds"] for s in later)


def test_latency_makes_the_buckets_unless_it_is_noisy(two_runs, tmp_path, monkeypatch):
    spread = [0.01]

    def measured(supernet, architecture, **_):
        net = supernet.subnet(architecture)
        median = net.space.largest().resolution / 10 + sum(p.numel() for p in net.parameters()) / 1e6
        return Latency(median, spread[0] * median, median, 9, 1, 1, "cpu", "pytorch", "float32", None, spread[0] > 0.1)

    monkeypatch.setattr(drawing, "subnet_latency", measured)
    quiet = compare_runs(two_runs, tmp_path / "quiet", networks=4, buckets=2)
    assert quiet["cost"] == "latency_ms" and quiet["warnings"] == []
    assert all(1.6 < network["cost"] < 3 for network in quiet["networks"])
    spread[0] = 0.5
    assert compare_runs(two_runs, tmp_path / "quiet", networks=4, buckets=2) == quiet, "latencies are kept"
    noisy = compare_runs(two_runs, tmp_path / "noisy", networks=4, buckets=2)
    assert noisy["cost"] == "macs" and "100% of the latencies" in noisy["warnings"][0]
    assert {network["digest"] for network in noisy["networks"]} == {network["digest"] for network in quiet["networks"]}
    asked = compare_runs(two_runs, tmp_path / "noisy", networks=4, buckets=2, by="latency")
    assert asked["cost"] == "latency_ms" and "not quiet." in asked["warnings"][0]


def test_edges_and_numbers_of_networks(two_runs, tmp_path):
    costs = sorted(network["cost"] for network in compare_runs(two_runs, tmp_path, networks=6, by="macs")["networks"])
    edges = (costs[0], costs[3], costs[5])
    found = compare_runs(two_runs, tmp_path, by="macs", edges=edges, per_bucket=2)
    assert [(b["low"], b["high"], b["networks"]) for b in found["buckets"]] == [(*edges[:2], 2), (*edges[1:], 2)]
    few = compare_runs(two_runs, tmp_path, by="macs", edges=(costs[0], costs[0] + 1), per_bucket=3)
    assert any("different networks were found" in line for line in few["warnings"])


def test_wrong_wishes_are_refused(two_runs, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="edges of buckets need their unit"):
        compare_runs(two_runs, tmp_path, edges=(1, 2))
    with pytest.raises(UserError, match="split 'train'"):
        compare_runs(two_runs, tmp_path, split="train")
    with pytest.raises(UserError, match="Did you mean 'latency'"):
        compare_runs(two_runs, tmp_path, by="latencies")  # type: ignore[arg-type]
    sides = comparing.open_sides(two_runs)
    monkeypatch.setattr(type(sides[0].run.data), "count", lambda *_: 0)
    with pytest.raises(UserError, match="ps has no test images"):
        compare_runs(two_runs, tmp_path)
