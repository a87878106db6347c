"""Recipes by name, changed by overrides."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from onceforall.data import Augmentation, VolumeAugmentation
from onceforall.errors import UserError, check_choice, suggestion
from onceforall.recipes.shipped import RECIPES
from onceforall.recipes.values import DataOptions, NetworkOptions, Recipe, TaskOptions, VolumeFields
from onceforall.training.options import RunOptions

__all__ = ["change_recipe", "make_recipe", "recipe_from_dict"]


def make_recipe(name: str, overrides: Sequence[str] = (), data: str | Path | None = None) -> Recipe:
    """The recipe `name` with `key=value` overrides, and with `data` as the path of its images, which is made absolute.

    Keys are dotted (`network.width_mult=0.5`, `phases.kernel.learning_rate=0.01`, `phases.all.batch_size=32`). A value
    is read as YAML, but for fields of text, which take it as it stands; `null` is none in both.
    Raises `UserError` for an unknown recipe or key and for a value of a wrong type.
    """
    check_choice("recipe", name, RECIPES)
    recipe = RECIPES[name]()
    if data is not None:
        kind = "auto" if recipe.data.kind == "digits" else recipe.data.kind
        path = str(Path(data).expanduser().absolute())  # the run can be opened from another folder
        recipe = replace(recipe, data=replace(recipe.data, path=path, kind=kind))
    return _merge(recipe, overrides)


def change_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """`recipe` with `key=value` overrides, as `make_recipe` takes them."""
    return _merge(recipe, overrides)


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """The inverse of `Recipe.to_dict`."""
    if not isinstance(data.get("name"), str):
        raise UserError("a recipe needs a name.")
    return _merge(Recipe(data["name"]), [], data)


def _merge(recipe: Recipe, overrides: Sequence[str], values: Mapping[str, Any] | None = None) -> Recipe:
    changes = [_change(recipe, text) for text in overrides]
    base = OmegaConf.structured(recipe)
    try:
        merged = OmegaConf.merge(base, OmegaConf.create(dict(values or {})), *changes)
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        keys = _types(recipe)
        reason = str(error).splitlines()[0]
        if "$VALUE" in reason:  # its message was not filled in
            reason = f"a value of a wrong type in {' '.join(overrides)}"
        wrong = str(error.full_key or "")
        near = suggestion(wrong, list(keys)) if "not in" in reason else ""
        allowed = f" Allowed: {', '.join(keys)}." if "not in" in reason else ""
        raise UserError(f"recipe {recipe.name!r}, key {wrong!r}: {reason}.{near}{allowed}") from error
    assert isinstance(result, Recipe)
    return result


def _change(recipe: Recipe, text: str) -> DictConfig:
    """What one `key=value` says."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text!r}: give it as key=value, for example network.width_mult=0.5.")
    if "${" in text:
        raise UserError(f"--set {text!r}: references with '${{' are not allowed.")
    try:
        if _types(recipe).get(key) in (str, str | None):  # a pattern or a path is no YAML
            change = OmegaConf.create({})
            OmegaConf.update(change, key, None if value == "null" else value)
            return change
        return OmegaConf.from_dotlist([text])
    except YAMLError as error:
        raise UserError(f"--set {text!r}: the value is not YAML; lists are [1,2], texts 'in quotes'.") from error


def _types(value: Any, prefix: str = "") -> dict[str, Any]:
    """Types of all fields of nested dataclasses, by dotted names."""
    out: dict[str, Any] = {}
    for entry in fields(value):
        inner = getattr(value, entry.name)
        name = f"{prefix}{entry.name}"
        out |= _types(inner, f"{name}.") if isinstance(inner, _NESTED) else {name: entry.type}
    return out


_NESTED = (NetworkOptions, DataOptions, VolumeFields, TaskOptions, RunOptions, Augmentation, VolumeAugmentation)
