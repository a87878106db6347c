"""One architecture of a run, as a verified bundle."""

import tempfile
from pathlib import Path
from typing import Any

from onceforall.architecture import Architecture
from onceforall.data import VolumeData
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import calibrated_subnet
from onceforall.evaluation.exits import weights_of_exits
from onceforall.evaluation.pareto import plot_front
from onceforall.evaluation.results import read_results
from onceforall.exporting import ExportOptions, ExportReport, Judge, calibration_inputs, export, held_out_inputs
from onceforall.runs import Run, phase_of

__all__ = ["bundle_folder", "check_int8_inputs", "export_run", "front_picture"]

INT8_IMAGES, INT8_VOLUMES = 128, 16  # training inputs of which ranges of 8-bit numbers are learned


def bundle_folder(run: Path, options: ExportOptions) -> Path:
    """Where `onceforall export` puts a bundle by default."""
    return run / f"bundle-{options.format}-{options.precision}"


def check_int8_inputs(options: ExportOptions, int8_inputs: int | None) -> None:
    """Raise `UserError` for a number of inputs that nothing would learn from."""
    if int8_inputs is not None and options.precision != "int8":
        raise UserError(f"int8_inputs {int8_inputs} goes with int8; in {options.precision} no ranges are learned.")


def export_run(
    run: Run,
    architecture: Architecture,
    folder: Path,
    options: ExportOptions | None = None,
    *,
    int8_inputs: int | None = None,
) -> ExportReport:
    """Extract, calibrate, export and verify on held-out images or volumes; see `export`.

    Args:
        run: from `open_run`.
        architecture: of its space.
        folder: of the bundle.
        options: which file, and what is accepted.
        int8_inputs: training inputs of which int8 learns ranges of numbers; 128 images or 16 volumes by default.
            `UserError` for other precisions.
    """
    options, data, settings = options or ExportOptions(), run.data, run.recipe.run
    check_int8_inputs(options, int8_inputs)
    options.check_installed()
    images = settings.calibration_images
    net = calibrated_subnet(
        run.supernet, architecture, data, images=images, rule=settings.calibration_rule, seed=settings.seed
    )
    weights = weights_of_exits(run.supernet.space, phase_of(run)[1].get("exit_output_weights"))
    count = int8_inputs or (INT8_VOLUMES if isinstance(data, VolumeData) else INT8_IMAGES)
    resolution, split = architecture.resolution, "validation" if data.count("validation") else "test"
    facts: dict[str, Any] = {"recipe": run.recipe.name, "phase": run.phase}
    facts |= {"batch_norm": {"inputs": min(images, data.count("train")), "rule": settings.calibration_rule}}
    return export(
        net,
        folder,
        images=held_out_inputs(data, resolution),
        classes=data.classes,
        preparation=data.preparation.to_dict(),
        facts=facts,
        options=options,
        scheme=data.scheme if isinstance(data, VolumeData) else None,
        exit_weights=None if weights is None else [weights[number] for number in architecture.exits],
        judge=Judge(run.task, data, split),
        calibration=calibration_inputs(data, resolution, count, settings.seed) if options.precision == "int8" else None,
        front=front_picture(run, architecture),
    )


def front_picture(run: Run, architecture: Architecture) -> bytes | None:
    """The network among those that the run measured, as PNG; None where there are fewer than two or no matplotlib."""
    digest = architecture.digest()
    for split in ("validation", "test"):
        try:
            rows = read_results(run.folder, split, run.phase)["rows"]
        except UserError:
            continue
        metric = run.task.metric
        rows = [row for row in rows if row.get(metric) is not None]
        own = next((row for row in rows if row["digest"] == digest), None)
        if len(rows) < 2:
            continue
        where = "not measured" if own is None else f"{own[metric]:.4f} at {own['macs']} MACs"
        title = f"{len(rows)} sub-networks on {split}; this one: {where}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                png, _ = plot_front(rows, Path(folder) / "front", y=metric, title=title)
            except UserError:
                return None
            return png.read_bytes()
    return None
