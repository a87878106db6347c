"""What runs that begin with the weights of another have in common: its preparation, its splits, its name."""

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onceforall.data import DataSet
from onceforall.errors import UserError
from onceforall.recipes.values import DataOptions
from onceforall.training.records import SPLITS

__all__ = ["check_same_inputs", "origin_of", "prepared_alike"]


def origin_of(parent: Path, phase: str, weights: Path) -> dict[str, str]:
    """What a run says of the one that it began with: folder, phase, file of the weights and its SHA-256."""
    fingerprint = hashlib.sha256(weights.read_bytes()).hexdigest()
    return {"folder": str(parent.resolve()), "phase": phase, "weights": weights.name, "sha256": fingerprint}


def prepared_alike(options: DataOptions, prepared: Mapping[str, Any]) -> DataOptions:
    """Options with which images or volumes become what they were, given their preparation as JSON types.

    Volumes that fill the middle of a box keep it, so that a resolution means what it meant; stretched ones may get a
    larger one.
    """
    if options.kind != "volumes":
        mean, std = tuple(prepared["mean"]), tuple(prepared["std"])
        return replace(options, channels=prepared["channels"], mean=mean, std=std)
    box, spacing = (None if prepared[key] is None else tuple(prepared[key]) for key in ("box", "spacing"))
    kept = options.volumes.box if prepared["fit"] == "stretch" else box
    return replace(options, volumes=replace(options.volumes, box=kept, spacing=spacing))


def check_same_inputs(data: DataSet, described: Mapping[str, Any], parent: Path) -> None:
    """Raise `UserError` unless `data` are the images or volumes of a run, given what its run.json says."""
    with (parent / SPLITS).open(newline="", encoding="utf-8") as stream:
        known = {row["file"] for row in csv.DictReader(stream)}
    if known != {file for split in described["data"]["counts"] for file in data.files(split)}:
        raise UserError(
            f"the {data.inputs} of {parent} are not those that it was trained on; to go on with them as they are "
            f"now, give their folder by --data."
        )
