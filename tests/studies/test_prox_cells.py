"""Recipes of the runs: the methods train the same space for as many epochs; single networks have one choice each."""

import json

import pytest

from onceforall.errors import UserError
from onceforall.recipes import make_recipe
from onceforall.recipes.building import stored_box
from onceforall.search_space import SearchSpace
from onceforall.studies.cells import planned_phases, planned_supernet
from onceforall.studies.prox import METHODS, SCALES, SINGLES
from onceforall.studies.prox_cells import ProxCell, finished_cells, parse_places, prox_job, prox_recipe

RUNS = [run for runs in METHODS.values() for run in runs]
PLACES = {"images": "/photos", "oct": "/scans", "hippocampus": "/heads", "brats": "/heads"}


def recipe_of(run, scale="small", data="images", overrides=(), seed=0):
    return prox_recipe(ProxCell(data, run, seed), SCALES[scale], overrides, PLACES)


@pytest.mark.parametrize(
    ("scale", "data", "epochs"), [("tiny", "digits", 6), ("small", "images", 28), ("small", "oct", 28)]
)
def test_methods_differ_in_nothing_but_the_method(scale, data, epochs):
    spaces = []
    for run in RUNS:
        recipe = recipe_of(run, scale, data)
        phases = planned_phases(recipe)
        assert sum(phase.total_epochs for phase in phases) == epochs
        assert all(phase.subnets_per_step == 1 for phase in phases)
        assert (recipe.network.name, recipe.network.width_mult) == ("prox_mobilenet", 0.25)
        assert recipe.data.path == PLACES.get(data)
        if run not in SINGLES:
            spaces.append(phases[-1].space)
    assert all(space == spaces[0] for space in spaces)
    assert [phase.name for phase in planned_phases(recipe_of("sandwich"))] == ["sandwich"]
    ps, mr, ir = (planned_phases(recipe_of(run)) for run in ("ps", "prox-mr", "prox-ir"))
    assert (ps[0].name, mr[0].name, len(mr[0].space.resolutions), len(ir[0].space.resolutions)) == (
        "full",
        "smallest",
        3,
        1,
    )


def test_the_paper_scale_is_the_recipes_as_they_are():
    for run, name in (("ps", "oct-ps"), ("prox-mr", "oct-prox-mr"), ("prox-ir", "oct-prox-ir")):
        assert recipe_of(run, "paper", "oct") == make_recipe(name, [], "/scans")
    for data in ("hippocampus", "brats"):
        assert recipe_of("prox-ir", "paper", data) == make_recipe(f"{data}-prox-ir", [], "/heads")
    sandwich = recipe_of("sandwich", "paper", "oct")
    assert sandwich.phases == make_recipe("oct-ps").phases and sandwich.schedule["total_epochs"] == 70
    assert recipe_of("single-largest", "paper", "oct").data.image_size == 224  # nothing is cropped


@pytest.mark.parametrize(
    ("run", "choices"),
    [("single-smallest", (1, 3, 3, 48)), ("single-middle", (2, 4, 5, 56)), ("single-largest", (3, 6, 7, 64))],
)
def test_a_single_network_is_one_of_the_family(run, choices):
    recipe = recipe_of(run)
    [phase] = planned_phases(recipe)
    depth, ratio, kernel_size, resolution = choices
    space = planned_supernet(recipe_of("ps")).space
    expected = space.uniform(depth=depth, expand_ratio=ratio, kernel_size=kernel_size, resolution=resolution)
    assert phase.space == SearchSpace.only(expected)
    assert recipe.data.image_size == 64  # what the others store for their largest resolution
    assert planned_supernet(recipe).measure(expected) == planned_supernet(recipe_of("ps")).measure(expected)


def test_the_middle_of_two_choices_is_one_and_the_other_by_turns():
    space = planned_phases(recipe_of("single-middle", "small", "hippocampus"))[0].space
    assert (space.depths, space.widths, space.kernel_sizes, space.resolutions) == ((1,), (1.0,), (5,), ((40, 56, 40),))


