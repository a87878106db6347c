"""Saved networks and states: round trips, damaged files, foreign files. (Resumed runs: test_resume.py.)"""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from onceforall.errors import UserError
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training import checkpoint
from onceforall.training.checkpoint import (
    described_network,
    load_into,
    load_network,
    read_info,
    read_state,
    save_network,
    write_state,
)
from tiny_runs import two_stages

# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    supernet = two_stages(seed=3)
    for number, buffer in enumerate(supernet.buffers()):
        buffer.fill_(number)
    path = tmp_path / "deep/net.safetensors"
    save_network(supernet, path, {"phase": "kernel", "mean": 0.5})
    return supernet, path


def same(one, other):
    others = other.state_dict()
    return all(torch.equal(tensor, others[name]) for name, tensor in one.state_dict().items())


def test_a_network_comes_back(saved):
    supernet, path = saved
    found = load_network(path)
    assert type(found) is OFAMobileNetV3 and not found.training
    assert found.space == supernet.space and found.options == supernet.options and same(supernet, found)
    assert read_info(path) == {"phase": "kernel", "mean": 0.5}
    assert [file.name for file in path.parent.iterdir()] == [path.name], "a draft was left"
    other = two_stages(seed=4).double()
    load_into(other, path)
    assert same(supernet, other) and next(other.parameters()).dtype == torch.float32


def test_precision_and_sub_networks_are_kept(tmp_path):
    supernet = two_stages().double()
    net = supernet.subnet(supernet.space.smallest())
    save_network(net, tmp_path / "net.safetensors", {})
    found = load_network(tmp_path / "net.safetensors")
    images = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(found(images), net.eval()(images))


def test_a_class_that_is_not_registered_is_given(saved, monkeypatch):
    supernet, path = saved
    monkeypatch.setattr(checkpoint, "NETWORK_CLASSES", {})
    with pytest.raises(UserError, match="class 'OFAMobileNetV3', which is not known"):
        load_network(path)
    assert same(supernet, load_network(path, OFAMobileNetV3))


def test_a_description_needs_no_weights(saved):
    supernet, path = saved
    found = described_network(path)
    assert type(found) is OFAMobileNetV3 and found.space == supernet.space and found.options == supernet.options
    assert all(tensor.is_meta for tensor in found.state_dict().values())
    largest = supernet.space.largest()
    assert found.measure(largest) == supernet.measure(largest)
    with pytest.raises(UserError, match="no such file"):
        described_network(path.with_name("other.safetensors"))


def test_another_space_is_refused(saved):
    with pytest.raises(UserError, match="another search space"):
        load_into(two_stages(depths=(1,)), saved[1])


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_a_truncated_network_is_named(saved, size):
    path = saved[1]
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    for read in (load_network, read_info):
        with pytest.raises(UserError, match=r"net\.safetensors is no network file, or it is truncated"):
            read(path)


def test_files_of_others(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_network(tmp_path / "none.safetensors")
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.ones(2)}, path, metadata)
        with pytest.raises(UserError, match="none that this package wrote"):
            load_network(path)
    path.write_bytes(b"\x89PNG" * 100)
    with pytest.raises(UserError, match="no network file"):
        load_network(path)


def test_the_format_is_plain_safetensors(saved):
    """Eight bytes of length, JSON, numbers: nothing is executed when it is read."""
    supernet, path = saved
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    assert set(header.pop("__metadata__")) == {"network", "options", "space", "info"}
    assert set(header) == set(supernet.state_dict()) == set(load_file(path))


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_state_and_the_one_before(tmp_path):
    assert read_state(tmp_path) == (None, "")
    for step in (1, 2, 3):
        write_state(tmp_path, {"step": step, "network": {"w": torch.full((3,), float(step))}})
    state, notice = read_state(tmp_path)
    assert state["step"] == 3 and not notice and torch.equal(state["network"]["w"], torch.full((3,), 3.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resume.previous.pt", "resume.pt"]
    os.truncate(tmp_path / "resume.pt", 50)
    state, notice = read_state(tmp_path)
    assert state["step"] == 2 and "resume.pt is truncated or damaged" in notice
    (tmp_path / "resume.pt").unlink()
    assert read_state(tmp_path)[0]["step"] == 2


def test_without_hard_links_the_one_before_is_copied(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    for step in (1, 2):
        write_state(tmp_path, {"step": step})
    (tmp_path / "resume.pt").unlink()
    assert read_state(tmp_path)[0] == {"step": 1}


def test_a_full_disk_keeps_both_states(tmp_path, monkeypatch):
    for step in (1, 2):
        write_state(tmp_path, {"step": step})
    own = os.fsync

    def full(descriptor):
        own(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*resume\.pt: the disk is full"):
        write_state(tmp_path, {"step": 3})
    assert read_state(tmp_path)[0] == {"step": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resume.previous.pt", "resume.pt"]


def test_a_damaged_byte_is_noticed(tmp_path):
    for step in (1, 2):
        write_state(tmp_path, {"step": step, "w": torch.arange(1000.0)})
    path = tmp_path / "resume.pt"
    data = bytearray(path.read_bytes())
    middle = data.find(struct.pack("<f", 500.0))
    data[middle] ^= 0xFF
    path.write_bytes(data)
    state, notice = read_state(tmp_path)
    assert state["step"] == 1 and "damaged" in notice


def test_a_state_is_a_copy(tmp_path):
    weight = torch.ones(2)
    write_state(tmp_path, {"w": weight})
    weight.zero_()
    assert read_state(tmp_path)[0]["w"].tolist() == [1, 1]
