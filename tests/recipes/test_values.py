"""Recipes as values."""

import json

import pytest

from onceforall.recipes import RECIPES, make_recipe, recipe_from_dict


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    recipe = make_recipe(name)
    assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
