"""A sub-network of a run is trained on as an ordinary network: a new run, by the schedule `fine_tuning`.

The images are the same or others; where they have other classes, the last layer is drawn anew.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from onceforall.architecture import Architecture
from onceforall.data import DataSet
from onceforall.data.splits import write_split_file
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import evaluate_each
from onceforall.evaluation.results import RESULTS, json_types
from onceforall.evaluation.tasks import Task
from onceforall.files import write_json
from onceforall.recipes import DataOptions, Recipe, build_data, build_phases, build_task, change_recipe
from onceforall.recipes.continuing import check_same_inputs, origin_of, prepared_alike
from onceforall.runs import Run, find_architecture, find_weights, is_finished, read_run
from onceforall.supernets.heads import with_classes
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network, read_info
from onceforall.training.loop import train
from onceforall.training.phases import Phase
from onceforall.training.records import SPLITS
from onceforall.training.rows import scale_epochs

__all__ = ["FineTuning", "compare_fine_tuning", "fine_tune", "on_all_data", "plan_fine_tuning"]

COMPARED = "fine_tuning.json"
ALL_DATA = "all-data.csv"
LENGTHS = ("epochs", "warmup_epochs", "validate_every")  # fields of a phase


@final
@dataclass(frozen=True)
class FineTuning:
    """What `plan_fine_tuning` found, ready to be trained.

    Args:
        parent: the folder of the run that the sub-network comes from.
        recipe: of the new run.
        data: its images or volumes.
        task: its losses and metric.
        supernet: the network of the parent.
        architecture: what is taken from it.
        head_is_new: whether its last layer is drawn anew.
        from_scratch: whether all of it is.
        phases: the schedule.
        origin: what the new run says of the parent.
    """

    parent: Path
    recipe: Recipe
    data: DataSet
    task: Task
    supernet: Supernet
    architecture: Architecture
    head_is_new: bool
    from_scratch: bool
    phases: list[Phase]
    origin: Mapping[str, Any]

    def network(self) -> Supernet:
        """The network with which training begins; a new one at each call."""
        network, seed = self.supernet.subnet(self.architecture), self.recipe.run.seed
        network = with_classes(network, self.data.num_classes, seed) if self.head_is_new else network
        return network.initialise(seed) if self.from_scratch else network


def plan_fine_tuning(
    parent: str | Path,
    architecture: str,
    changes: Sequence[str] = (),
    data: str | Path | None = None,
    *,
    num_classes: int | None = None,
    distill: bool = False,
    from_scratch: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> FineTuning:
    """Read a run and find out how a sub-network of it is fine-tuned; nothing is trained or written.

    Args:
        parent: its run directory.
        architecture: as `find_architecture` takes it.
        changes: `key=value` for the recipe, as `schedule.epochs=5`; the network's fields are the parent's.
        data: a folder with other images or volumes; by default those of the parent, in the same splits.
        num_classes: draws the last layer anew, as other classes do; must be the number that the data have.
        distill: let the largest sub-network of the parent teach; the classes must be the same.
        from_scratch: begin with untrained weights, to see what those of the parent are worth.
        progress: told of how far reading the data is.

    Raises `UserError` for an architecture that the parent has not, for data of another kind, and where the parent is a
    family and no data are given.
    """
    parent = Path(parent)
    described, recipe = read_run(parent)
    name, weights = find_weights(parent, described)
    supernet = load_network(weights)
    recipe = _recipe(recipe, described, parent, changes, data)
    if distill:
        recipe = replace(recipe, schedule={**recipe.schedule, "teacher": str(weights.resolve())})
    inputs = build_data(recipe, progress)
    if data is None:
        check_same_inputs(inputs, described, parent)
    head_is_new = num_classes is not None or list(inputs.classes) != described["data"]["classes"]
    _check_inputs(inputs, supernet, num_classes, distill and head_is_new)
    task = build_task(recipe, inputs)
    run = Run(parent, recipe, inputs, task, supernet, name, is_finished(parent), described)
    chosen = find_architecture(run, architecture)
    phases = build_phases(recipe, supernet.subnet(chosen), inputs.count("train"))
    origin = origin_of(parent, name, weights) | {"architecture": chosen.to_dict(), "from_scratch": from_scratch}
    return FineTuning(parent, recipe, inputs, task, supernet, chosen, head_is_new, from_scratch, phases, origin)


def fine_tune(plan: FineTuning, folder: str | Path, *, resume: bool = False) -> Supernet:
    """Train into `folder`, or go on with the run there; returns the network as `train` does."""
    if Path(folder).resolve() == plan.parent.resolve():
        raise UserError(f"{folder} is the run that the network comes from; choose another folder for the new one.")
    return train(
        plan.network(),
        plan.phases,
        plan.task,
        plan.data,
        run_dir=folder,
        options=plan.recipe.run,
        resume=resume,
        settings={"recipe": plan.recipe.to_dict(), "parent": dict(plan.origin)},
    )


def on_all_data(plan: FineTuning, folder: str | Path) -> FineTuning:
    """The second half of NATv2's recipe: from the same start, as many epochs as were best, on validation data too.

    The last phase has the epochs, warm-up included, that were best; phases before it are as long as they were.
    A run always has a validation split, so one image of each class (one volume, or all of its group) stays in it; it
    chooses nothing, for only the last epoch is validated.

    Args:
        plan: what was trained into `folder`.
        folder: a finished run, whose validation found the best epoch.
    """
    folder = Path(folder)
    described, _ = read_run(folder)
    if not is_finished(folder):
        raise UserError(f"{folder} has not been trained to the end; go on with it by --resume.")
    _, weights = find_weights(folder, described)
    phases = [*plan.phases[:-1], *scale_epochs(plan.phases[-1:], int(read_info(weights)["epoch"]))]
    phases = [replace(phase, validate_every=max(each.total_epochs for each in phases)) for phase in phases]
    schedule = {**plan.recipe.schedule, "total_epochs": None, "total_macs": None}
    changes = {**plan.recipe.phases}
    for phase in phases:
        changes[phase.name] = {**changes.get(phase.name, {}), **{name: getattr(phase, name) for name in LENGTHS}}
    data = replace(plan.recipe.data, split_csv=str(_mostly_for_training(folder).resolve()))
    recipe = replace(plan.recipe, data=data, schedule=schedule, phases=changes)
    inputs = build_data(recipe)
    origin = {**plan.origin, "epochs_from": str(folder.resolve())}
    return replace(plan, recipe=recipe, data=inputs, task=build_task(recipe, inputs), phases=phases, origin=origin)


def compare_fine_tuning(plan: FineTuning, folder: str | Path) -> dict[str, Any]:
    """Measure the network before and after, on validation and test; written to the results of `folder`, and returned.

    Both are calibrated on the training data of the new run. "before" is None where nothing could be known before: a
    head that is new, or no trained weights.
    """
    folder = Path(folder)
    described, _ = read_run(folder)
    _, weights = find_weights(folder, described)
    known = not (plan.head_is_new or plan.from_scratch)
    contents = {
        "architecture": plan.architecture.to_dict(),
        "metric": plan.task.metric,
        "higher_is_better": plan.task.higher_is_better,
        "inputs": {split: plan.data.count(split) for split in ("validation", "test") if plan.data.count(split)},
        "before": _scores(plan, plan.network()) if known else None,
        "after": _scores(plan, load_network(weights)),
    }
    contents = json_types(contents)
    write_json(folder / RESULTS / COMPARED, contents)
    return contents


def _scores(plan: FineTuning, network: Supernet) -> dict[str, dict[str, float]]:
    """Metrics by split."""
    options = plan.recipe.run
    found = evaluate_each(
        network,
        [plan.architecture],
        plan.task,
        plan.data,
        splits=[split for split in ("validation", "test") if plan.data.count(split)],
        calibration_images=options.calibration_images,
        calibration_rule=options.calibration_rule,
        seed=options.seed,
    )
    return {evaluation.split: evaluation.metrics for evaluation in found}


# -- the new run ----------------------------------------------------------------------------------------------------


def _recipe(
    recipe: Recipe, described: Mapping[str, Any], parent: Path, changes: Sequence[str], data: str | Path | None
) -> Recipe:
    """The recipe of the new run: prepared as before, known files in their splits, no phase of the old schedule."""
    splits = parent / SPLITS
    if data is None and not splits.is_file():
        raise UserError(f"{parent} has no {SPLITS}: a family tells nothing of its data; give some by --data.")
    kept = str(splits.resolve()) if splits.is_file() else None
    options = replace(prepared_alike(recipe.data, described["data"]["preparation"]), split_csv=kept)
    base = replace(
        recipe,
        name="fine-tuning",
        data=options if data is None else _other_data(options, Path(data), parent),
        schedule={"name": "fine_tuning", "batch_size": described["phases"][-1]["batch_size"]},
        phases={},
        run=replace(recipe.run, max_minutes=None),
    )
    made = change_recipe(base, changes)
    if made.network != base.network:
        raise UserError("--set network...: the network that is fine-tuned is that of the run; give its architecture.")
    return made


def _other_data(options: DataOptions, path: Path, parent: Path) -> DataOptions:
    """Options for other data, which are prepared alike; what only chose among the old ones is dropped."""
    if not path.is_dir():
        raise UserError(f"--data {path}: there is no such folder.")
    volumes = (path / "imagesTr").is_dir()
    if volumes != (options.kind == "volumes"):
        kinds = ("volumes", "images") if volumes else ("images", "volumes")
        raise UserError(f"{path} holds {kinds[0]}, and {parent} was trained on {kinds[1]}; give data of the same kind.")
    chosen = ("classes", "image_size", "group_pattern", "group_csv", "group_column")
    chosen += ("train_per_class", "validation_per_class", "rest_to_test")
    usual = {name: getattr(DataOptions(), name) for name in chosen}
    of_volumes = replace(options.volumes, subjects=None)
    return replace(options, path=str(path), kind="volumes" if volumes else "auto", volumes=of_volumes, **usual)


def _check_inputs(inputs: DataSet, supernet: Supernet, num_classes: int | None, untaught: bool) -> None:
    if inputs.channels != (channels := supernet.options["in_channels"]):
        raise UserError(f"the {inputs.inputs} have {inputs.channels} channels; the network takes {channels}.")
    if num_classes not in (None, inputs.num_classes):
        raise UserError(f"--num-classes {num_classes}: the {inputs.inputs} have {inputs.num_classes}.")
    if untaught:
        raise UserError("--distill: the largest of the run knows other classes; leave it out.")


def _mostly_for_training(folder: Path) -> Path:
    """Write a split table in which all but a little of the validation data of a run is for training."""
    with (folder / SPLITS).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    held = {row.get("class"): row for row in reversed(rows) if row["split"] == "validation"}.values()
    kept = {row.get("group") or row["file"] for row in held}
    for row in rows:
        if row["split"] == "validation" and (row.get("group") or row["file"]) not in kept:
            row["split"] = "train"

    def column(name: str) -> list[str] | None:
        return [row[name] for row in rows] if name in rows[0] else None

    files, splits = [row["file"] for row in rows], [row["split"] for row in rows]
    write_split_file(folder / ALL_DATA, files, column("class"), splits, column("group"), column("digest"))
    return folder / ALL_DATA
