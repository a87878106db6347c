"""Oracles: the settings that were asked, and what an identity must and must not depend on. No time is judged."""

import json

import pytest

from onceforall.evaluation.engines import EngineSettings
from onceforall.evaluation.latency import Latency
from onceforall.searching.latency_measuring import best_estimate_ms, identity_of, measuring
from onceforall.searching.latency_table import differences
from onceforall.supernets import create_supernet

OPTIONS = {"width_mult": 0.25, "resolutions": (16,), "depths": (1,), "kernel_sizes": (3,)}


def test_identity_is_of_network_engine_and_machine_but_not_of_weights_or_choices():
    settings = EngineSettings("onnxruntime")
    one = identity_of(create_supernet("prox_mobilenet", **OPTIONS), settings)
    assert json.loads(json.dumps(one)) == one
    assert one["version"] and one["machine"]
    other = create_supernet("prox_mobilenet", seed=1, **(OPTIONS | {"resolutions": (24,)}))
    assert differences(one, identity_of(other, settings)) == []
    wider = create_supernet("prox_mobilenet", **(OPTIONS | {"width_mult": 0.5}))
    assert len(differences(one, identity_of(wider, settings))) == 1
    assert differences(one, identity_of(other, EngineSettings("onnxruntime", threads=2, batch=4))) == [
        "threads 1, here 2",
        "batch 1, here 4",
    ]


def test_architectures_are_timed_on_the_engine():
    supernet = create_supernet("prox_mobilenet", **OPTIONS)
    settings = EngineSettings("onnxruntime", batch=2)
    with measuring(supernet, settings, warmup_seconds=0.0, min_runs=2, max_seconds=0.0, rounds=2) as measure:
        got = measure([supernet.space.smallest(), supernet.space.largest()])
    assert [(each.engine, each.batch_size, each.runs) for each in got] == [("onnxruntime", 2, 4)] * 2


@pytest.mark.parametrize(("threads", "device", "expected"), [(1, "cpu", 2.0), (2, "cpu", 3.0), (1, "cuda", 3.0)])
def test_the_time_on_the_processor_counts_where_one_thread_of_it_ran(threads, device, expected):
    latency = Latency(3.0, 0.1, 2.0, 5, threads, 1, device, "pytorch", "float32", None, False)
    assert best_estimate_ms(latency) == expected
