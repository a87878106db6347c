"""Every claim is true of the paper's own tables, but for the ones that its text says of one table only."""

import pytest

from onceforall.studies.claims import judge
from onceforall.studies.ofav2 import SHARED, paper_number
from onceforall.studies.ofav2_claims import ofav2_claims
from onceforall.studies.results import Results

CLAIMS = {claim.name: claim for claim in ofav2_claims()}
PAPER = {name: judge(claim, Results({}, SHARED), paper_number).paper for name, claim in CLAIMS.items()}


def test_names_and_texts_are_unique():
    assert len(CLAIMS) == len(ofav2_claims()) == len({claim.text for claim in CLAIMS.values()})
    assert next(iter(CLAIMS)) == "headline-w1.0"


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("headline-w1.0", 12.07),
        ("headline-w1.2", 11.53),
        ("average-above-best-w1.0", 44.22 - 39.83),
        ("teacher-3-points-w1.0", 51.90 - 48.53),
        ("teacher-3-points-w1.2", 53.76 - 49.93),
        ("teacher-ofa_mbv3-w1.2", 0.48),
        ("teacher-se_dp_ofa_mbv3-w1.0", 39.13 - 36.55),
        ("first-step-ee_d_ofa_mbv3-w1.0", 30.56 - 18.59),
        ("kernel-ee_b_ofa_mbv3-w1.0", 38.51 - 18.76),
        ("leader-ER-w1.0", 31.98 - 30.56),
        ("leader-EKS-w1.2", 43.11 - 42.53),
        ("leader-EL-w1.0", 42.42 - 41.00),
        ("level-above-baseline-w1.2", 42.52 - 42.23),
        ("level-average-ee_p_ofa_mbv3-w1.0", 37.02 - 24.17),
        ("height-ee_b_ofa_mbv3-w1.0", 48.76 - 38.51),
        ("height-ee_p_ofa_mbv3-w1.0", 45.73 - 40.79),
        ("dense-se_d_ofa_mbv3-w1.0", 43.07 - 42.23),
        ("dense-ee_d_ofa_mbv3-w1.0", 51.90 - 51.64),
        ("exits-ee_b_ofa_mbv3-w1.0", 51.64 - 42.23),
        ("parallel-ee_p_ofa_mbv3-w1.0", 51.64 - 46.06),
        ("width-ee_d_ofa_mbv3", 53.76 - 51.90),
    ],
)
def test_the_papers_number(name, points):
    assert 100 * PAPER[name] == pytest.approx(points)


def test_the_paper_keeps_its_claims():
    unknown = {name for name, value in PAPER.items() if value is None}
    assert unknown == {name for name in CLAIMS if name.startswith("shallow")}
    broken = {name for name, value in PAPER.items() if value is not None and value <= CLAIMS[name].more_than}
    assert broken == set()


def test_what_rests_on_the_suspect_cells_says_so():
    noted = {name for name, claim in CLAIMS.items() if claim.note}
    suspect = {"headline", "average-above-best", "teacher-ofa_mbv3", "level-above-baseline"}
    assert noted == {f"{name}-w1.2" for name in suspect}
