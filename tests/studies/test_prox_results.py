"""Comparisons are read back, by data set and seed."""

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.studies.prox_results import ProxNumber, ProxResults, comparison_folder, read_prox_results
from prox_runs import comparison_contents, write_comparison

RUNS = {"ps": (0.9, 100.0, 1000), "prox-mr": (0.92, 50.0, 380), "single-largest": (0.8, 40.0, 300)}


@pytest.fixture
def results(tmp_path):
    write_comparison(tmp_path, "images", 10, RUNS | {"prox-mr": (0.94, 60.0, 380)})
    write_comparison(tmp_path, "images", 2, RUNS)
    write_comparison(tmp_path, "oct", 0, {"ps": (0.5, 1.0, 1), "prox-ir": (0.6, 1.0, 1)})
    return read_prox_results(tmp_path)


def test_numbers_by_seed(results):
    assert list(results.comparisons) == [("oct", 0), ("images", 2), ("images", 10)]
    assert results.values(ProxNumber("images", "prox-mr", "score")) == {2: 0.92, 10: 0.94}
    assert results.mean(ProxNumber("images", "prox-mr", "seconds")) == 55.0
    assert results.values(ProxNumber("images", "ps", "learning_seconds")) == {2: 75.0, 10: 75.0}
    assert results.values(ProxNumber("images", "ps", "macs")) == {2: 1000, 10: 1000}
    assert results.values(ProxNumber("images", "single-largest", "score")) == {2: 0.8, 10: 0.8}
    assert results.mean(ProxNumber("images", "prox-ir", "score")) is None
    assert results.runs("oct") == ["ps", "prox-ir"]
    assert results.runs("brats") == []


def test_answers_of_images(results):
    found = results.answers("images", "prox-mr", [2, 10])
    assert found is not None and found.shape == (2, 400)
    assert found.mean(axis=1) == pytest.approx([0.92, 0.94])
    assert results.answers("images", "prox-ir", [2]) is None
    unpaired = ProxResults({("oct", 0): comparison_contents(RUNS) | {"answers": None}})
    assert unpaired.answers("oct", "ps", [0]) is None
    unjudged = ProxResults({("oct", 0): comparison_contents(RUNS) | {"answers": {"ps": [0.5, None]}}})
    one = unjudged.answers("oct", "ps", [0])
    assert one is not None and np.isnan(one[0, 1])


def test_damage_and_nothing(tmp_path):
    assert read_prox_results(tmp_path / "absent").comparisons == {}
    write_comparison(tmp_path, "oct", 0, RUNS)
    (comparison_folder(tmp_path, "oct", 0) / "comparison.json").write_text("{")
    with pytest.raises(UserError, match=r"comparison\.json is damaged"):
        read_prox_results(tmp_path)
