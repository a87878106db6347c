"""Oracles: numbers worked out by hand, the files read back with other readers, the published Wilson interval."""

import csv
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from onceforall.architecture import Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.results import best_architecture, parse_budget, read_results, write_results
from onceforall.layers.elastic import Cost

CLASSES = ("cat", 'dog, "wild"', "eel")
LABELS = np.array([0, 0, 1, 1, 1, 1])  # nobody is an eel
FILES = [f"{CLASSES[label]}/{i}.png" for i, label in enumerate(LABELS)]
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]], np.float32
)  # predictions: 0, 1, 1, 1, 2, 1


def architecture(kernel_size: int, depth: int = 1, resolution: int = 32) -> Architecture:
    return Architecture(resolution, (Stage((Block(kernel_size, 4),) * depth),))


def evaluation(kernel_size: int, macs: int, accuracy: float, **changes) -> Evaluation:
    metrics = {"accuracy": accuracy, "macro_f1": accuracy - 0.1, "auc": math.nan, "log_loss": 1 - accuracy}
    cost = Cost(params=macs // 10, macs=macs, activations=macs // 100, weight_bytes=macs // 2)
    return replace(Evaluation(architecture(kernel_size), cost, metrics, 512), **changes)


EVALUATIONS = [
    evaluation(7, 8_000_000, 4 / 6, probabilities=PROBABILITIES),
    evaluation(3, 2_000_000, 3 / 6),
    evaluation(5, 4_000_000, 2 / 6),
    evaluation(9, 6_000_000, 4 / 6),
    evaluation(11, 7_000_000, 0.0),
]
NAMES = ["largest", "smallest", "random_1", "random_2", "random_3"]


def write(folder, evaluations=tuple(EVALUATIONS), names=tuple(NAMES), **changes):
    about = {"split": "test", "labels": LABELS, "files": FILES, "classes": CLASSES, "facts": {"rule": "reference"}}
    return write_results(folder, list(evaluations), list(names), **{**about, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with results."""
    folder = tmp_path_factory.mktemp("run")
    assert write(folder) == folder / "results" / "test.json"
    return folder


def test_a_row_holds_cost_quality_and_architecture(run):
    row = read_results(run, "test")["rows"][0]
    assert list(row)[:7] == ["name", "digest", "resolution", "params", "macs", "activations", "weight_bytes"]
    assert (row["name"], row["macs"], row["weight_bytes"], row["resolution"]) == ("largest", 8_000_000, 4_000_000, 32)
    assert Architecture.from_dict(row["architecture"]) == architecture(7)
    assert row["digest"] == architecture(7).digest()
    assert row["auc"] is None, "NaN is null in JSON"
    assert "NaN" not in (run / "results/test.json").read_text()


def test_accuracy_has_wilsons_interval(tmp_path):
    labels, files = np.zeros(263, np.int64), [str(i) for i in range(263)]
    path = write(tmp_path, [evaluation(3, 10, 81 / 263)], ["largest"], labels=labels, files=files)
    row = json.loads(path.read_text())["rows"][0]
    assert (round(row["accuracy_low"], 4), round(row["accuracy_high"], 4)) == (0.2553, 0.3662)  # Brown, Cai, DasGupta


def test_a_mean_of_scores_has_students_interval(tmp_path):
    scores = [0.8, 0.9, math.nan, 0.7, 0.86]
    metrics = {"dice_left": 0.5, "dice": 0.815, "soft_dice": 0.7}
    changed = {"metrics": metrics, "correct": np.array(scores), "probabilities": None}
    judged = [replace(EVALUATIONS[0], **changed), replace(EVALUATIONS[1], **changed, architecture=architecture(3))]
    judged[1] = replace(judged[1], correct=np.full(5, math.nan), metrics=dict.fromkeys(metrics, math.nan))
    names = [f"case_{i}" for i in range(5)]
    more = {"inputs": "volumes", "cases": {"a": {"dice": {"mean": 0.8, "low": math.nan}}}}
    write(tmp_path, judged, ["a", "b"], labels=None, files=names, classes=("left", "right"), metric="dice", **more)
    contents = read_results(tmp_path, "test")
    row, unknown = contents["rows"]
    known = [score for score in scores if not math.isnan(score)]
    expected = stats.t.interval(0.95, 3, np.mean(known), stats.sem(known))
    assert (row["dice_low"], row["dice_high"]) == pytest.approx(expected)
    assert (row["dice"], row["dice_left"], row["soft_dice"]) == (0.815, 0.5, 0.7)
    assert unknown["dice"] is unknown["dice_low"] is None
    assert contents["images"] == 5 and contents["details"] == {} and contents["metric"] == "dice"
    assert contents["inputs"] == "volumes" and contents["cases"] == {"a": {"dice": {"mean": 0.8, "low": None}}}
    assert not (tmp_path / "results" / "test-predictions.csv").exists()


def test_front_is_marked(run):
    rows = read_results(run, "test")["rows"]
    assert [row["name"] for row in rows if row["on_front"]] == ["smallest", "random_2"]
    better_when_low = write(run, metric="log_loss", higher_is_better=False, split="other")
    assert [row["on_front"] for row in json.loads(better_when_low.read_text())["rows"]] == [
        row["on_front"] for row in rows
    ]


def test_details_of_the_networks_that_kept_probabilities(run):
    details = read_results(run, "test")["details"]
    assert list(details) == ["largest"]
    assert details["largest"]["confusion_matrix"] == [[1, 1, 0], [0, 3, 1], [0, 0, 0]]
    cat, dog, eel = details["largest"]["per_class"]
    assert (cat["sensitivity"], cat["specificity"], cat["images"]) == (0.5, 1.0, 2)
    assert (dog["class"], dog["sensitivity"], dog["specificity"]) == (CLASSES[1], 0.75, 0.5)
    assert (eel["sensitivity"], eel["auc"], eel["specificity"]) == (None, None, 5 / 6)


def test_random_networks_are_summed_up(run):
    summary = read_results(run, "test")["random"]
    values = [2 / 6, 4 / 6, 0.0]
    mean, spread = 1 / 3, math.sqrt(((1 / 3) ** 2 * 2) / 2)
    half = 4.302653 * spread / math.sqrt(3)  # 0.975 quantile of Student's t with 2 degrees of freedom, from a table
    assert summary["count"] == 3
    assert summary["accuracy"]["mean"] == pytest.approx(mean)
    assert summary["accuracy"]["low"] == pytest.approx(mean - half, abs=1e-6)
    assert summary["accuracy"]["high"] == pytest.approx(mean + half, abs=1e-6)
    assert (summary["accuracy"]["minimum"], summary["accuracy"]["maximum"]) == (min(values), max(values))
    assert "auc" not in summary, "a mean over NaN is none"
    assert read_results(run, "test")["picture"] == {"files": ["test-front.png", "test-front.svg"]}


def test_table_reads_back(run):
    with open(run / "results/test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == NAMES
    assert [row["on_front"] for row in rows] == ["false", "true", "false", "true", "false"]
    assert float(rows[0]["accuracy"]) == 4 / 6
    assert rows[0]["auc"] == ""
    assert [Architecture.from_json(row["architecture"]) for row in rows] == [e.architecture for e in EVALUATIONS]


def test_predictions_read_back(run):
    with open(run / "results/test-predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == FILES
    assert {row["name"] for row in rows} == {"largest"}
    assert [row["label"] for row in rows] == [CLASSES[label] for label in LABELS]
    assert [row["prediction"] for row in rows] == [CLASSES[i] for i in (0, 1, 1, 1, 2, 1)]
    found = np.array([[float(row[f"probability_{name}"]) for name in CLASSES] for row in rows])
    np.testing.assert_allclose(found, PROBABILITIES, atol=1e-6)


def test_further_columns_and_several_networks_with_probabilities(tmp_path):
    latency = [{"latency_ms": float(i), "threads": 1} for i in range(5)]
    evaluations = [replace(e, probabilities=PROBABILITIES) for e in EVALUATIONS]
    rows = json.loads(write(tmp_path, evaluations, columns=latency).read_text())["rows"]
    assert [row["latency_ms"] for row in rows] == [0, 1, 2, 3, 4]
    with open(tmp_path / "results/test-predictions.csv", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [name for name in NAMES for _ in LABELS]


def test_without_matplotlib_the_rest_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write(tmp_path)
    contents = read_results(tmp_path, "test")
    assert "onceforall[report]" in contents["picture"]["note"]
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "test-predictions.csv",
        "test.csv",
        "test.json",
    ]
    assert len(contents["rows"]) == 5


def test_numbers_are_kept_where_the_picture_cannot_be_written(tmp_path):
    (tmp_path / "results/test-front.png").mkdir(parents=True)
    write(tmp_path)
    contents = read_results(tmp_path, "test")
    assert "cannot write" in contents["picture"]["note"] and len(contents["rows"]) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluations": [], "names": []}, "nothing was evaluated"),
        ({"names": NAMES[:4]}, "different one to each of the 5"),
        ({"names": ["largest"] * 5}, "different one to each of the 5"),
        ({"columns": [{}]}, "columns for 1 rows"),
        ({"files": FILES[:3]}, "3 files and 6 labels"),
        ({"labels": LABELS[:3], "files": FILES[:3]}, "6 rows of probabilities for 3 labels"),
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, **changes)
    assert not (tmp_path / "results").exists()


def test_missing_and_damaged_results_are_named(tmp_path, run):
    with pytest.raises(UserError, match="nothing was evaluated yet. Run: onceforall evaluate"):
        read_results(tmp_path, "test")
    with pytest.raises(UserError, match=r"no results of the split 'validation': there are results of .*test"):
        read_results(run, "validation")
    for text in ('{"rows": [', "[]", '{"rows": 3}'):
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results/test.json").write_text(text)
        with pytest.raises(UserError, match=r"test\.json .*evaluate again"):
            read_results(tmp_path, "test")


ROWS = [
    {"name": "a", "macs": 8e6, "params": 8e5, "accuracy": 0.9, "log_loss": 0.3, "latency_ms": 3.0},
    {"name": "b", "macs": 2e6, "params": 9e5, "accuracy": 0.7, "log_loss": 0.6, "latency_ms": 1.5},
    {"name": "c", "macs": 4e6, "params": 3e5, "accuracy": 0.8, "log_loss": 0.7, "latency_ms": None},
    {"name": "d", "macs": 3e6, "params": 4e5, "accuracy": 0.8, "log_loss": 0.5, "latency_ms": 2.0},
    {"name": "e", "macs": 1e6, "params": 1e5, "accuracy": None, "log_loss": None, "latency_ms": 1.0},
]


@pytest.mark.parametrize(
    ("arguments", "best"),
    [
        ({}, "a"),
        ({"max_macs": 8e6}, "a"),
        ({"max_macs": 5e6}, "d"),  # as good as c, and cheaper
        ({"max_macs": 2e6}, "b"),
        ({"max_params": 3e5}, "c"),
        ({"max_macs": 3e6, "max_params": 5e5}, "d"),
        ({"max_latency_ms": 2.5}, "d"),  # the latency of c is not known
        ({"metric": "log_loss"}, "c"),
        ({"metric": "log_loss", "higher_is_better": False, "max_macs": 5e6}, "d"),
    ],
)
def test_best_under_a_budget(arguments, best):
    assert best_architecture(ROWS, **arguments)["name"] == best


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (ROWS, {"max_macs": 1.5e6}, "macs <= 1.5M; the cheapest evaluated: b with macs 2M"),
        (ROWS, {"max_macs": 2e6, "max_params": 3e5}, "b with macs 2M, c with params 300K"),
        (ROWS, {"max_latency_ms": 1.0}, "b with latency_ms 1.5"),
        (ROWS[2:3], {"max_latency_ms": 1.0}, "no latency was measured"),
        (ROWS, {"metric": "acuracy"}, "Did you mean 'accuracy'"),
        ([], {}, "no evaluated architecture"),
    ],
)
def test_no_best(rows, arguments, message):
    with pytest.raises(UserError, match=message):
        best_architecture(rows, **arguments)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5M", 5_000_000),
        (" 1.5k ", 1500),
        ("2G", 2 * 10**9),
        ("0.3M", 300_000),
        ("1_000", 1000),
        (7, 7),
        ("2e6", 2000000),
    ],
)
def test_budgets(text, value):
    assert parse_budget(text) == value


@pytest.mark.parametrize(
    "text", ["", "M", "five", "-5M", "0", "0.0001K", "5MB", "5T", "nan", "inf", "1e400000", "5 M M"]
)
def test_bad_budgets(text):
    with pytest.raises(UserError, match="such as 5M"):
        parse_budget(text)
