"""Weights under MIT's names. Oracles: their names and shapes by rule, the published counts, and a plain forward."""

import io
import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mit_files import eighths, forward, published, random_state, shapes
from onceforall.architecture import Architecture, Block, Stage
from onceforall.deploying.mit_weights import from_mit_file, read_mit_file, to_mit_state_dict
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.supernets.registry import create_supernet

SMALL = random_state(shapes(0.25, classes=5))


def saved(folder, contents, name="weights.pth"):
    torch.save(contents, folder / name)
    return folder / name


def loaded(path, **options):
    return from_mit_file(read_mit_file(path), (64,), **options)


def architecture(blocks, resolution=64):
    return Architecture(resolution, tuple(Stage(tuple(Block(*block) for block in stage)) for stage in blocks))


@pytest.mark.parametrize(("width", "params"), [(1.0, 7_678_880), (1.2, 10_715_752)])
def test_the_names_of_a_supernet_are_theirs_and_come_back_exactly(tmp_path, width, params):
    state = random_state(shapes(width))
    assert len(state) == 475
    network = loaded(saved(tmp_path, {"state_dict": published(state), "epoch": 3, "best_acc": 76.0}))
    assert network.options["width_mult"] == width and sum(p.numel() for p in network.parameters()) == params
    back = to_mit_state_dict(network)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)
    assert all(back[name].dtype == state[name].dtype for name in state)


def test_every_spelling_is_read(tmp_path):
    prefixed = {f"module.{name}": tensor for name, tensor in SMALL.items()}
    for spelled in ({"state_dict": SMALL}, SMALL, published(SMALL), prefixed):
        back = to_mit_state_dict(loaded(saved(tmp_path, spelled)))
        assert back.keys() == SMALL.keys() and all(torch.equal(back[name], SMALL[name]) for name in SMALL)
    assert to_mit_state_dict(loaded(saved(tmp_path, SMALL)), published=True).keys() == published(SMALL).keys()


def test_a_teacher_is_a_network_of_one_architecture(tmp_path):
    state = random_state(shapes(1.0, blocks=[[(7, 6)] * 4] * 5))
    assert len(state) == 435
    network = loaded(saved(tmp_path, {"state_dict": published(state)}, "ofa_D4_E6_K7"))
    assert sum(p.numel() for p in network.parameters()) == 7_664_760
    assert network.space.single() == architecture([[(7, 6)] * 4] * 5)
    back = to_mit_state_dict(network)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_a_network_computes_what_a_plain_forward_of_their_weights_does(tmp_path):
    network = loaded(saved(tmp_path, SMALL)).double()
    state = {name: tensor.double() for name, tensor in SMALL.items()}
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rng, found = random.Random(0), []
    extremes = [[[(7, 6)] * 4] * 5, [[(3, 3)] * 2] * 5, [[(5, 4)] * 3] * 5]
    mixed = [
        [[(rng.choice((3, 5, 7)), rng.choice((3, 4, 6))) for _ in range(rng.choice((2, 3, 4)))] for _ in range(5)]
        for _ in range(3)
    ]
    for blocks in extremes + mixed:
        with torch.no_grad():
            outputs = network(x, architecture(blocks))
        torch.testing.assert_close(outputs, forward(state, x, blocks), rtol=1e-9, atol=1e-11)
        found.append(outputs)
    scale = found[0].abs().max()
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            assert (one - other).abs().max() > 1e-2 * scale


def test_a_specialised_network_is_found_by_its_shapes_alone(tmp_path):
    blocks = [[(3, 4), (5, 3)], [(7, 6), (3, 3), (5, 4)], [(5, 3)] * 4, [(3, 6), (7, 4)], [(3, 3), (5, 6), (7, 3)]]
    small = loaded(saved(tmp_path, SMALL)).subnet(architecture(blocks))
    state = to_mit_state_dict(small)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == shapes(0.25, 5, blocks)
    again = loaded(saved(tmp_path, {"state_dict": state}, "init"))
    assert again.space.single() == architecture(blocks)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(x), small(x))


@pytest.mark.parametrize(
    ("name", "given", "depths", "expand_ratios"),
    [
        ("ofa_mbv3_d234_e346_k357_w1.0", {}, (2, 3, 4), (3, 4, 6)),
        ("ofa_D34_E6_K357", {}, (3, 4), (6,)),
        ("ofa_D4_E6_K357.pth", {}, (4,), (6,)),
        ("model_best.pth.tar", {}, (2, 3, 4), (3, 4, 6)),
        ("model_best.pth.tar", {"depths": (4,), "expand_ratios": (4, 6)}, (4,), (4, 6)),
    ],
)
def test_what_was_trained_is_told_by_the_name_or_the_caller(tmp_path, name, given, depths, expand_ratios):
    space = loaded(saved(tmp_path, SMALL, name), **given).space
    assert (space.depths, space.expand_ratios, space.kernel_sizes) == (depths, expand_ratios, (3, 5, 7))


def test_a_supernet_with_two_kernels_has_one_matrix(tmp_path):
    state = {name: tensor for name, tensor in SMALL.items() if "5to3" not in name and "7to5" not in name}
    assert loaded(saved(tmp_path, state)).space.kernel_sizes == (7,)
    state |= {f"blocks.{i}.conv.depth_conv.conv.7to3_matrix": torch.full((9, 9), float(i)) for i in range(1, 21)}
    network = loaded(saved(tmp_path, state))
    assert network.space.kernel_sizes == (3, 7)
    assert to_mit_state_dict(network).keys() == state.keys()


