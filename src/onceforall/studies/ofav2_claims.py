"""What OFAv2 claims in section V, and what its Tables IV and V show beside, each as a difference of two numbers."""

from collections.abc import Callable, Iterator

from onceforall.studies.claims import Claim
from onceforall.studies.ofav2 import BASELINE, NETWORKS, STEPS, TABLES
from onceforall.studies.results import Side, Value

__all__ = ["ofav2_claims"]

PAIRS = {BASELINE: "ee_b_ofa_mbv3", "se_d_ofa_mbv3": "ee_d_ofa_mbv3"}
PAIRS |= {"se_p_ofa_mbv3": "ee_p_ofa_mbv3", "se_dp_ofa_mbv3": "ee_dp_ofa_mbv3"}  # one exit -> several
DENSE = {BASELINE: "se_d_ofa_mbv3", "ee_b_ofa_mbv3": "ee_d_ofa_mbv3"}
DENSE |= {"se_p_ofa_mbv3": "se_dp_ofa_mbv3", "ee_p_ofa_mbv3": "ee_dp_ofa_mbv3"}
PARALLEL = {BASELINE: "se_p_ofa_mbv3", "se_d_ofa_mbv3": "se_dp_ofa_mbv3"}
PARALLEL |= {"ee_b_ofa_mbv3": "ee_p_ofa_mbv3", "ee_d_ofa_mbv3": "ee_dp_ofa_mbv3"}
HURT = ("se_p_ofa_mbv3", "se_dp_ofa_mbv3")  # by the progressive teacher
WINNER = "ee_d_ofa_mbv3"
FIXED, MOVING = "fixed", "previous_phase"
COPY = "the paper's baseline of width 1.2 is suspect, and with it this number"


def ofav2_claims() -> list[Claim]:
    """All claims, those of width 1.0 first."""
    out = [claim for width in (1.0, 1.2) for claim in _of_width(width)]
    return out + list(_of_both_widths())


def _of_width(width: float) -> Iterator[Claim]:
    def side(network: str, teacher: str = MOVING, step: str = "EW", value: Value = "chosen") -> Side:
        return Side(network, teacher, width, step, value)

    def claim(name: str, text: str, first: Side, *others: Side, more_than: float = 0.0, note: str = "") -> Claim:
        return Claim(f"{name}-w{width}", text, first, others, more_than, note)

    baseline, at = side(BASELINE, FIXED), f"width {width}"
    copy = COPY if width == 1.2 else ""
    headline = f"{WINNER} with the progressive teacher beats the baseline with the fixed one ({at})"
    yield claim("headline", headline, side(WINNER), baseline, note=copy)
    text = f"the average {WINNER} sub-network, progressive teacher, beats the best of the fixed baseline ({at})"
    yield claim("average-above-best", text, side(WINNER, value="mean"), baseline, note=copy)
    text = f"the progressive teacher alone gains more than 3 points on {WINNER} ({at})"
    yield claim("teacher-3-points", text, side(WINNER), side(WINNER, FIXED), more_than=0.03)
    for network in NETWORKS:
        ours, fixed = side(network), side(network, FIXED)
        note = copy if network == BASELINE else ""
        if network in HURT:
            yield claim(f"teacher-{network}", f"the progressive teacher hurts {network} ({at})", fixed, ours)
        else:
            yield claim(f"teacher-{network}", f"the progressive teacher helps {network} ({at})", ours, fixed, note=note)
    yield from _first_steps(side, claim, at, copy)
    for single, several in PAIRS.items():
        text = f"with early exits {several} ends above {single} ({at})"
        yield claim(f"exits-{several}", text, side(several), side(single))
    for plain, dense in DENSE.items():
        text = f"dense skips add a little: {dense} ends above {plain} ({at})"
        yield claim(f"dense-{dense}", text, side(dense), side(plain))
    for plain, parallel in PARALLEL.items():
        text = f"parallel blocks do not help: {parallel} ends below {plain} ({at})"
        yield claim(f"parallel-{parallel}", text, side(plain), side(parallel))
    for several in PAIRS.values():
        steps = list(TABLES[str(width), several, MOVING])
        before = steps[steps.index("EH") - 1]
        text = f"the best of {several} rises when the exits open: EH above {before} ({at})"
        yield claim(f"height-{several}", text, side(several, step="EH"), side(several, step=before))
        text = f"the best of {several} ends before the last stage, which reads 2x2 maps in the paper ({at})"
        yield claim(f"shallow-{several}", text, side(several, value="shallow"), side(several, value="deepest"))


def _first_steps(side: Callable[..., Side], claim: Callable[..., Claim], at: str, copy: str) -> Iterator[Claim]:
    """What is claimed of the steps from ER to EL."""
    for single, several in PAIRS.items():
        text = f"after the first step the exits of {several} together are below {single} ({at})"
        yield claim(f"first-step-{several}", text, side(single, step="ER"), side(several, step="ER"))
    for network in NETWORKS:
        text = f"elastic kernels improve {network} on the first step ({at})"
        yield claim(f"kernel-{network}", text, side(network, step="EKS"), side(network, step="ER"))
    leaders = {"ER": "se_dp_ofa_mbv3", "EKS": "se_d_ofa_mbv3", "EL": "ee_dp_ofa_mbv3"}
    for step, leader in leaders.items():
        others = [n for n in NETWORKS if n != leader and (step != "EL" or n in PARALLEL.values())]
        text = f"{leader} has the best sub-network of step {step} ({at})"
        yield claim(f"leader-{step}", text, side(leader, step=step), *(side(other, step=step) for other in others))
    text = f"already after EL the best of ee_dp_ofa_mbv3 beats the best of the fixed baseline after EW ({at})"
    yield claim("level-above-baseline", text, side("ee_dp_ofa_mbv3", step="EL"), side(BASELINE, FIXED), note=copy)
    for network in PARALLEL.values():
        text = f"single light blocks do badly: the average of {network} falls by more than 5 points in EL ({at})"
        low, high = side(network, step="EL", value="mean"), side(network, step="EKS", value="mean")
        yield claim(f"level-average-{network}", text, high, low, more_than=0.05)


def _of_both_widths() -> Iterator[Claim]:
    last = list(STEPS)[-1]
    for network in NETWORKS:
        wide, narrow = (Side(network, MOVING, width, last) for width in (1.2, 1.0))
        text = f"{network} gains from width 1.2 over 1.0 (progressive teacher)"
        yield Claim(f"width-{network}", text, wide, (narrow,))
