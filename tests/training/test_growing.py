"""Training that makes the network larger on the way, and goes on exactly after an interruption there."""

import json

import pytest
import torch

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.checkpoint import load_network
from onceforall.training.growing import beginning, final_space, fitted, without_weights
from onceforall.training.phases import Teacher
from onceforall.training.records import Records
from onceforall.training.schedules import progressive_expansion, progressive_shrinking
from tiny_runs import one_phase, run, striped

SMALL = SearchSpace.build(2, resolutions=(16,), kernel_sizes=(3,), expand_ratios=(3,), depths=(1,))
DEEP = SMALL.extend(depths=(1, 2))
LARGE = DEEP.extend(kernel_sizes=(3, 5), expand_ratios=(3, 4), resolutions=(16, 24))
DATA = striped(48)


def small():
    return OFAMobileNetV3(SMALL, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)


def phases(**fields):
    given = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 16, "dropout": 0.1} | fields
    taught = given | {"teacher": Teacher("previous_phase", batchnorm="calibrated")}
    return [
        one_phase(SMALL, name="small", **given),
        one_phase(DEEP, name="deep", **taught),
        one_phase(LARGE, name="large", **taught),
    ]


def grown(folder, **options):
    return run(folder, phases(), supernet=small(), data=DATA, threads=1, **options)


def test_each_phase_has_a_network_of_its_size(tmp_path):
    trained = grown(tmp_path / "run")
    assert trained.space == LARGE
    sizes = []
    for number, (name, space) in enumerate((("small", SMALL), ("deep", DEEP), ("large", LARGE)), start=1):
        saved = load_network(tmp_path / f"run/checkpoints/{number}-{name}-last.safetensors")
        assert saved.space == space
        sizes.append(sum(parameter.numel() for parameter in saved.parameters()))
    assert sizes == sorted(set(sizes))
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert described["network"]["space"] == json.loads(json.dumps(SMALL.to_dict()))


def test_a_phase_begins_with_the_function_that_the_one_before_had(tmp_path):
    still = phases(learning_rate=1e-60, dropout=0.0)
    trained = run(tmp_path / "run", still, supernet=small(), data=DATA, threads=1).eval()
    before = load_network(tmp_path / "run/checkpoints/1-small-best.safetensors").eval()
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for net in (trained, before):
        net.use_batch_statistics()
    with torch.no_grad():
        expected = before(x, SMALL.largest())
        assert torch.equal(trained(x, SMALL.largest()), expected)
        torch.testing.assert_close(trained(x, LARGE.uniform(resolution=16)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("moment", (2, 3, 5))
def test_it_goes_on_across_a_growth(tmp_path, monkeypatch, moment):
    """Six steps in three phases; the run is killed in or between them and ends with the very same weights."""

    class Kill(BaseException):
        pass

    expected = grown(tmp_path / "whole", checkpoint_every=1).state_dict()
    own, calls = Records.advance, []

    def advance(*arguments):
        own(*arguments)
        calls.append(1)
        if len(calls) == moment:
            raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(Records, "advance", advance)
        with pytest.raises(Kill):
            grown(tmp_path / "run", checkpoint_every=1)
    found = grown(tmp_path / "run", checkpoint_every=1, resume=True).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_spaces_that_are_no_extension_are_refused():
    assert final_space(SMALL, phases()) == LARGE
    assert final_space(LARGE, phases()) == LARGE
    other = one_phase(SMALL.extend(kernel_sizes=(3, 7)), name="other")
    with pytest.raises(UserError, match="phase 'other' trains architectures that the supernet does not .*missing"):
        final_space(SMALL, [*phases(), other])


def test_a_run_begins_with_what_its_first_phase_needs():
    whole = OFAMobileNetV3(LARGE, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)
    first = beginning(whole, progressive_expansion(LARGE), seed=3)
    assert first.space == SMALL.extend(resolutions=(16, 24)) and first.options == whole.options
    weights = small().state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first.state_dict().items())
    assert beginning(whole, progressive_shrinking(LARGE), seed=3) is whole


def test_what_is_large_enough_stays_itself():
    supernet = small()
    assert fitted(supernet, phases()[0], seed=0) is supernet
    larger = fitted(supernet, phases()[1], seed=0)
    assert larger.space == DEEP and larger is not supernet
    probe = without_weights(supernet, LARGE)
    assert all(tensor.is_meta for tensor in probe.parameters())
    assert probe.measure(LARGE.largest()).macs > supernet.measure(SMALL.largest()).macs
