"""OFAv2 (2023) as data: its networks, steps and teachers, the numbers of its Tables IV and V, and the scales here."""

from collections.abc import Mapping

from onceforall.studies.results import Side
from onceforall.studies.study import Scale

__all__ = [
    "BASELINE",
    "NETWORKS",
    "SCALES",
    "SHARED",
    "STEPS",
    "STEP_NAMES",
    "SUSPECT",
    "TABLES",
    "TEACHERS",
    "WIDTHS",
    "paper_number",
]

BASELINE = "ofa_mbv3"
NETWORKS = (
    *(BASELINE, "se_d_ofa_mbv3", "ee_b_ofa_mbv3", "ee_d_ofa_mbv3"),
    *("se_p_ofa_mbv3", "se_dp_ofa_mbv3", "ee_p_ofa_mbv3", "ee_dp_ofa_mbv3"),
)
"""In the order of the paper's tables."""

TEACHERS = {"fixed": "fixed", "previous_phase": "progressive"}
"""Names of the recipe, and of the paper."""

WIDTHS = {"1.0": "IV", "1.2": "V"}
"""Width multiplier -> number of the paper's table."""

STEPS = {"ER": "full", "EKS": "kernel", "EL": "level", "EH": "height", "ED": "depth", "EW": "expand"}
"""Steps of the tables, and how the names of their phases begin; the tables show the last phase of each."""

STEP_NAMES = {"ER": "resolution", "EKS": "kernel size", "EL": "level", "EH": "height", "ED": "depth", "EW": "width"}

SHARED = ("ER", "EKS")
"""Steps that do not depend on the teacher: in the kernel phase either is the largest network of the first phase."""

SUSPECT: Mapping[tuple[str, str, str, str], str] = dict.fromkeys(
    [("1.2", BASELINE, "fixed", "ED"), ("1.2", BASELINE, "fixed", "EW")],
    "the paper prints the numbers of Table IV, progressive teacher, here once more; most likely a slip",
)
"""Width, network, teacher and step of the cells of the paper that are not to be trusted, with the reason."""

_EQUAL = "every network has the same number of epochs in all, so one with more phases has fewer in each"
SCALES: Mapping[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale(
            "tiny",
            "the built-in digits (10 classes, 8x8 pixels enlarged) instead of Tiny ImageNet; 0.25 of its widths; "
            "resolutions 24 and 32; 28 epochs of 539 images instead of 605 to 1,065 of 85,000; one sub-network a step; "
            f"at most 24 drawn members of each grid; {_EQUAL}. It shows that everything works, and no accuracies",
            "digits-eps",
            (
                "schedule.rows=small",
                "schedule.total_epochs=28",
                "network.resolutions=[24,32]",
                "network.kernel_sizes=[3,5,7]",
                "network.depths=[2,3,4]",
                "data.validation_fraction=0.1",
                "data.test_fraction=0.6",
                "phases.all.batch_size=32",
                "run.calibration_images=128",
                "run.checkpoint_every=1000",
            ),
            width_factor=0.25,
            drawn=24,
        ),
        Scale(
            "small",
            "20 classes of Tiny ImageNet, each with 60 images to train and 15 to validate, not 200 with 425 and 75; "
            "0.5 of the paper's widths; 45 epochs instead of 605 to 1,065; one sub-network a step; fewer validations; "
            "256 images to calibrate, not 1,000; test images are "
            f"the official validation images of these classes and what is left of their others; {_EQUAL}",
            "tiny-imagenet-eps",
            (
                "schedule.rows=small",
                "schedule.total_epochs=45",
                "data.classes=20",
                "data.train_per_class=60",
                "data.validation_per_class=15",
                "data.crop_ratio=0.875",
                "phases.all.batch_size=64",
                "phases.all.validate_every=5",
                "run.extreme_validation=8",
                "run.calibration_images=256",
            ),
            width_factor=0.5,
            resolutions=(48, 56, 64),
        ),
        Scale("paper", "", "tiny-imagenet-eps", ("schedule.rows=paper",), resolutions=(48, 56, 64)),
    )
}
"""How large the study can be made, by name."""

