"""Which sub-networks judge a phase, and that judging leaves no trace in the supernet."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from onceforall.evaluation.evaluate import evaluate
from onceforall.evaluation.tasks import classification
from onceforall.search_space import SearchSpace
from onceforall.training.distributed import World
from onceforall.training.ledger import Ledger
from onceforall.training.options import RunOptions
from onceforall.training.validation import Validator, validation_architectures
from tiny_runs import one_phase, striped, two_stages

DATA, CPU = striped(), torch.device("cpu")
SPACE = two_stages().space


def validator(world=None, **options):
    ledger = Ledger(CPU)
    ledger.begin_phase("only")
    options = RunOptions(calibration_images=32, **options)
    return Validator(DATA, classification(), options, world or World(0, 1, CPU), ledger, torch.float32)


def test_the_smallest_the_largest_and_fixed_random_ones():
    chosen = validation_architectures(one_phase(SPACE), seed=0, random_ones=3)
    assert list(chosen) == ["smallest", "largest", "random_1", "random_2", "random_3"]
    assert chosen["smallest"] == SPACE.smallest() and chosen["largest"] == SPACE.largest()
    assert len(set(chosen.values())) == 5 and all(architecture in SPACE for architecture in chosen.values())
    assert chosen == validation_architectures(one_phase(SPACE), seed=0, random_ones=3)
    more = validation_architectures(one_phase(SPACE), seed=0, random_ones=4)
    assert {name: more[name] for name in chosen} == chosen, "one more changes the others"
    for other in (
        validation_architectures(one_phase(SPACE), seed=1, random_ones=3),
        validation_architectures(one_phase(SPACE, name="other"), seed=0, random_ones=3),
    ):
        assert other["random_1"] != chosen["random_1"]


def test_none_is_judged_twice():
    only = SearchSpace.only(SPACE.largest())
    assert validation_architectures(one_phase(only), 0, random_ones=4) == {"largest": SPACE.largest()}
    two = only.extend(resolutions=(16, 24))
    assert sorted(validation_architectures(one_phase(two), 0, random_ones=9)) == ["largest", "smallest"]


def test_scores_are_those_of_an_evaluation():
    supernet = two_stages(seed=5).train()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    scores = validator().validate(supernet, one_phase(SPACE))
    assert list(scores) == ["smallest", "largest", "random_1", "random_2"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert all(module.training for module in supernet.modules())
    [expected] = evaluate(
        supernet, [SPACE.largest()], classification(), DATA, split="validation", calibration_images=32
    )
    assert scores["largest"] == pytest.approx(expected.metrics, nan_ok=True)


def test_a_part_of_the_images_and_all_of_them(monkeypatch):
    supernet = two_stages(seed=5)
    kept = []
    part = validator(validation_images=6)
    measure = part.task.measure

    def keep(batches):
        batches = list(batches)
        kept.append(batches)
        return measure(batches)

    object.__setattr__(part.task, "measure", keep)
    score = part.score(supernet, SPACE.largest(), batch_size=4, images=6)
    truth = np.concatenate([labels for _, labels in kept[0]])
    answers = np.concatenate([probabilities.argmax(1) for probabilities, _ in kept[0]])
    assert [len(labels) for _, labels in kept[0]] == [4, 2]
    np.testing.assert_array_equal(truth, DATA.labels("validation")[:6])
    assert score["accuracy"] == accuracy_score(truth, answers)
    part.score(supernet, SPACE.largest(), batch_size=4, images=None)
    part.score(supernet, SPACE.largest(), batch_size=4, images=1000)
    assert [sum(len(labels) for _, labels in batches) for batches in kept] == [6, 15, 15]


def test_processes_share_the_work():
    """Each judges every second architecture; together they have judged all."""
    supernet = two_stages(seed=5)
    phase = one_phase(SPACE)
    whole = validator().validate(supernet, phase)
    own = {}
    for rank in range(2):
        part = validator(World(rank, 2, CPU))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(World, "merge", lambda _, rows, names: (rows, names))
            rows, names = part.validate(supernet, phase)
        assert names == list(whole)
        own |= {rank: rows}
    assert list(own[0]) == ["smallest", "random_1"] and list(own[1]) == ["largest", "random_2"]
    assert own[0] | own[1] == {name: pytest.approx(row, nan_ok=True) for name, row in whole.items()}


def test_time_is_split():
    part = validator()
    part.validate(two_stages(), one_phase(SPACE))
    seconds = part.ledger.entries[0]["seconds"]
    assert seconds["calibration"] > 0 and seconds["validation"] > 0 and seconds["student"] == 0
