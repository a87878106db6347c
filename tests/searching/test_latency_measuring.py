"""Oracles: the settings that were asked, and what an identity must and must not depend on. No time is judged."""

import json

import pytest

from onceforall.errors import UserError
from onceforall.evaluation.engines import EngineSettings
from onceforall.evaluation.latency import Latency
from onceforall.searching.latency_measuring import best_estimate_ms, identity_of, measuring, open_table
from onceforall.searching.latency_table import LatencyTable, differences
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


def test_a_device_that_is_not_here_has_no_machine():
    supernet = create_supernet("prox_mobilenet", **OPTIONS)
    assert identity_of(supernet, EngineSettings("pytorch", device="cuda:77"))["machine"] is None


def test_a_table_of_another_machine_is_refused_or_taken_and_one_of_another_network_never(tmp_path):
    supernet = create_supernet("prox_mobilenet", **OPTIONS)
    here = identity_of(supernet, EngineSettings("onnxruntime"))

    def saved(**changes):
        LatencyTable(here | changes, {"stem at 16": 1.0}).save(tmp_path / "t.json")
        return tmp_path / "t.json"

    assert open_table(saved(), supernet, backend="onnxruntime")[1] == []
    with pytest.raises(UserError, match=r"belongs elsewhere: machine A, here .*--force"):
        open_table(saved(machine="A"), supernet)
    table, [elsewhere] = open_table(saved(machine="A"), supernet, force=True)
    assert elsewhere.startswith("machine A, here ") and table.entries == {"stem at 16": 1.0}
    gpu = saved(backend="pytorch", device="cuda:77", machine="a GPU")
    with pytest.raises(UserError, match="machine a GPU, here None"):
        open_table(gpu, supernet)
    for changes in ({"network": "Other"}, {"options": here["options"] | {"width_mult": 0.5}}):
        with pytest.raises(UserError, match="is of another network: "):
            open_table(saved(**changes), supernet, force=True)
    with pytest.raises(UserError, match="is of the backend 'onnxruntime', not 'openvino'"):
        open_table(saved(), supernet, backend="openvino", force=True)