@pytest.mark.parametrize(
    ("scale", "data", "epochs"), [("tiny", "hippocampus", 4), ("tiny", "brats", 4), ("small", "hippocampus", 24)]
)
def test_methods_on_volumes_differ_in_nothing_but_the_method(scale, data, epochs):
    recipes = {run: recipe_of(run, scale, data) for run in RUNS}
    phases = {run: planned_phases(recipe) for run, recipe in recipes.items()}
    family = [run for run in RUNS if run not in SINGLES]
    for run in RUNS:
        assert sum(phase.total_epochs for phase in phases[run]) == epochs
        assert {(p.optimizer, p.learning_rate, p.batch_size, p.decay) for p in phases[run]} == {
            (p.optimizer, p.learning_rate, p.batch_size, p.decay) for p in phases["prox-mr"]
        } or run == "sandwich"  # it has the rate of its function unless its recipe names one
        assert recipes[run].data.path == "/heads" and recipes[run].network.poolings == recipes["ps"].network.poolings
        assert stored_box(recipes[run]) == stored_box(recipes["ps"])
        assert recipes[run].task == recipes["ps"].task and all(phase.subnets_per_step == 1 for phase in phases[run])
    assert all(phases[run][-1].space == phases["ps"][-1].space for run in family)
    assert scale != "small" or {phase.total_epochs for phase in phases["ps"]} == {6}
    space, network = phases["ps"][-1].space, planned_supernet(recipes["ps"])
    for run, width, kernel_size, place in (("single-smallest", 0.5, 3, 0), ("single-largest", 1.0, 5, -1)):
        depth, resolution = space.depths[place], space.resolutions[place]
        one = space.uniform(depth=depth, width=width, kernel_size=kernel_size, resolution=resolution)
        assert phases[run][-1].space == SearchSpace.only(one)
        assert planned_supernet(recipes[run]).measure(one) == network.measure(one)


def test_overrides_reach_every_run_but_not_what_makes_it_one():
    assert recipe_of("single-largest", overrides=["network.kernel_sizes=[3,5]"]).network.kernel_sizes == (5,)
    assert recipe_of("prox-ir", overrides=["run.calibration_images=99"], seed=3).run.seed == 3
    for key in ("network.name=ofa_mbv3", "schedule.mode=mixed", "run.seed=1", "data.path=x"):
        with pytest.raises(UserError, match="choose runs by its options"):
            recipe_of("ps", overrides=[key])


def test_the_job_of_a_run(tmp_path):
    ps, mr, smallest = (
        prox_job(ProxCell("images", run, 1), tmp_path, SCALES["small"], overrides=[], places=PLACES)
        for run in ("ps", "prox-mr", "single-smallest")
    )
    assert (ps.folder.name, mr.folder.name) == ("images-ps-s1", "images-prox-mr-s1")
    assert [piece.phase for piece in (*ps.pieces, *mr.pieces, *smallest.pieces)] == ["expand_2", "kernel_2", "full"]
    assert (mr.measures, mr.drawn, mr.starts_from) == ("drawn", 60, None)
    assert 0.3 < mr.pieces[0].work / ps.pieces[0].work < 0.45  # about 0.38 was measured with these settings
    assert smallest.pieces[0].work < 0.2 * ps.pieces[0].work


def test_places():
    assert parse_places(["oct=a", "images=b=c"]) == {"oct": "a", "images": "b=c"}
    for text in ("photos", "oct=", "scans=a"):
        with pytest.raises(UserError, match="NAME is one of oct, hippocampus, brats, images"):
            parse_places([text])
    with pytest.raises(UserError, match="built in"):
        parse_places(["digits=a"])


def test_finished_runs_are_found_in_the_order_of_the_tables(tmp_path):
    cells = [ProxCell("oct", "ps", 0), ProxCell("oct", "prox-mr", 0), ProxCell("oct", "ps", 10)]
    cells.append(ProxCell("images", "single-middle", 0))
    for cell in reversed([*cells, ProxCell("oct", "sandwich", 0), ProxCell("oct", "prox-ir", 0)]):
        run = tmp_path / cell.name
        (run / "results").mkdir(parents=True)
        (run / "checkpoints").mkdir()
        (run / "run.json").write_text(json.dumps({"phases": [{"name": "a"}, {"name": "b"}]}))
        last = "1-a-last" if cell.run == "prox-ir" else "2-b-last"  # that one is not finished
        (run / "checkpoints" / f"{last}.safetensors").write_text("")
        if cell.run != "sandwich":  # that one is not measured
            (run / "results" / "test.json").write_text("{}")
    (tmp_path / "comparison-oct-s0" / "results").mkdir(parents=True)
    (tmp_path / "comparison-oct-s0" / "results" / "test.json").write_text("{}")
    assert finished_cells(tmp_path) == cells
    assert finished_cells(tmp_path / "absent") == []
