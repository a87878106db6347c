"""The order of images is a function of seed, phase and epoch."""

from dataclasses import replace

import numpy as np

from onceforall.training.options import RunOptions
from onceforall.training.order import epoch_order
from tiny_runs import one_phase, striped, two_stages

DATA = striped(96)  # 66 images to train
PHASE = one_phase(two_stages().space)


def test_every_epoch_is_a_new_order_of_whole_batches():
    orders = [epoch_order(DATA, RunOptions(), PHASE, epoch) for epoch in range(3)]
    for order in orders:
        assert [len(batch) for batch in order] == [16] * 4
        assert len(set(np.concatenate(order))) == 64
    assert len({tuple(np.concatenate(order)) for order in orders}) == 3
    again = epoch_order(DATA, RunOptions(), PHASE, 1)
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(orders[1]))
    for options, phase in ((RunOptions(seed=1), PHASE), (RunOptions(), replace(PHASE, name="other"))):
        assert list(np.concatenate(epoch_order(DATA, options, phase, 1))) != list(np.concatenate(again))


def test_fewer_images_than_a_batch_are_one_batch():
    [batch] = epoch_order(DATA, RunOptions(), replace(PHASE, batch_size=100), 0)
    assert sorted(batch) == list(range(66))


def test_rare_classes_are_drawn_as_often_as_others():
    data = striped(90)
    rare = np.flatnonzero(data._labels == 0)
    data._labels[rare[3:]] = 1
    options = RunOptions(balance="classes")
    drawn = np.concatenate([np.concatenate(epoch_order(data, options, PHASE, epoch)) for epoch in range(20)])
    shares = np.bincount(data.labels("train")[drawn], minlength=3) / len(drawn)
    assert np.abs(shares - 1 / 3).max() < 0.06
