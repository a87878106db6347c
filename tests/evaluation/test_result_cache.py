"""Results that outlive their program: found again where nothing changed, never half a line."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.result_cache import ResultCache, digest_of_weights, pack_scores, unpack_scores
from tiny_runs import two_stages

NET = two_stages()
LARGE, SMALL = NET.space.largest(), NET.space.smallest()
SETTINGS = {"calibration_images": 32, "calibration_rule": "reference", "seed": 0, "exit_weights": None}


def result(architecture=LARGE, split="test", accuracy=1 / 3):
    correct = np.array([True, False, False, True, True, False, True, True, True, False, True])
    metrics = {"accuracy": accuracy, "auc": math.nan}
    return Evaluation(architecture, cost(NET, architecture), metrics, 30, None, split, correct)


def same(one, other):
    assert (one.architecture, one.split, one.cost) == (other.architecture, other.split, other.cost)
    assert one.calibration_images == other.calibration_images
    assert one.metrics == pytest.approx(other.metrics, abs=0, rel=0, nan_ok=True)
    np.testing.assert_array_equal(one.correct, other.correct)
    return True


def test_what_was_added_is_found_by_the_next_program(tmp_path):
    path = tmp_path / "results" / "cache" / "full.jsonl"
    first = ResultCache(path, NET, **SETTINGS)
    assert first.find([LARGE], ["test"]) == [] and not path.exists()
    first.add(result())
    first.add(result(split="validation", accuracy=0.1 + 0.2))
    first.add(result())  # again: nothing is written
    assert len(path.read_text().splitlines()) == 2
    later = ResultCache(path, two_stages(), **SETTINGS)
    [found] = later.find([LARGE, SMALL], ["test"])
    assert same(found, result())
    both = later.find([LARGE], ["test", "validation"])
    assert same(both[1], result(split="validation", accuracy=0.1 + 0.2))
    later.add(result(SMALL))
    assert len(ResultCache(path, NET, **SETTINGS).find([LARGE, SMALL], ["test"])) == 2
    assert later.find([SMALL], ["test", "validation"]) == [], "one of its splits is missing"


@pytest.mark.parametrize(
    "changed",
    [{"calibration_images": 31}, {"calibration_rule": "population"}, {"seed": 1}, {"exit_weights": (0.5, 0.5)}],
)
def test_other_settings_find_nothing(tmp_path, changed):
    path = tmp_path / "full.jsonl"
    ResultCache(path, NET, **SETTINGS).add(result())
    other = ResultCache(path, NET, **SETTINGS | changed)
    assert other.find([LARGE], ["test"]) == []
    other.add(result(accuracy=0.5))
    for settings, accuracy in ((SETTINGS, 1 / 3), (SETTINGS | changed, 0.5)):  # both live in one file
        [found] = ResultCache(path, NET, **settings).find([LARGE], ["test"])
        assert found.metrics["accuracy"] == accuracy


def test_other_weights_find_nothing(tmp_path):
    path = tmp_path / "full.jsonl"
    ResultCache(path, NET, **SETTINGS).add(result())
    assert ResultCache(path, two_stages(seed=1), **SETTINGS).find([LARGE], ["test"]) == []
    assert digest_of_weights(two_stages()) == digest_of_weights(NET)
    one_number = two_stages()
    next(one_number.parameters()).data.view(-1)[7] += 1e-6
    others = [one_number, two_stages().double(), two_stages(dropout=0.2), two_stages(seed=1)]
    assert len({digest_of_weights(net) for net in [NET, *others]}) == 5


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_a_line_that_was_cut_off_is_left_out(tmp_path, cut):
    path = tmp_path / "full.jsonl"
    cache = ResultCache(path, NET, **SETTINGS)
    cache.add(result())
    cache.add(result(SMALL))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    later = ResultCache(path, NET, **SETTINGS)
    expected = [LARGE, SMALL] if cut == 1 else [LARGE]  # only the end of the line is missing
    assert [found.architecture for found in later.find([LARGE, SMALL], ["test"])] == expected
    later.add(result(split="validation"))
    last = ResultCache(path, NET, **SETTINGS)
    assert [found.architecture for found in last.find([LARGE, SMALL], ["test"])] == expected
    assert last.find([LARGE], ["validation"])
    assert sum(map(is_json, path.read_text().splitlines())) == len(expected) + 1


def is_json(text):
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def test_a_line_says_what_it_belongs_to(tmp_path):
    path = tmp_path / "full.jsonl"
    ResultCache(path, NET, **SETTINGS).add(result())
    line = json.loads(path.read_text())
    assert line["digest"] == LARGE.digest() and line["exits"] == [2] and line["split"] == "test"
    assert line["metrics"] == {"accuracy": 1 / 3, "auc": None} and line["images"] == 11
    assert line["correct"] == "9ba0"  # 1001 1011 101(0 0000)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    cache = ResultCache(tmp_path / "cache" / "full.jsonl", NET, **SETTINGS)
    with pytest.raises(UserError, match="cannot write .*full.jsonl"):
        cache.add(result())


@given(st.lists(st.booleans(), max_size=40))
def test_bits(values):
    scores = np.array(values, dtype=bool)
    packed = pack_scores(scores)
    assert len(packed) == 2 * -(-len(values) // 8)
    assert unpack_scores(packed, len(values)).tolist() == values


def test_scores_that_are_numbers():
    assert pack_scores(np.array([0.5, 1.0])) == [0.5, 1.0]
    assert pack_scores(np.array([0.5, math.nan])) == [0.5, None], "an image that is not judged"
    np.testing.assert_array_equal(unpack_scores([0.5, None], 2), [0.5, math.nan])
    assert unpack_scores([0.5, 1.0], 2).tolist() == [0.5, 1.0]
