"""Recipes: everything a run needs, as one typed value, and functions that return the ones that ship.

A recipe is changed by `key=value` overrides. A misspelt key is an error that names the nearest one; nothing is
ignored.
"""

from onceforall.recipes.building import (
    build_data,
    build_phases,
    build_supernet,
    build_task,
    reading_options,
    starting_weights,
)
from onceforall.recipes.making import change_recipe, make_recipe, recipe_from_dict
from onceforall.recipes.shipped import RECIPES
from onceforall.recipes.values import DataOptions, NetworkOptions, Recipe, TaskOptions

__all__ = [
    "RECIPES",
    "DataOptions",
    "NetworkOptions",
    "Recipe",
    "TaskOptions",
    "build_data",
    "build_phases",
    "build_supernet",
    "build_task",
    "change_recipe",
    "make_recipe",
    "reading_options",
    "recipe_from_dict",
    "starting_weights",
]
