"""The jobs of a study: one stem for both teachers, and pieces that end where the paper's tables look."""

from dataclasses import replace

import pytest

from onceforall.errors import UserError
from onceforall.studies.cells import Cell, cell_recipe, cells_in, last_phases, planned_phases, study_jobs
from onceforall.studies.ofav2 import NETWORKS, SCALES, SHARED, STEPS

TINY = SCALES["tiny"]
BOTH = [Cell("ee_dp_ofa_mbv3", 1.2, teacher, 3) for teacher in ("fixed", "previous_phase")]


def jobs_of(cells, folder, **more):
    return study_jobs(cells, folder, TINY, steps=STEPS, shared=SHARED, **more)


def test_the_recipe_of_a_cell():
    recipe = cell_recipe(BOTH[1], TINY, ["run.calibration_images=64"], None)
    assert recipe.network.name == "ee_dp_ofa_mbv3"
    assert recipe.network.width_mult == pytest.approx(0.25 * 1.2)
    assert recipe.schedule["teacher"] == "previous_phase"
    assert (recipe.run.seed, recipe.run.calibration_images) == (3, 64)
    for key in ("network.name=x", "network.width_mult=1", "schedule.teacher=fixed", "run.seed=1"):
        with pytest.raises(UserError, match="choose cells by its options"):
            cell_recipe(BOTH[0], TINY, [key], None)


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
def test_every_network_has_the_phases_of_table_iii(scale):
    numbers = {"full": 1, "kernel": 1, "level": 2, "height": 4, "depth": 2, "expand": 2}
    for network in NETWORKS:
        recipe = cell_recipe(Cell(network, 1.0, "fixed", 0), replace(scale, width_factor=0.1), [], None)
        phases = planned_phases(recipe)
        absent = set() if "p_ofa" in network else {"level"}
        absent |= set() if network.startswith("ee") else {"height"}
        expected = [
            name if count == 1 else f"{name}_{i + 1}"
            for name, count in numbers.items()
            if name not in absent
            for i in range(count)
        ]
        assert [phase.name for phase in phases] == expected
        total = {"tiny": 28, "small": 45}.get(scale.name)
        if total is None:  # Table III with its warm-up epochs
            total = {(True, True): 605, (False, True): 755, (True, False): 915, (False, False): 1065}[
                "level" in absent, "height" in absent
            ]
        assert sum(phase.total_epochs for phase in phases) == total


def test_teachers_share_a_stem(tmp_path):
    stem, *rest = jobs_of(BOTH, tmp_path)
    assert stem.folder.name == "ee_dp_ofa_mbv3-w1.2-stem-s3"
    assert [piece.phase for piece in stem.pieces] == ["full", "kernel"]
    assert stem.starts_from is None
    for job, cell in zip(rest, BOTH, strict=True):
        assert job.folder == tmp_path / cell.name
        assert job.starts_from == stem.folder
        assert [piece.phase for piece in job.pieces] == ["level_2", "height_4", "depth_2", "expand_2"]
        assert job.recipe["schedule"]["teacher"] == cell.teacher
        assert job.drawn == 24


def test_the_work_of_a_piece_is_that_of_its_phases(tmp_path):
    [stem, job] = jobs_of(BOTH[:1], tmp_path)
    phases = {phase.name: phase for phase in planned_phases(cell_recipe(BOTH[0], TINY, [], None))}
    work = {piece.phase: piece.work for piece in (*stem.pieces, *job.pieces)}
    assert work["full"] == phases["full"].total_epochs  # no teacher
    heights = sum(phases[f"height_{number}"].total_epochs for number in (1, 2, 3, 4))
    assert work["height_4"] == pytest.approx(1.4 * heights)


def test_a_folder_that_was_begun_needs_no_stem(tmp_path):
    (tmp_path / BOTH[0].name).mkdir()
    stem, begun, other = jobs_of(BOTH, tmp_path)
    assert (begun.starts_from, other.starts_from) == (None, stem.folder)
    (tmp_path / BOTH[1].name).mkdir()
    assert len(jobs_of(BOTH, tmp_path)) == 2


def test_a_schedule_without_later_phases_is_refused(tmp_path):
    settings = ["network.depths=[2]", "network.expand_ratios=[6]"]
    with pytest.raises(UserError, match="ofa_mbv3: its schedule needs phases of ER and EKS and some after them"):
        jobs_of([Cell("ofa_mbv3", 1.0, "fixed", 0)], tmp_path, overrides=settings)


def test_cells_are_found_again(tmp_path):
    for cell in (*BOTH, Cell("ofa_mbv3", 1.0, "stem", 0)):
        (tmp_path / cell.name).mkdir()
    (tmp_path / ".ofa_mbv3-w1.0-fixed-s0.part").mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "ofa_mbv3-w1.0-fixed-s7").write_text("a file")
    assert cells_in(tmp_path) == BOTH
    assert cells_in(tmp_path / "absent") == []


def test_the_last_phase_of_a_step():
    names = ["full", "kernel", "level", "height_1", "height_2", "expand_1"]
    assert last_phases(names, STEPS) == {
        "ER": "full",
        "EKS": "kernel",
        "EL": "level",
        "EH": "height_2",
        "EW": "expand_1",
    }
