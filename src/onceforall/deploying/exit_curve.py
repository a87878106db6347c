"""What early exits of a run's network are worth: accuracy against mean multiply-adds, and against single exits.

Thresholds and competitors are chosen on the validation split and measured on the test split. The competitors are
networks with one exit that cost, for every image, no more than the policy does on average: each exit of the same
network alone, and what the run's evaluations measured.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from onceforall.architecture import Architecture
from onceforall.data import ImageData
from onceforall.deploying.exit_chain import Segment, segments_of, time_segments
from onceforall.deploying.exit_thresholds import (
    ExitAnswers,
    ExitCosts,
    ExitPolicy,
    Outcome,
    common_policies,
    exit_front,
    outcome_of,
)
from onceforall.errors import UserError
from onceforall.evaluation.engines import installed_backends
from onceforall.evaluation.evaluate import calibrated_subnet
from onceforall.evaluation.metrics import paired_bootstrap
from onceforall.evaluation.pareto import BLUE, GREY, ORANGE, blank_figure, save
from onceforall.evaluation.results import RESULTS, json_types
from onceforall.exporting.inputs import plain_copy
from onceforall.files import write_json, write_text
from onceforall.runs import Run, measure
from onceforall.supernets.supernet import Supernet

__all__ = [
    "CurvePoint",
    "MeasuredExits",
    "curve_point",
    "exit_curve",
    "measure_exits",
    "point_row",
    "single_rows",
    "with_all_exits",
    "write_curve",
]

Rival = tuple[Architecture, int, float]
"""A network of one exit, its multiply-adds, its accuracy on validation."""

BATCH = 128
COMPARED = 8  # points of the curve that are compared with networks of one exit


@final
@dataclass(frozen=True)
class MeasuredExits:
    """A calibrated network with all its exits, and what they answer.

    Args:
        net: the sub-network, in evaluation mode.
        architecture: which one.
        costs: of its exits.
        validation, test: answers on these splits.
    """

    net: Supernet
    architecture: Architecture
    costs: ExitCosts
    validation: ExitAnswers
    test: ExitAnswers


@final
@dataclass(frozen=True)
class CurvePoint:
    """A policy, chosen on validation, and what it does on both splits.

    Args:
        policy: exits and thresholds.
        validation, test: its outcomes.
        latency_ms: mean time of a test image, from the times of the parts; None where they were not measured.
        rival: the most accurate network of one exit, on validation, that costs no more; None where none does, or where
            this point was not compared.
        rival_macs: what it costs.
        rival_accuracy: its accuracy on test.
        gain: 95 % interval for the accuracy of the policy minus that of the rival, on the same test images.
    """

    policy: ExitPolicy
    validation: Outcome
    test: Outcome
    latency_ms: float | None = None
    rival: Architecture | None = None
    rival_macs: int | None = None
    rival_accuracy: float | None = None
    gain: tuple[float, float] | None = None


def with_all_exits(run: Run, architecture: Architecture) -> Architecture:
    """`architecture` with every exit that the run's network has behind its stages; as it is where it has several.

    Raises `UserError` where that is one, and for another task than classification.
    """
    if not isinstance(run.data, ImageData):
        raise UserError("early exits are for classification; this run segments volumes.")
    if len(architecture.exits) > 1:
        return architecture
    exits = tuple(number for number in run.supernet.space.exits if number <= architecture.height)
    if len(exits) < 2:
        raise UserError(
            f"architecture {architecture}: it has one exit; early exits need a network such as ee_d_ofa_mbv3 and an "
            "architecture of height 2 or more, for example 'largest'."
        )
    return replace(architecture, exits=exits)


def measure_exits(run: Run, architecture: Architecture) -> MeasuredExits:
    """Extract and calibrate a network with several exits, and let all of them answer to validation and test."""
    settings = run.recipe.run
    how = {"images": settings.calibration_images, "rule": settings.calibration_rule, "seed": settings.seed}
    net = calibrated_subnet(run.supernet, architecture, run.data, **how)
    answers = {split: _answers(net, architecture, run, split) for split in ("validation", "test")}
    return MeasuredExits(net, architecture, _costs(run.supernet, architecture), **answers)


@torch.inference_mode()
def _answers(net: Supernet, architecture: Architecture, run: Run, split: str) -> ExitAnswers:
    if not run.data.count(split):
        raise UserError(f"split {split!r} has no images: early exits are tuned on validation and measured on test.")
    confidence, correct = [], []
    for images, labels in run.data.batches(split, architecture.resolution, BATCH):
        probabilities = torch.stack([logits.softmax(1) for logits in net(images)])  # (exits, batch, classes)
        confidence.append(probabilities.amax(2))
        correct.append(probabilities.argmax(2) == labels)
    return ExitAnswers(architecture.exits, torch.cat(confidence, 1).numpy(), torch.cat(correct, 1).numpy())


def _costs(supernet: Supernet, architecture: Architecture) -> ExitCosts:
    """From the costs of the network's beginnings, and of the whole with one exit more."""
    *early, last = architecture.exits

    def macs(height: int, exits: tuple[int, ...]) -> int:
        return supernet.measure(replace(architecture, stages=architecture.stages[:height], exits=exits)).macs

    heads = [macs(last, (number, last)) - macs(last, (last,)) for number in early] + [0]
    alone = [macs(number, (number,)) for number in architecture.exits]
    return ExitCosts(tuple(a - head for a, head in zip(alone, heads, strict=True)), tuple(heads))


