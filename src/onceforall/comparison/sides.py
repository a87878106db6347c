"""What the folder of each run says: its costs, its curves, and in what the runs differ."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from onceforall.architecture import Architecture
from onceforall.data import ImageData
from onceforall.errors import UserError
from onceforall.runs import Run, open_run
from onceforall.search_space import SearchSpace
from onceforall.training.ledger import PARTS
from onceforall.training.records import METRICS, read_lines

__all__ = ["Side", "at_equal_time", "check_comparable", "differences", "equalities", "open_sides", "same_test_images"]

SPLITS = ("train", "validation", "test")
NEAR = 0.05 + 1e-9  # so much apart counts as equal


@final
@dataclass(frozen=True)
class Side:
    """One run of a comparison.

    Args:
        name: unique among the runs.
        run: opened.
        epochs: that were trained.
        ledger: its entries, of the phases that are complete.
        lines: of its metrics.
        space: what the phase of its weights trained.
    """

    name: str
    run: Run
    epochs: int
    ledger: Sequence[Mapping[str, Any]]
    lines: Sequence[Mapping[str, Any]]
    space: SearchSpace

    @property
    def single(self) -> Architecture | None:
        """The network of a run that holds one only, such as one trained by itself."""
        return self.space.largest() if self.space.size() == 1 else None

    def costs(self) -> dict[str, Any]:
        """Epochs, steps, images and multiply-adds, and seconds by what they were spent on, with their total."""
        parts = {part: sum(entry["seconds"].get(part, 0.0) for entry in self.ledger) for part in PARTS}
        counts = {name: sum(entry[name] for entry in self.ledger) for name in ("steps", "samples", "macs")}
        return {"epochs": self.epochs, **counts, "seconds": parts | {"total": sum(parts.values())}}

    def curves(self, metric: str) -> dict[str, Any]:
        """Losses and validations over steps, multiply-adds and seconds, and where phases begin.

        Within a phase multiply-adds and seconds are spread evenly over its steps; in one that is not complete they are
        unknown.
        """
        begun, starts = {}, []
        steps, macs, seconds = 0, 0, 0.0
        for entry in self.ledger:
            share, took = 1 / max(1, entry["steps"]), sum(entry["seconds"].values())
            begun[entry["phase"]] = (steps, (macs, entry["macs"] * share), (seconds, took * share))
            starts.append({"phase": entry["phase"], "step": steps, "macs": macs})
            steps, macs, seconds = steps + entry["steps"], macs + entry["macs"], seconds + took
        points = []
        for line in self.lines:
            if line["phase"] not in begun and line["phase"] not in [start["phase"] for start in starts]:
                starts.append({"phase": line["phase"], "step": points[-1]["step"] if points else 0, "macs": None})
            point = {"phase": line["phase"], "step": line["step"], "train_loss": line["train_loss"]}
            point |= {"macs": None, "seconds": None}
            if line["phase"] in begun:
                first, *amounts = begun[line["phase"]]
                for name, (before, each) in zip(("macs", "seconds"), amounts, strict=True):
                    point[name] = before + (line["step"] - first) * each
            scores = line.get("validation") or {}
            for kind in ("smallest", "largest"):
                point[kind] = (_of_kind(scores, kind) or {}).get(metric)
            points.append(point)
        return {"starts": starts, "points": points}


def _of_kind(scores: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The validation of the phase's smallest or largest; of a phase that trains the largest only, at full size."""
    return scores.get(kind) or next(
        (scores[name] for name in reversed(list(scores)) if name.startswith(f"{kind}_")), None
    )