# width, network, teacher, then average/best of each step in percent; - where the network has no such step
_PAPER = """
1.0 ofa_mbv3       fixed          27.28/28.14 37.46/38.97 -           -           37.67/39.35 38.11/39.83
1.0 ofa_mbv3       previous_phase 27.03/28.02 37.90/39.38 -           -           39.45/41.46 40.03/42.23
1.0 se_d_ofa_mbv3  fixed          28.49/30.03 38.90/40.49 -           -           38.85/40.91 38.77/40.93
1.0 se_d_ofa_mbv3  previous_phase 29.50/30.56 39.73/41.60 -           -           40.37/42.34 40.83/43.07
1.0 ee_b_ofa_mbv3  fixed          18.08/19.01 37.08/38.51 -           41.49/47.17 40.55/48.24 40.68/48.80
1.0 ee_b_ofa_mbv3  previous_phase 17.81/18.76 36.94/38.51 -           43.93/48.76 43.47/50.00 44.18/51.64
1.0 ee_d_ofa_mbv3  fixed          17.68/18.36 38.35/40.00 -           41.04/46.37 40.11/47.63 40.30/48.53
1.0 ee_d_ofa_mbv3  previous_phase 17.96/18.59 38.11/39.76 -           43.48/48.82 43.31/50.62 44.22/51.90
1.0 se_p_ofa_mbv3  fixed          28.21/29.41 38.68/40.15 23.80/39.89 -           24.73/38.89 24.51/37.93
1.0 se_p_ofa_mbv3  previous_phase 27.98/28.95 37.99/39.36 23.65/39.35 -           24.03/37.92 23.42/36.17
1.0 se_dp_ofa_mbv3 fixed          30.32/31.40 39.71/41.10 25.47/41.26 -           26.28/40.39 26.09/39.13
1.0 se_dp_ofa_mbv3 previous_phase 30.39/31.98 39.75/41.29 24.84/41.00 -           24.46/38.78 23.27/36.55
1.0 ee_p_ofa_mbv3  fixed          16.06/16.74 37.19/38.73 23.59/39.36 26.97/44.33 27.33/43.85 27.96/44.12
1.0 ee_p_ofa_mbv3  previous_phase 16.49/17.47 37.02/38.53 24.17/40.79 27.49/45.73 28.12/45.23 29.18/46.06
1.0 ee_dp_ofa_mbv3 fixed          15.96/16.96 37.89/39.36 25.10/40.84 27.58/45.73 27.72/44.89 28.10/44.67
1.0 ee_dp_ofa_mbv3 previous_phase 16.19/17.07 38.03/39.63 25.38/42.42 28.37/46.74 28.95/45.89 30.20/46.24
1.2 ofa_mbv3       fixed          27.48/28.37 38.38/39.75 -           -           39.45/41.46 40.03/42.23
1.2 ofa_mbv3       previous_phase 27.74/28.66 39.54/40.62 -           -           40.54/41.82 41.15/42.71
1.2 se_d_ofa_mbv3  fixed          30.05/31.38 40.48/41.98 -           -           40.23/42.17 40.32/42.44
1.2 se_d_ofa_mbv3  previous_phase 29.90/30.82 41.55/43.11 -           -           42.45/44.20 43.20/45.44
1.2 ee_b_ofa_mbv3  fixed          21.32/22.24 39.13/40.45 -           43.42/47.79 42.38/48.40 42.64/49.49
1.2 ee_b_ofa_mbv3  previous_phase 22.07/23.38 39.51/40.97 -           46.26/50.52 46.09/51.83 47.13/53.37
1.2 ee_d_ofa_mbv3  fixed          20.86/21.98 39.77/41.46 -           43.24/47.47 42.56/48.47 42.79/49.93
1.2 ee_d_ofa_mbv3  previous_phase 21.06/21.87 40.12/41.91 -           46.70/51.07 46.62/52.47 47.46/53.76
1.2 se_p_ofa_mbv3  fixed          29.19/30.54 39.75/40.95 24.75/40.98 -           26.11/40.66 26.38/39.87
1.2 se_p_ofa_mbv3  previous_phase 28.37/29.65 39.01/40.61 24.57/40.23 -           25.35/39.01 24.87/37.35
1.2 se_dp_ofa_mbv3 fixed          31.12/32.38 40.46/42.11 26.38/41.77 -           27.28/41.16 27.57/40.14
1.2 se_dp_ofa_mbv3 previous_phase 31.31/32.97 40.92/42.53 26.19/41.93 -           26.45/39.73 25.97/38.02
1.2 ee_p_ofa_mbv3  fixed          19.39/20.28 38.48/40.08 24.52/40.87 28.90/46.18 29.19/45.65 29.89/46.01
1.2 ee_p_ofa_mbv3  previous_phase 19.47/20.59 38.79/40.36 24.89/41.55 29.73/48.12 30.71/47.84 32.26/48.44
1.2 ee_dp_ofa_mbv3 fixed          18.71/18.99 38.38/40.24 25.89/42.03 29.51/46.88 30.03/46.60 30.28/46.74
1.2 ee_dp_ofa_mbv3 previous_phase 18.68/19.26 38.33/39.89 26.23/42.52 30.27/48.43 31.83/48.93 32.76/48.62
"""


def _read(text: str) -> dict[tuple[str, str, str], dict[str, tuple[float, float]]]:
    out = {}
    for line in text.strip().splitlines():
        width, network, teacher, *cells = line.split()
        pairs = {step: cell.split("/") for step, cell in zip(STEPS, cells, strict=True) if cell != "-"}
        out[width, network, teacher] = {step: (float(mean), float(best)) for step, (mean, best) in pairs.items()}
    return out


TABLES = _read(_PAPER)
"""(Width, network, teacher) -> step -> (average, best) of the grid on test, in percent: Tables IV and V."""


def paper_number(side: Side) -> float | None:
    """The paper's number for a side, a share: the average for "mean", the best on test for "chosen"; None elsewhere."""
    found = TABLES.get((str(side.width), side.network, side.teacher), {}).get(side.step)
    if found is None or side.value not in ("mean", "best", "chosen"):
        return None
    return (found[0] if side.value == "mean" else found[1]) / 100
