"""The commands `onceforall import-mit` and `export-mit`. Nothing heavy is imported before they begin."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from onceforall.console import reading_progress
from onceforall.errors import UserError

__all__ = ["export_mit", "import_mit"]

ENDINGS = (".pth.tar", ".pth", ".pt", ".ckpt", ".bin")  # of files of weights

Number = TypeVar("Number", int, float)


@click.command("import-mit")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of images on which it is evaluated.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run directory; without --data a .safetensors file. By FILE's name."
)
@click.option("--num-classes", type=click.IntRange(1), help="Draw the last layer anew for so many classes.")
@click.option("--resolutions", metavar="128,160", help="At which it shall run; weights do not tell.")
@click.option("--depths", metavar="3,4", help="That were trained, where the file's name does not tell.")
@click.option("--expand-ratios", metavar="4,6", help="That were trained, where the file's name does not tell.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of the run's recipe.")
def import_mit(
    file: Path,
    data: Path | None,
    out: Path | None,
    num_classes: int | None,
    resolutions: str | None,
    depths: str | None,
    expand_ratios: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Take over weights of Once-for-All's authors: supernets, checkpoints of phases, teachers, specialised models.

    FILE is one of theirs, or the folder of a specialised model. With --data it becomes a run directory; without, a
    network file with which training on own data begins.

    \b
    Example:
      onceforall import-mit ofa_mbv3_d234_e346_k357_w1.0 --data imagenet --out runs/mit
      onceforall import-mit ofa_mbv3_d234_e346_k357_w1.0 --out mit.safetensors
      onceforall train images-sandwich --data photos --set network.width_mult=1 --set network.weights=mit.safetensors
    """
    from onceforall.deploying.mit_runs import import_network, import_run
    from onceforall.training.checkpoint import save_network

    network = import_network(
        file,
        resolutions=_numbers("--resolutions", resolutions, int),
        depths=_numbers("--depths", depths, int),
        expand_ratios=_numbers("--expand-ratios", expand_ratios, float),
        num_classes=num_classes,
    )
    if data is not None:
        folder = out or Path("runs") / _run_name(file)
        images = import_run(network, file, folder, data, overrides, reading_progress())
        told = f"{images.count('test')} test images of {images.num_classes} classes"
    else:
        if overrides:
            raise UserError("--set goes with --data: without images there is no run.")
        folder = out or Path(f"{file.name}.safetensors")
        if folder.suffix != ".safetensors":
            raise UserError(
                f"--out {folder}: without --data a file is written; give it a name that ends in .safetensors."
            )
        save_network(network, folder, {"imported": file.name})
        told = f"{network.options['num_classes']} classes"
    space, new = network.space, "" if num_classes is None else ", its last layer not trained"
    click.echo(f"{file.name}: width {network.options['width_mult']:g}, {space.size():.3g} architectures, {told}{new}")
    for factor in ("resolutions", "kernel_sizes", "expand_ratios", "depths"):
        click.echo(f"  {factor}: {', '.join(map(str, getattr(space, factor)))}")
    click.echo(f"written: {folder}")


@click.command("export-mit")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The file; RUN/mit.pth by default.")
@click.option("--phase", help="Weights after this phase; the newest by default.")
@click.option("--published", is_flag=True, help="Spell names as MIT's published files do, not its present code.")
def export_mit(run_dir: Path, out: Path | None, phase: str | None, published: bool) -> None:
    """Write the weights of RUN, an OFA-MobileNetV3, as a file that Once-for-All's own code loads.

    \b
    Example:
      onceforall export-mit runs/photos --out photos.pth
    """
    from onceforall.deploying import mit_runs

    path = out or run_dir / "mit.pth"
    entries = mit_runs.export_mit(run_dir, path, phase, published)
    click.echo(f"written: {path}, {entries} entries under 'state_dict'")


def _run_name(file: Path) -> str:
    """The file's name without the ending of weights; what follows other dots, as in `w1.0`, tells models apart."""
    ending = next((ending for ending in ENDINGS if file.name.endswith(ending)), "")
    return file.name.removesuffix(ending)


def _numbers(option: str, text: str | None, kind: Callable[[str], Number]) -> list[Number] | None:
    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text!r}: give numbers with commas between them.") from error
