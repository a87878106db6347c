"""The command `onceforall export`. Nothing heavy is imported before it begins."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onceforall.exporting import ExportReport

__all__ = ["export", "tell_export"]


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("arch", default="best")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of images or volumes, where they have moved.")
@click.option("--phase", help="Weights after this phase; the newest by default.")
@click.option("--format", "file_format", default="onnx", show_default=True, help="onnx, openvino or torch.")
@click.option("--precision", default="fp32", show_default=True, help="fp32, fp16 (of weights) or int8.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; RUN/bundle-FORMAT-PRECISION by default.")
@click.option("--max-macs", help="Budget of 'best', such as 5M.")
@click.option("--max-params", help="Budget of 'best', such as 800K.")
@click.option(
    "--batch",
    type=click.Choice(["dynamic", "1"]),
    default="dynamic",
    show_default=True,
    help="Any number of inputs at once, or one, which some devices run faster.",
)
@click.option("--any-size", is_flag=True, help="The file also takes other sizes, where the network does.")
@click.option("--opset", type=int, help="Version of the ONNX operators; the newest that is common by default.")
@click.option("--keep-fp32", multiple=True, metavar="LAYER", help="int8: leave layers in fp32, * for any letters.")
@click.option("--int8-inputs", type=click.IntRange(1), help="int8: learn ranges of so many training inputs.")
@click.option("--max-loss", type=float, default=0.005, show_default=True, help="By how much the metric may fall.")
@click.option("--force", is_flag=True, help="Keep a file that fails the check.")
def export(
    run_dir: Path,
    arch: str,
    data: Path | None,
    phase: str | None,
    file_format: str,
    precision: str,
    out: Path | None,
    max_macs: str | None,
    max_params: str | None,
    batch: str,
    any_size: bool,
    opset: int | None,
    keep_fp32: tuple[str, ...],
    int8_inputs: int | None,
    max_loss: float,
    force: bool,
) -> None:
    """Export one sub-network of RUN as a verified bundle: a folder with the file and all that a device needs.

    ARCH is 'largest', 'smallest', JSON, a JSON file, or 'best': the best on validation among the architectures that
    `evaluate --split validation` measured, within the budgets.

    The file's answers to held-out inputs, its metric on validation data and its latency are compared with PyTorch's.
    Where they are not the same, the bundle's name ends in .rejected and the exit code is 2. Of int8 the metric may fall
    by --max-loss; where it falls more, more and more layers stay in fp32. Layers are named as in PyTorch.

    \b
    Example:
      onceforall evaluate runs/photos --split validation -n 50
      onceforall export runs/photos best --max-macs 5M
      onceforall export runs/photos best --format openvino --precision int8 --batch 1
    """
    from onceforall.deploying.export_run import bundle_folder, check_int8_inputs, export_run
    from onceforall.errors import UserError
    from onceforall.evaluation.results import parse_budget
    from onceforall.exporting import ExportOptions
    from onceforall.families import family_folder
    from onceforall.runs import find_architecture, find_weights, open_run, read_run

    options = ExportOptions(
        format=file_format,
        precision=precision,
        batch=1 if batch == "1" else None,
        any_size=any_size,
        opset=opset,
        keep_fp32=keep_fp32,
        max_loss=max_loss,
        force=force,
    )
    check_int8_inputs(options, int8_inputs)
    options.check_installed()
    run_dir = family_folder(run_dir)
    find_weights(run_dir, read_run(run_dir)[0], phase)
    try:
        run = open_run(run_dir, data, phase)
    except UserError as error:
        if data is not None:
            raise
        raise UserError(
            f"{error} Export needs the data of the run: without them normalisation cannot be calibrated, and the "
            "accuracy of the file would be unknown. Say by --data where they are."
        ) from error
    budgets = [None if text is None else parse_budget(text) for text in (max_macs, max_params)]
    architecture = find_architecture(run, arch, max_macs=budgets[0], max_params=budgets[1])
    click.echo(f"architecture: {architecture}")
    folder = out or bundle_folder(run_dir, options)
    tell_export(export_run(run, architecture, folder, options, int8_inputs=int8_inputs))


def tell_export(report: "ExportReport") -> None:
    """Say what was written and what it is worth."""
    difference = report.difference
    opset = f", {sum(report.nodes.values())} nodes, opset {report.opset}" if report.opset else ""
    click.echo(
        f"exported {report.path} ({report.bytes / 1e6:.2f} MB{opset}): differs from PyTorch by at most "
        f"{difference.largest:.2g} where outputs reach {difference.scale:.2g}, on {report.images} held-out inputs; "
        f"{difference.agreement:.2%} equal answers"
    )
    if report.metric is not None:
        click.echo(f"{report.metric} on {report.split} data: {report.after:.4f}, in PyTorch {report.before:.4f}")
    if report.kept_fp32:
        click.echo(f"layers kept in float32: {', '.join(report.kept_fp32)}")
    own = report.latency["exported"]
    noisy = " (noisy)" if own["noisy"] else ""
    click.echo(f"latency on one thread: {own['processor_ms']:.3g} ms, {own['to_pytorch']:.2f} of PyTorch's{noisy}")
    if report.objection is not None:
        click.echo(f"kept although {report.objection}")
