"""Claims are judged against differences and intervals worked out here with numpy."""

import math

import numpy as np
import pytest

from onceforall.studies.cells import Cell
from onceforall.studies.claims import Claim, counts, judge, widest_interval
from onceforall.studies.ofav2 import SHARED, STEPS, paper_number
from onceforall.studies.results import Side, read_results
from study_runs import write_cell

BASELINE, WINNER = ("ofa_mbv3", "fixed"), ("ee_d_ofa_mbv3", "previous_phase")
HEADLINE = Claim("headline", "", Side(*WINNER, 1.0, "EW"), (Side(*BASELINE, 1.0, "EW"),))


def run(folder, **accuracies):
    """A study of the baseline and the winner; `baseline_0=0.4` is the baseline's accuracy at EW with seed 0."""
    for name, accuracy in accuracies.items():
        which, seed = name.split("_")
        network, teacher = BASELINE if which == "baseline" else WINNER
        write_cell(folder, Cell(network, 1.0, teacher, int(seed)), {"EW": accuracy})
    return read_results(folder, STEPS, SHARED)


def bootstrap(first, second, draws=4000):
    """The 95 % interval of a paired bootstrap over rows (seeds) and columns (images), drawn one by one."""
    rng = np.random.default_rng(17)
    difference = first.astype(float) - second
    rows, columns = difference.shape
    means = [
        difference[rng.integers(rows, size=rows)][:, rng.integers(columns, size=columns)].mean() for _ in range(draws)
    ]
    return np.quantile(means, [0.025, 0.975])


def answers(results, side):
    return np.stack([grid.correct for grid in results.of(side).values()])


@pytest.mark.parametrize(
    ("winner", "more_than", "verdict"),
    [
        (0.52, 0.0, "holds"),
        (0.402, 0.0, "undecided"),
        (0.3, 0.0, "fails"),
        (0.52, 0.12, "undecided"),
        (0.52, 0.2, "fails"),
    ],
)
def test_one_seed(tmp_path, winner, more_than, verdict):
    results = run(tmp_path, baseline_0=0.4, winner_0=winner)
    claim = Claim("headline", "", HEADLINE.first, HEADLINE.others, more_than)
    found = judge(claim, results, paper_number)
    assert found.paper == pytest.approx(0.1207)
    assert found.ours == pytest.approx(winner - 0.4)
    assert found.best_on_test == pytest.approx(winner - 0.4)
    expected = bootstrap(answers(results, claim.first), answers(results, claim.others[0]))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.003)
    assert found.verdict == verdict
    assert (found.interval, found.seeds) == ("bootstrap", (0,))


def test_several_seeds_are_paired(tmp_path):
    results = run(
        tmp_path, baseline_0=0.40, baseline_1=0.42, baseline_2=0.44, winner_0=0.45, winner_1=0.43, winner_3=0.9
    )
    found = judge(HEADLINE, results, paper_number)
    assert found.seeds == (0, 1)  # the others have no partner
    assert found.ours == pytest.approx((0.05 + 0.01) / 2)
    first, second = (np.stack([results.of(s)[i].correct for i in (0, 1)]) for s in (HEADLINE.first, *HEADLINE.others))
    assert (found.low, found.high) == pytest.approx(bootstrap(first, second), abs=0.003)


def test_not_run(tmp_path):
    found = judge(HEADLINE, run(tmp_path, winner_0=0.5), paper_number)
    assert (found.verdict, found.ours, found.low) == ("not run", None, None)
    assert found.paper == pytest.approx(0.1207)
    no_pair = judge(HEADLINE, run(tmp_path, baseline_1=0.4), paper_number)
    assert no_pair.verdict == "not run"
    assert counts([found, no_pair]) == {"holds": 0, "fails": 0, "undecided": 0, "not run": 2}


def test_unlike_test_images_are_not_compared(tmp_path):
    run(tmp_path, baseline_0=0.4)
    write_cell(tmp_path, Cell(*WINNER[:1], 1.0, WINNER[1], 0), {"EW": 0.5}, images=500)
    assert judge(HEADLINE, read_results(tmp_path, STEPS, SHARED), paper_number).verdict == "not run"


def test_a_leader_is_compared_with_the_best_of_the_others(tmp_path):
    for network, accuracy in {"se_d_ofa_mbv3": 0.5, "ofa_mbv3": 0.3, "ee_b_ofa_mbv3": 0.45}.items():
        write_cell(tmp_path, Cell(network, 1.0, "previous_phase", 0), {"EW": accuracy})
    results = read_results(tmp_path, STEPS, SHARED)
    first, *others = [Side(n, "previous_phase", 1.0, "EW") for n in ("se_d_ofa_mbv3", "ofa_mbv3", "ee_b_ofa_mbv3")]
    found = judge(Claim("leader", "", first, tuple(others)), results, paper_number)
    assert found.ours == pytest.approx(0.05)
    assert found.paper == pytest.approx(0.4307 - 0.5164)
    missing = (*others, Side("ee_d_ofa_mbv3", "previous_phase", 1.0, "EW"))
    assert judge(Claim("leader", "", first, missing), results, paper_number).verdict == "not run"


def test_averages_have_the_widest_interval(tmp_path):
    results = run(tmp_path, baseline_0=0.4, winner_0=0.6)
    mean = Side(*WINNER, 1.0, "EW", "mean")  # 0.6, twice, 0.61 and 0.5
    found = judge(Claim("average", "", mean, HEADLINE.others), results, paper_number)
    difference = (2 * 0.6 + 0.61 + 0.5) / 4 - 0.4
    half = 1.959964 * math.sqrt((1 - difference**2) / 1000)
    assert (found.ours, found.low, found.high) == pytest.approx((difference, difference - half, difference + half))
    assert (found.interval, found.best_on_test, found.verdict) == ("widest", None, "holds")
    assert found.paper == pytest.approx(0.4422 - 0.3983)


def test_no_two_accuracies_differ_by_more_than_the_widest_interval():
    # two networks that agree on no image have it: of 2,000 images one answers 1,300 alone, the other the rest
    first = np.arange(2000) < 1300
    low, high = widest_interval(0.3, 2000)
    assert (low, high) == pytest.approx(bootstrap(first[None], ~first[None]), abs=0.004)
    assert widest_interval(1.0, 10) == (1.0, 1.0)
    assert widest_interval(0.0, 1) == (-1.0, 1.0)