def at_equal_time(curves: Mapping[str, Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """The last validated point of each run's curve that was reached after so many seconds; None where there is none."""
    out = {}
    for name, curve in curves.items():
        known = [point for point in curve["points"] if point["seconds"] is not None and point["largest"] is not None]
        reached = [point for point in known if point["seconds"] <= seconds * (1 + 1e-9)]
        out[name] = reached[-1] if reached else None
    return out


def open_sides(
    folders: Sequence[str | Path], data: str | Path | None = None, names: Sequence[str] | None = None
) -> list[Side]:
    """Open the runs, by default by the names of their folders.

    Raises `UserError` for one run only, the same one twice, and runs that cannot be compared.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2:
        raise UserError(f"{len(paths)} run: give at least two to compare.")
    places = [path.resolve() for path in paths]
    twice = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UserError(f"{twice[0]} is given twice; give different runs.")
    sides = []
    for path, name in zip(paths, names or _names(places), strict=True):
        run = open_run(path, data)
        lines = read_lines(path / METRICS)
        [phase] = [phase for phase in run.described["phases"] if phase["name"] == run.phase]
        sides.append(Side(name, run, len(lines), _ledger(path), lines, SearchSpace.from_dict(phase["space"])))
    check_comparable(sides)
    return sides


def check_comparable(sides: Sequence[Side]) -> None:
    """Raise `UserError` unless all runs have the same task and classes, and some images in common."""
    first = sides[0]
    for side in sides[1:]:
        if side.run.task.name != first.run.task.name:
            tasks = f"{first.run.task.name!r} and {side.run.task.name!r}"
            raise UserError(f"{first.name} and {side.name} have different tasks, {tasks}: they cannot be compared.")
        own, other = list(first.run.data.classes), list(side.run.data.classes)
        if own != other:
            shown = f"{len(own)} ({', '.join(own[:3])}...) and {len(other)} ({', '.join(other[:3])}...)"
            raise UserError(f"{first.name} and {side.name} have different classes, {shown}: they cannot be compared.")
        if not _files(first) & _files(side):
            names = f"{first.run.data.name!r} and {side.run.data.name!r}"
            raise UserError(f"{first.name} and {side.name} have no image in common, {names}: they cannot be compared.")


def _files(side: Side) -> set[str]:
    return {name for split in SPLITS for name in side.run.data.files(split)}


def _names(places: Sequence[Path]) -> list[str]:
    """Names of folders, with as many of the folders above as tell them apart."""
    for depth in range(1, max(len(place.parts) for place in places)):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return names


def _ledger(folder: Path) -> list[dict[str, Any]]:
    path = folder / "ledger.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error


# -- in what they differ ----------------------------------------------------------------------------------------------


def same_test_images(sides: Sequence[Side], split: str) -> bool:
    """Whether all runs have the same images in a split, in the same order, as far as names and labels tell."""

    def names_and_labels(side: Side) -> tuple[list[str], list[int]]:
        data = side.run.data
        return data.files(split), data.labels(split).tolist() if isinstance(data, ImageData) else []

    first, *others = map(names_and_labels, sides)
    return all(other == first for other in others)


def differences(sides: Sequence[Side], split: str, calibration_images: int | None = None) -> list[str]:
    """A line for each thing, other than the method, in which the runs differ, or that spoils the comparison."""
    out = [
        f"{side.name} is unfinished: measured after its phase {side.run.phase!r}; its time and multiply-adds are of "
        "complete phases only."
        for side in sides
        if not side.run.finished
    ]

    out += [
        f"{side.name} began with the weights of a trained network; what that one cost is not counted."
        for side in sides
        if "parent" in side.run.described["settings"] or side.run.recipe.network.weights
    ]

    def differ(what: str, value: Callable[[Side], Any], more: str = "") -> None:
        values = [value(side) for side in sides]
        if any(value != values[0] for value in values):
            shown = ", ".join(f"{side.name} {_short(value)}" for side, value in zip(sides, values, strict=True))
            out.append(f"the runs differ in {what}: {shown}.{more}")

    described = {side.name: side.run.described for side in sides}
    differ("data", lambda side: _facts(described[side.name]["data"], "name", "preparation", "augmentation"))
    if not all(same_test_images(sides, name) for name in SPLITS):
        paired = same_test_images(sides, split)
        more = "" if paired else " Test images differ, so intervals are not paired and wider."
        out.append(f"the runs differ in their split of the images.{more}")
    elif len({side.run.data.fingerprint for side in sides}) > 1:
        out.append("the runs differ in the content of their images or in their preparation.")
    differ("seed", lambda side: side.run.recipe.run.seed)
    differ("epochs", lambda side: side.epochs)
    if calibration_images is None:
        differ("calibration images", lambda side: side.run.recipe.run.calibration_images)
    differ("calibration rule", lambda side: side.run.recipe.run.calibration_rule)
    first = f" Costs of buckets are those of {sides[0].name}'s networks."
    differ("the class of their network", lambda side: described[side.name]["network"]["class"], first)
    options = [described[side.name]["network"]["options"] for side in sides]
    names = [name for name in options[0] if any(other.get(name) != options[0][name] for other in options)]
    differ("options of their networks", lambda side: _facts(described[side.name]["network"]["options"], *names), first)
    spaces = [side.space for side in sides if side.single is None]
    if any(space != spaces[0] for space in spaces):
        out.append("the runs differ in their search space: only what all of them trained is measured.")
    machine = ("cpu", "gpus", "torch", "torch_threads")
    more = " Compare multiply-adds rather than times."
    differ("machine", lambda side: _facts(described[side.name].get("environment", {}), *machine), more)
    differ("device", lambda side: [side.run.recipe.run.device, side.run.recipe.run.precision], more)
    if split == "validation":
        out.append("scores on validation images are too good: training kept the weights that were best on them.")
    return out


def _facts(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values.get(name) for name in names}


def _short(value: Any) -> str:
    text = json.dumps(value).replace('"', "")
    return text if len(text) <= 90 else f"{text[:87]}..."


def equalities(sides: Sequence[Side]) -> str:
    """At what the comparison is equal, within 5 % of the first run, and how far the rest is apart."""
    costs = [side.costs() for side in sides]
    amounts = {"epochs": [cost["epochs"] for cost in costs], "multiply-adds": [cost["macs"] for cost in costs]}
    amounts["time"] = [cost["seconds"]["total"] for cost in costs]
    equal, unequal = [], []
    for name, values in amounts.items():
        ratios = [value / values[0] if values[0] else math.nan for value in values]
        if all(abs(ratio - 1) <= NEAR for ratio in ratios):
            equal.append(name)
        else:
            shown = ", ".join(f"{side.name} {_times(r)}" for side, r in zip(sides[1:], ratios[1:], strict=True))
            unequal.append(f"{name} ({shown})")
    text = f"equal in {', '.join(equal)}" if equal else "equal in none of epochs, multiply-adds and time"
    return f"{text}; not in {', '.join(unequal)}." if unequal else f"{text}."


def _times(ratio: float) -> str:
    return "unknown" if math.isnan(ratio) else f"{ratio:.2f} times"
