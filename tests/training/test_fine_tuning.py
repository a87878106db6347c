"""The schedule of one network."""

import pytest
import torch

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Freeze
from onceforall.training.fine_tuning import fine_tuning
from tiny_runs import run, two_stages

SPACE = SearchSpace.build(2, resolutions=(16,), depths=(2,), kernel_sizes=(3,), expand_ratios=(3,))


def test_one_phase_trains_the_largest_with_all_its_exits():
    [phase] = fine_tuning(SPACE, epochs=7, learning_rate=3e-4, batch_size=5)
    assert (phase.epochs, phase.learning_rate, phase.batch_size, phase.decay) == (7, 3e-4, 5, "cosine")
    assert (phase.sampler, phase.optimizer, phase.freeze, phase.teacher.source) == (
        "largest",
        "adamw",
        Freeze(),
        "none",
    )


def test_the_head_first():
    head, tuned = fine_tuning(SPACE, epochs=7, frozen_epochs=2, freeze_stem=True, teacher="x.safetensors")
    assert (head.name, head.epochs, head.freeze) == ("head", 2, Freeze(stem=True, earlier_blocks=True))
    assert (tuned.name, tuned.epochs, tuned.freeze) == ("tune", 7, Freeze(stem=True))
    for phase in (head, tuned):
        assert (phase.teacher.source, phase.teacher.batchnorm) == ("x.safetensors", "calibrated")


def test_what_is_frozen_does_not_move(tmp_path):
    network = two_stages()
    network = network.subnet(network.space.largest())
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    head, _ = fine_tuning(network.space, epochs=1, frozen_epochs=1, batch_size=32)
    trained = run(tmp_path / "run", [head], supernet=network)
    moved = {name for name, parameter in trained.named_parameters() if not torch.equal(parameter, before[name])}
    frozen = ("stem.", "stages.0.0.", "stages.1.0.")
    assert moved == {name for name in before if not name.startswith(frozen)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"freeze_stem": 1}, "freeze_stem 1: must be true or false"),
        ({"frozen_epochs": -1}, "frozen_epochs -1: must be a whole number"),
        ({"frozen_epochs": 1.5}, "frozen_epochs 1.5"),
        ({"epochs": 0}, "epochs 0"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"total_epochs": 1, "frozen_epochs": 2}, "2 phases"),
    ],
)
def test_wrong_arguments(arguments, expected):
    with pytest.raises(UserError, match=expected) as error:
        fine_tuning(SPACE, **arguments)
    assert "\n" not in str(error.value)