# -- what is refused -----------------------------------------------------------------------------------------------


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def changed(**tensors):
    state = {name: tensor for name, tensor in SMALL.items() if name not in tensors}
    return state | {name: tensor for name, tensor in tensors.items() if tensor is not None}


def refused(path, **options):
    with pytest.raises(UserError) as error:
        loaded(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_with_code_is_refused_and_nothing_runs(tmp_path, legacy):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": SMALL, "x": Harmful(tmp_path / "ran")}, path, _use_new_zipfile_serialization=not legacy)
    assert "nothing in it was run" in refused(path)
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    assert "is refused" in refused(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, legacy, share):
    buffer = io.BytesIO()
    torch.save({"state_dict": SMALL}, buffer, _use_new_zipfile_serialization=not legacy)
    path = tmp_path / "weights.pth"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    assert "truncated or damaged" in refused(path) or "is refused" in refused(path)
    path.write_bytes(b"")
    assert "truncated or damaged" in refused(path)


def test_a_web_page_is_no_file_of_weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("\n<!DOCTYPE html><html><body>404</body></html>")
    assert "is a web page" in refused(path)
    assert "no such file" in refused(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ([1, 2], "holds no weights"),
        ({0: torch.zeros(1)}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"epoch": 3, "state_dict": {"x": 1}}, "holds no weights"),
        ({"input_stem.0.conv.conv.weight": torch.zeros(1)}, "another network than OFA-MobileNetV3"),
        (SMALL | published(SMALL), "twice, in two spellings"),
        (changed(**{"blocks.3.conv.point_linear.bn.bn.bias": None}), "point_linear.bn.bias is missing"),
        (changed(**{"blocks.3.conv.depth_conv.conv.conv.weight": None}), "depth_conv.conv.weight is missing"),
        (changed(**{"blocks.3.conv.extra": torch.zeros(3)}), "blocks.3.conv.extra is not known"),
        (
            changed(**{"final_expand_layer.bn.weight": torch.zeros(7)}),
            "final_expand_layer.bn.weight is 7 and should be 240",
        ),
        (changed(**{"first_conv.conv.weight": torch.zeros(20, 3, 3, 3)}), "those of no OFA-MobileNetV3"),
        (
            {name: tensor for name, tensor in SMALL.items() if not name.startswith("blocks.20.")},
            "its blocks have depths 3, 4",
        ),
    ],
)
def test_what_does_not_match_is_named(tmp_path, contents, expected):
    assert expected in refused(saved(tmp_path, contents))


def test_wrong_choices_are_refused(tmp_path):
    assert "depths 2, 3: the largest in" in refused(saved(tmp_path, SMALL), depths=(2, 3))
    assert "is 6; end with it" in refused(saved(tmp_path, SMALL), expand_ratios=(3, 8))
    teacher = saved(tmp_path, random_state(shapes(0.25, 5, [[(7, 6)] * 4] * 5)))
    assert "not elastic" in refused(teacher, depths=(2, 3, 4))


@pytest.mark.parametrize(
    "network",
    [
        lambda: create_supernet("ee_b_ofa_mbv3", width_mult=0.25),
        lambda: create_supernet("se_p_ofa_mbv3", width_mult=0.25),
        lambda: create_supernet("se_d_ofa_mbv3", width_mult=0.25),
        lambda: create_supernet("ofa_mbv3", width_mult=0.25, kernel_rule="rings"),
        lambda: create_supernet("prox_mobilenet", width_mult=0.25),
        lambda: OFAMobileNetV3(
            SearchSpace.build(2, resolutions=(32,), depths=(1,), kernel_sizes=(3,), expand_ratios=(3,))
        ),
    ],
)
def test_networks_that_they_have_no_name_for(network):
    with pytest.raises(UserError, match="MIT has no name"):
        to_mit_state_dict(network())


def test_the_rule_of_channels_is_theirs():
    """Guards the helper: the widths of their tables."""
    assert [eighths(base * 1.2) for base in (16, 24, 40, 80, 112, 160, 960, 1280)] == [
        24,
        32,
        48,
        96,
        136,
        192,
        1152,
        1536,
    ]


def test_resolutions_do_not_make_a_network_elastic(tmp_path):
    network = loaded(saved(tmp_path, SMALL))
    net = network.subnet(network.space.largest())
    several = OFAMobileNetV3(replace(net.space, resolutions=(48, 64)), **net.options)
    several.load_state_dict(net.state_dict())
    assert (
        to_mit_state_dict(several).keys() == to_mit_state_dict(net).keys() == shapes(0.25, 5, [[(7, 6)] * 4] * 5).keys()
    )


@pytest.mark.parametrize("length", [18, 28])
def test_an_old_file_that_ends_early_is_refused(tmp_path, length):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"first_conv.conv.weight": torch.zeros(3)}}, buffer, _use_new_zipfile_serialization=False)
    path = tmp_path / "weights.pth"
    path.write_bytes(buffer.getvalue()[:length])
    assert "truncated or damaged" in refused(path) or "is refused" in refused(path)