# -- the curve ----------------------------------------------------------------------------------------------------


def exit_curve(run: Run, measured: MeasuredExits) -> list[CurvePoint]:
    """The policies on the front of validation, the cheapest first; a few are compared with networks of one exit.

    With onnxruntime each point also has the mean time of an image.
    """
    policies = exit_front(measured.validation, measured.costs)
    chosen = set(np.linspace(0, len(policies) - 1, min(COMPARED, len(policies))).round().astype(int).tolist())
    rivals = _rivals(run, measured.architecture)
    points = [curve_point(run, measured, policy, rivals if i in chosen else ()) for i, policy in enumerate(policies)]
    if "onnxruntime" not in installed_backends():
        return points
    times = time_segments(
        plain_copy(measured.net)[0], [part for point in points for part in segments_of(point.policy.exits)]
    )
    return [replace(point, latency_ms=_mean_time(point, times)) for point in points]


def _mean_time(point: CurvePoint, times: Mapping[Segment, float]) -> float:
    """Of a test image: the time of each part, times the share of the images that get there."""
    reached = 1 - np.cumsum([0.0, *point.test.shares[:-1]])
    return float(sum(share * times[part] for share, part in zip(reached, segments_of(point.policy.exits), strict=True)))


def curve_point(
    run: Run, measured: MeasuredExits, policy: ExitPolicy, rivals: Sequence[Rival] | None = None
) -> CurvePoint:
    """What a policy does, beside the best of `rivals` that costs no more; by default beside all that are known."""
    rivals = _rivals(run, measured.architecture) if rivals is None else rivals
    validation, test = (outcome_of(policy, answers, measured.costs) for answers in (measured.validation, measured.test))
    fitting = [rival for rival in rivals if rival[1] <= validation.macs]
    if not fitting:
        return CurvePoint(policy, validation, test)
    architecture, macs, _ = max(fitting, key=lambda rival: (rival[2], -rival[1]))
    found = measure(run, [architecture], ["test"], run.recipe.run.calibration_images, (), None)
    correct = found[architecture, "test"].correct
    assert correct is not None
    gain = paired_bootstrap(test.correct, correct)
    accuracy = float(correct.mean())
    return CurvePoint(policy, validation, test, None, architecture, macs, accuracy, gain)


def _rivals(run: Run, architecture: Architecture) -> list[Rival]:
    """Networks with one exit, what they cost, and their accuracy on validation."""
    known = [Architecture.from_dict(row["architecture"]) for row in _evaluated(run)]
    space = run.supernet.space
    known += [
        replace(architecture, stages=architecture.stages[:number], exits=(number,)) for number in architecture.exits
    ]
    single = [each for each in dict.fromkeys(known) if len(each.exits) == 1 and each in space]
    found = measure(run, single, ["validation"], run.recipe.run.calibration_images, (), None)
    return [(each, run.supernet.measure(each).macs, found[each, "validation"].metrics["accuracy"]) for each in single]


