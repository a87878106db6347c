"""The paper's numbers: spot checks against its text, and what its tables must obey."""

import pytest

from onceforall.studies.command import SCALE_NAMES
from onceforall.studies.ofav2 import BASELINE, NETWORKS, SCALES, STEPS, SUSPECT, TABLES, TEACHERS, WIDTHS, paper_number
from onceforall.studies.results import Side
from onceforall.supernets.registry import SUPERNETS


def test_the_tables_are_whole():
    assert set(TABLES) == {(w, n, t) for w in WIDTHS for n in NETWORKS for t in TEACHERS}
    for (_, network, _), steps in TABLES.items():
        absent = set() if "p_ofa" in network else {"EL"}
        absent |= set() if network.startswith("ee") else {"EH"}
        assert set(steps) == set(STEPS) - absent
        assert all(mean < best for mean, best in steps.values())
    assert set(NETWORKS) <= set(SUPERNETS)
    assert tuple(SCALES) == SCALE_NAMES


def test_numbers_that_the_papers_text_names():
    final = {key: steps["EW"][1] for key, steps in TABLES.items()}
    winner, baseline = ("ee_d_ofa_mbv3", "previous_phase"), (BASELINE, "fixed")
    assert final["1.0", *winner] - final["1.0", *baseline] == pytest.approx(12.07)
    assert final["1.2", *winner] - final["1.2", *baseline] == pytest.approx(11.53)
    assert max(final.values()) == final["1.2", *winner] == 53.76
    kernel = {key: steps["EKS"][1] - steps["ER"][1] for key, steps in TABLES.items()}
    assert all(17 < gain < 24 for key, gain in kernel.items() if key[1].startswith("ee"))  # "approximately 20%"


def test_suspect_cells_are_copies():
    for width, network, teacher, step in SUSPECT:
        assert (width, teacher) == ("1.2", "fixed")
        assert TABLES[width, network, teacher][step] == TABLES["1.0", network, "previous_phase"][step]


def test_a_side_of_the_paper():
    side = ("ee_dp_ofa_mbv3", "previous_phase", 1.0, "EL")
    assert paper_number(Side(*side)) == pytest.approx(0.4242)
    assert paper_number(Side(*side, "mean")) == pytest.approx(0.2538)
    assert paper_number(Side(*side, "shallow")) is None
    assert paper_number(Side("se_d_ofa_mbv3", "fixed", 1.0, "EL")) is None
    assert paper_number(Side("se_d_ofa_mbv3", "fixed", 0.5, "EW")) is None


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_says_what_it_is_smaller_in(name):
    scale = SCALES[name]
    assert bool(scale.differs) == (name != "paper")
    assert scale.width_factor == {"tiny": 0.25, "small": 0.5, "paper": 1.0}[name]
    assert scale.drawn == (24 if name == "tiny" else None)
