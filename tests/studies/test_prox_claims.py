"""Claims are judged against ratios and intervals worked out here with numpy."""

import math

import numpy as np
import pytest
from scipy.stats import t

from onceforall.studies.prox import DATA_SETS
from onceforall.studies.prox_claims import difference_to, judge_prox, prox_claims
from onceforall.studies.prox_results import ProxNumber, ProxResults
from prox_runs import comparison_contents


def results_of(*seeds, data="images"):
    return ProxResults({(data, seed): comparison_contents(runs) for seed, runs in enumerate(seeds)})


def verdicts(results, data="images"):
    return {claim.name: judge_prox(claim, results) for claim in prox_claims([data])}


def bootstrap(first, second, draws=4000):
    """The 95 % interval of a paired bootstrap over rows (seeds) and columns (images), drawn one by one."""
    rng = np.random.default_rng(17)
    difference = np.subtract(first, second)
    rows, columns = difference.shape
    means = [
        difference[rng.integers(rows, size=rows)][:, rng.integers(columns, size=columns)].mean() for _ in range(draws)
    ]
    return np.quantile(means, [0.025, 0.975])


ONE = {"ps": (0.90, 100.0, 1000), "prox-mr": (0.97, 60.0, 390), "prox-ir": (0.895, 64.0, 370)}


def test_one_seed():
    found = verdicts(results_of(ONE))
    assert (found["images-time-prox-mr"].ours, found["images-time-prox-mr"].verdict) == (0.6, "holds")
    assert (found["images-time-prox-ir"].ours, found["images-time-prox-ir"].verdict) == (0.64, "fails")
    assert (found["images-macs-prox-mr"].ours, found["images-macs-prox-mr"].verdict) == (0.39, "fails")
    assert (found["images-macs-prox-ir"].ours, found["images-macs-prox-ir"].verdict) == (0.37, "holds")
    assert (found["images-learning-prox-mr"].ours, found["images-learning-prox-mr"].verdict) == (0.6, "fails")
    assert found["images-time-prox-mr"].low is None and found["images-time-prox-mr"].seeds == (0,)
    assert (found["images-score-prox-mr"].ours, found["images-score-prox-mr"].verdict) == (pytest.approx(0.07), "holds")
    assert found["images-leader"].verdict == "holds" and found["images-leader"].paper is None


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.9, "holds"), (0.895, "undecided"), (0.89, "undecided"), (0.85, "fails")]
)
def test_not_inferior_within_a_point(score, verdict):
    results = results_of(ONE | {"prox-ir": (score, 1.0, 1)})
    judged = verdicts(results)["images-score-prox-ir"]
    sides = [results.answers("images", run, [0]) for run in ("prox-ir", "ps")]
    low, high = bootstrap(*sides)
    assert (judged.low, judged.high) == pytest.approx((low, high), abs=0.003)
    assert judged.verdict == verdict
    assert judged.claim.more_than == -0.01


def test_the_leader_depends_on_the_task():
    names = {data: {claim.name: claim for claim in prox_claims([data])} for data in DATA_SETS}
    assert names["oct"]["oct-leader"].first.run == "prox-mr"
    for data in ("hippocampus", "brats"):
        assert names[data][f"{data}-leader"].first.run == "prox-ir"
    assert "0.01 of Dice" in names["brats"]["brats-score-prox-mr"].text and names["oct"]["oct-leader"].in_points
    assert not names["brats"]["brats-leader"].in_points
    all_names = [claim.name for claim in prox_claims(list(DATA_SETS))]
    assert len(all_names) == len(set(all_names)) == 9 * len(DATA_SETS)


def test_the_paper_beside_and_not_run():
    found = verdicts(ProxResults({}), "oct")
    assert {each.verdict for each in found.values()} == {"not run"}
    assert found["oct-time-prox-mr"].paper == pytest.approx(3.75 / 9)  # 58.3 % less
    assert found["oct-score-prox-mr"].paper == pytest.approx(0.0506)
    assert found["oct-leader"].paper == pytest.approx(0.015)
    assert found["oct-macs-prox-mr"].paper is None
    brats = verdicts(ProxResults({}), "brats")
    assert brats["brats-leader"].paper == pytest.approx(0.4693 - 0.4235)
    assert brats["brats-time-prox-ir"].paper is None
    without_ps = verdicts(results_of({"prox-mr": (0.9, 1.0, 1), "prox-ir": (0.9, 1.0, 1)}))
    assert without_ps["images-time-prox-mr"].verdict == "not run" and without_ps["images-leader"].verdict == "undecided"


def test_several_seeds():
    other = {"ps": (0.88, 100.0, 1000), "prox-mr": (0.95, 50.0, 370), "prox-ir": (0.93, 70.0, 372)}
    results = results_of(ONE, other)
    found = verdicts(results)
    judged = found["images-time-prox-mr"]
    half = t.ppf(0.975, 1) * np.std([0.6, 0.5], ddof=1) / math.sqrt(2)
    assert (judged.ours, judged.low, judged.high) == pytest.approx((0.55, 0.55 - half, 0.55 + half))
    assert (judged.verdict, judged.interval, judged.seeds) == ("undecided", "seeds", (0, 1))
    judged = found["images-score-prox-ir"]
    sides = [results.answers("images", run, [0, 1]) for run in ("prox-ir", "ps")]
    assert judged.ours == pytest.approx((0.895 - 0.90 + 0.93 - 0.88) / 2)
    assert (judged.low, judged.high) == pytest.approx(bootstrap(*sides), abs=0.004)


def test_without_scores_of_images_there_is_no_interval():
    contents = comparison_contents(ONE) | {"answers": None}
    judged = verdicts(ProxResults({("images", 0): contents}))["images-leader"]
    assert (judged.verdict, judged.low) == ("undecided", None) and judged.ours == pytest.approx(0.075)


def test_images_that_are_not_judged_are_left_out():
    contents = comparison_contents(ONE)
    whole = ProxResults({("images", 0): contents})
    unjudged = {run: [*answers, None] for run, answers in contents["answers"].items()}
    holed = ProxResults({("images", 0): contents | {"answers": unjudged}})
    mr, ps = (ProxNumber("images", run, "score") for run in ("prox-mr", "ps"))
    assert difference_to(holed, mr, ps, [0]) == difference_to(whole, mr, ps, [0])
    assert difference_to(holed, mr, None, [0]) == difference_to(whole, mr, None, [0])
