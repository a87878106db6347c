"""The command `onceforall predict`. Nothing heavy is imported before it begins."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from onceforall.console import NetworkProgress
from onceforall.errors import UserError

if TYPE_CHECKING:
    from onceforall.predict.predicting import Predicted

__all__ = ["predict"]


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILES...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("predictions"), show_default=True, help="Folder to write to."
)
@click.option("--format", "file_format", help="Of images csv (the default) or json; of volumes nifti.")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Images: so many classes of each.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Images: so many at once.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Of the processor; the engine's choice by default.")
def predict(
    bundle: Path, files: tuple[str, ...], out: Path, file_format: str | None, top: int, batch: int, threads: int
) -> None:
    """Predict FILES (files, folders, patterns) with an exported network; PyTorch is not needed.

    Volumes: NIfTI files of any orientation and spacing; of each the labels are written to DIR/<name>.nii.gz, on its
    own grid and with its affine. Several modalities are one 4-D file, or files x_0000.nii.gz, x_0001.nii.gz, ... side
    by side. Images: DIR/predictions.csv (or .json) has the most probable classes of each.

    Files that cannot be read are listed at the end, and the exit code is 2; the others are predicted.

    \b
    Example:
      onceforall predict runs/hippocampus/bundle-openvino-fp32 scans/*.nii.gz --out labels
      onceforall predict runs/photos/bundle-onnx-fp32 new-photos --out predictions --format json
    """
    from onceforall.predict.predicting import predict_files
    from onceforall.predict.predictor import Predictor

    progress = NetworkProgress("predicted")
    predictor = Predictor(bundle, threads)
    if predictor.segments:
        _refuse_what_images_have(bundle)
    found = predict_files(predictor, files, out, format=file_format, top=top, batch=batch, progress=progress)
    for problem in found.problems:
        click.echo(problem, err=True)
    click.echo(f"predicted {found.inputs - len(found.problems)} of {found.inputs}, written to {out}")
    click.echo(_throughput(found, "volumes" if predictor.segments else "images"))
    if found.problems:
        raise UserError(f"{len(found.problems)} of {found.inputs} could not be predicted; they are listed above.")


def _refuse_what_images_have(bundle: Path) -> None:
    context = click.get_current_context()
    for name in ("top", "batch"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UserError(f"--{name} goes with images, and {bundle} labels volumes; leave it out.")


def _throughput(found: "Predicted", inputs: str) -> str:
    text = f"{found.per_second:.3g} {inputs} a second"
    if found.network_seconds is not None and found.seconds > 0:
        text += f", {found.network_seconds / found.seconds:.0%} of the time in the network"
    if found.answered_by:
        total = max(1, sum(found.answered_by))
        shares = ", ".join(f"{count / total:.0%} by part {number}" for number, count in enumerate(found.answered_by, 1))
        text += f"; answered {shares}"
    return text