def _evaluated(run: Run) -> list[Mapping[str, Any]]:
    """Rows of what was evaluated on validation with the weights of this phase."""
    rows: list[Mapping[str, Any]] = []
    for path, key in ((Path("validation.json"), "facts"), (Path("grids") / f"{run.phase}.json", "phase")):
        file = run.folder / RESULTS / path
        if file.is_file():
            contents = json.loads(file.read_text())
            of = contents[key]["phase"] if key == "facts" else contents[key]
            rows += contents["rows"] if of == run.phase else []
    return rows


# -- telling it ---------------------------------------------------------------------------------------------------


def write_curve(measured: MeasuredExits, points: Sequence[CurvePoint], folder: Path) -> list[Path]:
    """Write `curve.csv`, `curve.json` and, with matplotlib, `curve.png` and `curve.svg`; what was written."""
    rows = [point_row(point) for point in points]
    contents = {
        "architecture": measured.architecture.to_dict(),
        "exits": single_rows(measured),
        "points": rows,
        "images": {"validation": measured.validation.images, "test": measured.test.images},
    }
    write_json(folder / "curve.json", json_types(contents))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}
        for row in rows
    )
    write_text(folder / "curve.csv", out.getvalue())
    files = [folder / "curve.csv", folder / "curve.json"]
    try:
        return [*files, *_draw(measured, points, folder / "curve")]
    except ImportError:
        return files


def single_rows(measured: MeasuredExits) -> list[dict[str, Any]]:
    """Each exit of the network alone."""
    rows = []
    for number in measured.architecture.exits:
        policy = ExitPolicy((number,), ())
        on = {name: outcome_of(policy, getattr(measured, name), measured.costs) for name in ("validation", "test")}
        rows.append({"exit": number, "macs": round(on["test"].macs)} | {n: on[n].accuracy for n in on})
    return rows


def point_row(point: CurvePoint) -> dict[str, Any]:
    """A point as JSON types."""
    return {
        "exits": list(point.policy.exits),
        "thresholds": [round(threshold, 6) for threshold in point.policy.thresholds],
        "validation_accuracy": point.validation.accuracy,
        "validation_macs": point.validation.macs,
        "test_accuracy": point.test.accuracy,
        "test_macs": point.test.macs,
        "test_shares": list(point.test.shares),
        "latency_ms": point.latency_ms,
        "rival": None if point.rival is None else point.rival.to_dict(),
        "rival_macs": point.rival_macs,
        "rival_test_accuracy": point.rival_accuracy,
        "gain_low": None if point.gain is None else point.gain[0],
        "gain_high": None if point.gain is None else point.gain[1],
    }


def _draw(measured: MeasuredExits, points: Sequence[CurvePoint], path: Path) -> tuple[Path, Path]:
    import matplotlib  # noqa: F401

    figure, axes = blank_figure()
    axes.plot(
        [point.test.macs / 1e6 for point in points],
        [100 * point.test.accuracy for point in points],
        color=BLUE,
        marker=".",
        label="early exits, thresholds of validation",
    )
    simple = [outcome_of(each, measured.test, measured.costs) for each in common_policies(measured.validation)]
    axes.plot(
        [outcome.macs / 1e6 for outcome in simple],
        [100 * outcome.accuracy for outcome in simple],
        color=BLUE,
        linestyle=":",
        label="early exits, one threshold for all",
    )
    singles = single_rows(measured)
    axes.plot(
        [row["macs"] / 1e6 for row in singles],
        [100 * row["test"] for row in singles],
        "o",
        color=GREY,
        label="one exit of this network alone",
    )
    rivals = {p.rival_macs: p.rival_accuracy for p in points if p.rival_macs and p.rival_accuracy is not None}
    axes.plot(
        [macs / 1e6 for macs in rivals],
        [100 * accuracy for accuracy in rivals.values()],
        "s",
        color=ORANGE,
        label="best network of one exit that costs no more",
    )
    axes.set_xlabel("Mean multiply-adds of an image (million)")
    axes.set_ylabel("Accuracy (%)")
    axes.set_title(f"{measured.test.images} test images", loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return save(figure, path)
