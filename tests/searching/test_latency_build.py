"""Oracles: a device of known speed, on which a second program comes and goes; what an uninterrupted build gives."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.evaluation.engines import EngineSettings
from onceforall.evaluation.latency import Latency
from onceforall.searching.latency_build import build_table, measurements_path
from onceforall.searching.latency_table import LatencyTable
from onceforall.supernets import create_supernet

SUPERNET = create_supernet("prox_mobilenet", width_mult=0.25, resolutions=(24, 32), depths=(1, 2), kernel_sizes=(3, 5))
SETTINGS = EngineSettings("pytorch")
SIZES = {"networks": 40, "held_out": 10}


def true_ms(architecture):
    cost = SUPERNET.measure(architecture)
    return 0.1 + cost.macs / 1e6 + 0.02 * sum(architecture.depths)


class Device:
    """Slower by what `loads` says for each group; dies in group number `dies_in`."""

    def __init__(self, loads=(1.0,), dies_in=None):
        self.loads, self.dies_in = loads, dies_in
        self.groups = []

    def __call__(self, architectures):
        if len(self.groups) == self.dies_in:
            raise KeyboardInterrupt
        load = self.loads[len(self.groups) % len(self.loads)]
        self.groups.append(list(architectures))
        times = [load * true_ms(architecture) for architecture in architectures]
        latency = Latency(0.0, 0.0, 0.0, 5, 1, 1, "cpu", "pytorch", "float32", None, load > 1)
        return [replace(latency, median_ms=9 * ms, processor_ms=ms) for ms in times]


def build(path, device, **changes):
    return build_table(SUPERNET, SETTINGS, path, device, **(SIZES | changes))


def test_table_predicts_and_says_how_well_on_networks_it_has_not_seen(tmp_path):
    device = Device()
    table = build(tmp_path / "t.json", device)
    check = table.check
    assert check["networks"] == 10 and check["fitted"] == 40 and check["noisy"] == 0
    assert check["mape"] < 0.02 and check["spearman"] > 0.97 and check["kendall"] > 0.9
    new = [SUPERNET.space.uniform(kernel_size=5, depth=1, resolution=24), SUPERNET.space.largest()]
    np.testing.assert_allclose(table.predict_ms(new), [true_ms(each) for each in new], rtol=0.05)
    assert LatencyTable.load(tmp_path / "t.json") == table
    assert all(group[0] == SUPERNET.space.smallest() for group in device.groups)
    timed = [each for group in device.groups for each in group[1:]]
    assert len(timed) == len(set(timed)) == 50


def test_what_disturbs_a_whole_group_is_divided_out(tmp_path):
    quiet, busy = build(tmp_path / "q.json", Device()), build(tmp_path / "b.json", Device((1.0, 1.5, 1.0)))
    assert busy.check["noisy"] > 0.2
    assert busy.entries == pytest.approx(quiet.entries, rel=1e-6)


def test_an_interrupted_build_goes_on_and_gives_the_same(tmp_path):
    whole = Device()
    expected = build(tmp_path / "whole.json", whole)
    path = tmp_path / "t.json"
    with pytest.raises(KeyboardInterrupt):
        build(path, Device(dies_in=3))
    assert not path.exists()
    with open(measurements_path(path), "a") as file:
        file.write('{"reference_ms": 0.3, "ms": {"cut o')  # half a line
    rest = Device()
    told = []
    table = build(path, rest, progress=lambda done, total: told.append((done, total)))
    assert len(rest.groups) == len(whole.groups) - 3
    assert told[0] == (3, 7) and told[-1] == (7, 7)
    assert table.entries == pytest.approx(expected.entries, rel=1e-9)
    again = Device()
    assert build(path, again).entries == table.entries and again.groups == []


def test_more_networks_are_added_to_those_that_were_timed(tmp_path):
    path = tmp_path / "t.json"
    few, more = Device(), Device()
    build(path, few, networks=20)
    assert build(path, more, networks=40).check["fitted"] == 40
    assert sum(len(group) - 1 for group in more.groups) < 50
    assert len({group[0] for group in (*few.groups, *more.groups)}) == 1  # the network that all are compared with


def test_groups_with_another_reference_are_compared_among_themselves(tmp_path):
    path = tmp_path / "t.json"
    expected = build(path, Device()).entries
    kept = measurements_path(path)
    identity, *groups = kept.read_text().splitlines()
    groups = [json.loads(group) for group in groups]
    for group in groups[:3]:  # as of a space whose smallest network takes twice the time
        group |= {"reference": "another", "reference_ms": 2 * group["reference_ms"]}
    kept.write_text("\n".join([identity, *map(json.dumps, groups)]) + "\n")
    again = Device()
    assert build(path, again).entries == pytest.approx(expected, rel=1e-9) and again.groups == []


def test_measurements_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "t.json"
    build(path, Device(), networks=10, held_out=5)
    with pytest.raises(UserError, match="threads 1, here 2"):
        build_table(SUPERNET, EngineSettings("pytorch", threads=2), path, Device(), **SIZES)
    identity = measurements_path(path).read_text().splitlines()[0]
    for text in ("{}\n{not json\n", "5\n", "[]\n", f"{identity}\n5\n", f'{identity}\n{{"reference_ms": 1}}\n'):
        measurements_path(path).write_text(text)
        with pytest.raises(UserError, match=r"damaged.*Remove it to measure anew\."):
            build(path, Device())
    measurements_path(path).write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="cannot be read"):
        build(path, Device())


@pytest.mark.parametrize("name", ["t.jsonl", ".", "folder", "file/t.json"])
def test_places_where_no_table_can_be_are_refused_before_anything_is_timed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    device = Device()
    with pytest.raises(UserError, match=r"ends in \.json|cannot write"):
        build(Path(name), device)
    assert device.groups == [] and len(list(tmp_path.iterdir())) == 2


def test_measurements_that_cannot_be_added_to_are_told(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    build(path, Device(), networks=10, held_out=5)

    opened = Path.open

    def closed(self, mode="r", *more, **named):
        if mode == "a":
            raise PermissionError(13, "Permission denied")
        return opened(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(UserError, match=r"cannot write .*t\.jsonl: Permission denied"):
        build(path, Device(), networks=20)


def test_half_a_line_is_removed_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    build(path, Device(), networks=10, held_out=5)
    kept = measurements_path(path)
    half = kept.read_text() + '{"reference": "cut o'
    kept.write_text(half)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onceforall.files.os.fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        build(path, Device(), networks=10, held_out=5)
    assert kept.read_text() == half


def test_too_few_networks_are_refused(tmp_path):
    with pytest.raises(UserError, match="4 networks to check"):
        build(tmp_path / "t.json", Device(), held_out=4)
    tiny = create_supernet(
        "prox_mobilenet", width_mult=0.25, resolutions=(24, 32), depths=(1,), kernel_sizes=(3,), expand_ratios=(3,)
    )
    with pytest.raises(UserError, match="too few networks"):
        build_table(tiny, SETTINGS, tmp_path / "t.json", Device(), **SIZES)
