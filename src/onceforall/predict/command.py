"""The command `onceforall predict`. Nothing heavy is imported before it begins."""

from pathlib import Path

import click

from onceforall.console import NetworkProgress
from onceforall.errors import UserError

__all__ = ["predict"]


@click.command()
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILES...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("predictions"), show_default=True, help="Folder to write to."
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Images: so many classes of each.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Of the processor; one for each core by default.")
def predict(model: Path, files: tuple[str, ...], out: Path, top: int, threads: int) -> None:
    """Predict FILES (files, folders, patterns) with an exported network; PyTorch is not needed.

    Volumes: NIfTI files of any orientation and spacing; of each the labels are written to DIR/<name>.nii.gz, on its
    own grid and with its affine. Several modalities are one 4-D file, or files x_0000.nii.gz, x_0001.nii.gz, ... side
    by side. Images: DIR/predictions.csv has the most probable classes of each.

    Files that cannot be read are listed at the end, and the exit code is 2; the others are predicted.

    \b
    Example:
      onceforall predict runs/hippocampus/model.onnx scans/*.nii.gz --out labels
      onceforall predict runs/photos/model.onnx new-photos --out predictions
    """
    from onceforall.predict.predicting import predict_files
    from onceforall.predict.predictor import Predictor

    found = predict_files(Predictor(model, threads), files, out, top=top, progress=NetworkProgress("predicted"))
    for problem in found.problems:
        click.echo(problem, err=True)
    click.echo(f"predicted {found.inputs - len(found.problems)} of {found.inputs}, written to {out}")
    if found.problems:
        raise UserError(f"{len(found.problems)} of {found.inputs} could not be predicted; they are listed above.")
