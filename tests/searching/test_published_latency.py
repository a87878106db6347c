"""Oracles: keys as the published tables of width 1.2 have them, written by hand from the layer table; sums by hand."""

import random

import pytest
import yaml

from onceforall.errors import UserError
from onceforall.searching.published_latency import PublishedTable, read_published_table
from onceforall.supernets import create_supernet

SUPERNET = create_supernet("ofa_mbv3", width_mult=1.2, resolutions=(160, 224))
SMALLEST_AT_224 = [
    "Conv-input:224x224x3-output:112x112x24",
    "expanded_conv-input:112x112x24-output:112x112x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0",
    "expanded_conv-input:112x112x24-output:56x56x32-expand:72-kernel:3-stride:2-idskip:0-se:0-hs:0",
    "expanded_conv-input:56x56x32-output:56x56x32-expand:96-kernel:3-stride:1-idskip:1-se:0-hs:0",
    "expanded_conv-input:56x56x32-output:28x28x48-expand:96-kernel:3-stride:2-idskip:0-se:1-hs:0",
    "expanded_conv-input:28x28x48-output:28x28x48-expand:144-kernel:3-stride:1-idskip:1-se:1-hs:0",
    "expanded_conv-input:28x28x48-output:14x14x96-expand:144-kernel:3-stride:2-idskip:0-se:0-hs:1",
    "expanded_conv-input:14x14x96-output:14x14x96-expand:288-kernel:3-stride:1-idskip:1-se:0-hs:1",
    "expanded_conv-input:14x14x96-output:14x14x136-expand:288-kernel:3-stride:1-idskip:0-se:1-hs:1",
    "expanded_conv-input:14x14x136-output:14x14x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1",
    "expanded_conv-input:14x14x136-output:7x7x192-expand:408-kernel:3-stride:2-idskip:0-se:1-hs:1",
    "expanded_conv-input:7x7x192-output:7x7x192-expand:576-kernel:3-stride:1-idskip:1-se:1-hs:1",
    "Conv_1-input:7x7x192-output:7x7x1152",
    "AvgPool2D-input:7x7x1152-output:1x1x1152",
    "Conv_2-input:1x1x1152-output:1x1x1536",
    "Logits-input:1x1x1536-output:1000",
]


def written(path, means):
    path.write_text(yaml.safe_dump({key: {"count": 10, "mean": mean, "std": 0.1} for key, mean in means.items()}))
    return path


def smallest():
    return SUPERNET.space.uniform(kernel_size=3, expand_ratio=3, depth=2, resolution=224)


def test_keys_are_those_of_the_published_tables():
    assert list(PublishedTable({}, 1.2).keys(smallest())) == SMALLEST_AT_224
    # 96 entries for each resolution
    rng = random.Random(0)
    at_160 = [SUPERNET.space.restrict(resolutions=(160,)).sample(rng) for _ in range(400)]
    assert len({key for each in at_160 for key in PublishedTable({}, 1.2).keys(each)}) == 96


def test_a_file_gives_the_sum_that_it_must(tmp_path):
    means = {key: 2.0**-i for i, key in enumerate(SMALLEST_AT_224)}
    table = read_published_table(written(tmp_path / "t.yaml", means), SUPERNET)
    assert table.predict_ms([smallest()]).tolist() == [2 - 2.0**-15]  # 1 + 1/2 + 1/4 + ... of 16 keys
    with pytest.raises(UserError, match="no entry 'expanded_conv-input:112x112x24-output:56x56x32-expand:144-kernel:7"):
        table.predict_ms([SUPERNET.space.largest()])


@pytest.mark.parametrize(
    "text", ["[1, 2]", "a: b", "a: {mean: x}", "a: {count: 1}", "a: [", "!!python/name:os.system x"]
)
def test_what_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="no latency table"):
        read_published_table(path, SUPERNET)


def test_other_networks_are_refused(tmp_path):
    path = written(tmp_path / "t.yaml", {"a": 1.0})
    with pytest.raises(UserError, match="ofa_mbv3 only"):
        read_published_table(path, create_supernet("prox_mobilenet", width_mult=0.25))
    early = create_supernet("ee_b_ofa_mbv3", width_mult=0.25, num_classes=2)
    with pytest.raises(UserError, match="all five stages"):
        PublishedTable({}).predict_ms([early.space.uniform(height=2)])
    parallel = create_supernet("se_p_ofa_mbv3", width_mult=0.25, num_classes=2)
    with pytest.raises(UserError, match="inverted residuals only"):
        list(PublishedTable({}).keys(parallel.space.uniform(paths=2)))
