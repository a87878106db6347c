"""The recipes that ship: what each promises in words is what it holds. Two steps of each run in test_recipes."""

import pytest

from onceforall.recipes import RECIPES, build_phases, build_supernet, make_recipe
from onceforall.recipes.shipped import PROX_TASK


class Classes:
    """In place of images: what a network needs to know of them."""

    num_classes, channels = 2, 1


def phases_of(name, *overrides):
    recipe = make_recipe(name, overrides)
    return build_phases(recipe, build_supernet(recipe, Classes()))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_name_under_which_it_stands(name):
    assert make_recipe(name).name == name
    phases = phases_of(name)
    total = make_recipe(name).schedule.get("total_epochs")
    assert total is None or sum(phase.total_epochs for phase in phases) == total


def test_the_numbers_of_the_papers():
    full, *_, last = phases_of("imagenet-ps")
    assert (full.epochs, full.learning_rate, full.batch_size, last.subnets_per_step) == (180, 2.6, 2048, 4)
    full, *_, last = phases_of("tiny-imagenet-eps")
    assert (full.epochs, full.learning_rate, full.batch_size, last.subnets_per_step) == (180, 1e-3, 200, 4)
    assert len(phases_of("tiny-imagenet-eps", "network.name=ofa_mbv3")) == 6
    for name, count in (("images-prox-mr", 7), ("images-prox-ir", 9), ("oct-prox-mr", 7), ("oct-prox-ir", 9)):
        assert len(phases_of(name)) == count and make_recipe(name).task == PROX_TASK


def test_retinal_oct_as_in_the_paper():
    for name, epochs in (("oct-prox-mr", 70), ("oct-prox-ir", 90), ("oct-ps", 70)):
        recipe, phases = make_recipe(name), phases_of(name)
        assert sum(phase.total_epochs for phase in phases) == epochs and recipe.task.distance == "mse"
        assert recipe.network.resolutions == (160, 192, 224) and recipe.data.kind == "retinal_oct"
        for phase in phases:
            assert (phase.optimizer, phase.learning_rate, phase.decay, phase.batch_size) == (
                "adam",
                5e-4,
                "constant",
                384,
            )
            assert (phase.task_weight, phase.distillation_weight, phase.weight_decay) == (0.5, 0.5, 0.0)
    assert [phase.space.resolutions for phase in phases_of("oct-prox-ir")][-3:] == [(160,), (160, 192), (160, 192, 224)]
    assert {phase.space.resolutions for phase in phases_of("oct-prox-mr") + phases_of("oct-ps")} == {(160, 192, 224)}
    assert [phase.teacher.source for phase in phases_of("oct-ps")] == ["none", *["first"] * 5]
