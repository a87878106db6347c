"""A `net.config` is held against the network of the weights beside it."""

import json

import pytest

from mit_files import SMOOTH, SQUEEZED, STRIDES, WIDTHS, eighths
from onceforall.architecture import Architecture, Block, Stage
from onceforall.deploying.mit_configs import check_config, image_size
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3

BLOCKS = [[(3, 4), (5, 3)], [(7, 6)], [(5, 3)], [(3, 6), (7, 4)], [(3, 3)]]


def described(old=False):
    """As their code writes a network of `BLOCKS`, in its present or older words."""
    inner = "mobile_inverted_conv" if old else "conv"
    first, widths, *_ = WIDTHS[0.25]

    def block(kernel, stride, inputs, outputs, hidden, smooth, squeezed):
        conv = {"name": "MBInvertedConvLayer" if old else "MBConvLayer", "in_channels": inputs, "out_channels": outputs}
        conv |= {"kernel_size": kernel, "stride": stride, "mid_channels": hidden, "use_se": squeezed}
        return {inner: conv | {"act_func": "h_swish" if smooth else "relu"}, "shortcut": None}

    blocks, inputs = [block(3, 1, first, first, None, False, False)], first
    for number, stage in enumerate(BLOCKS):
        for position, (kernel, ratio) in enumerate(stage):
            stride = STRIDES[number] if position == 0 else 1
            hidden = eighths(round(inputs * ratio))
            blocks.append(block(kernel, stride, inputs, widths[number], hidden, SMOOTH[number], SQUEEZED[number]))
            inputs = widths[number]
    blocks.append({inner: {"name": "ZeroLayer", "stride": 1}, "shortcut": None})
    return {"name": "MobileNetV3", "bn": {"momentum": 0.1, "eps": 1e-5}, "blocks": blocks}


@pytest.fixture(scope="module")
def network():
    stages = tuple(Stage(tuple(Block(*block) for block in stage)) for stage in BLOCKS)
    return OFAMobileNetV3(SearchSpace.only(Architecture(64, stages)), width_mult=0.25)


@pytest.mark.parametrize("old", [False, True])
def test_the_same_network_passes(tmp_path, network, old):
    path = tmp_path / "net.config"
    path.write_text(json.dumps(described(old)))
    check_config(path, network)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda config: config.update(name="ProxylessNASNets"), "it is a ProxylessNASNets"),
        (lambda config: config["bn"].update(eps=1e-3), "bn.eps is 0.001"),
        (lambda config: config["blocks"].pop(3), "it has 7 blocks, and the weights 8"),
        (lambda config: config["blocks"][2]["conv"].update(kernel_size=3), "kernel_size of block 2 is 3"),
        (lambda config: config["blocks"][3]["conv"].update(stride=1), "stride of block 3 is 1"),
        (lambda config: config["blocks"][1]["conv"].update(mid_channels=40), "mid_channels of block 1 is 40"),
        (lambda config: config["blocks"][3]["conv"].update(use_se=False), "use_se of block 3 is False"),
        (lambda config: config["blocks"][0]["conv"].update(act_func="relu6"), "act_func of block 0 is 'relu6'"),
        (lambda config: config["blocks"][5]["conv"].update(act_func="relu"), "act_func of block 5 is 'relu'"),
        (lambda config: config.pop("blocks"), "no description of a network"),
        (lambda config: config.update(blocks=3), "no description of a network"),
    ],
)
def test_another_network_is_refused(tmp_path, network, change, expected):
    config = described()
    change(config)
    (tmp_path / "net.config").write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        check_config(tmp_path / "net.config", network)
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_file_that_is_no_table(tmp_path, network, text):
    (tmp_path / "net.config").write_text(text)
    with pytest.raises(UserError, match="cannot be read as JSON|holds no table"):
        check_config(tmp_path / "net.config", network)


def test_the_resolution_of_a_specialised_model(tmp_path):
    assert image_size(tmp_path) is None
    (tmp_path / "run.config").write_text('{"image_size": 176, "n_epochs": 75}')
    assert image_size(tmp_path) == 176
    (tmp_path / "run.config").write_text('{"image_size": "large"}')
    with pytest.raises(UserError, match="image_size 'large'"):
        image_size(tmp_path)
