"""The commands `onceforall package` and `onceforall unpack`. Nothing heavy is imported before they begin."""

from pathlib import Path

import click

__all__ = ["package", "unpack"]


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The archive; RUN-family.zip by default.")
@click.option("--phase", help="Weights after this phase; the newest by default.")
@click.option(
    "--latency-table",
    "tables",
    multiple=True,
    type=click.Path(path_type=Path),
    help="From `latency build`; may be repeated.",
)
def package(run_dir: Path, out: Path | None, phase: str | None, tables: tuple[Path, ...]) -> None:
    """Make one archive of all networks of RUN, which another machine searches with no data at hand.

    It holds the weights, the search space, the recipe, classes and preparation, the predictor of `predictor fit`,
    latency tables, tables of results and a model card; no image, no name of a file or subject, no split, no path.

    \b
    Example:
      onceforall predictor fit runs/photos -n 200
      onceforall package runs/photos --out family.zip
      onceforall search family.zip --max-macs 50M
    """
    from onceforall.deploying.packaging import package_run

    run = run_dir.resolve()
    made = package_run(run, out or run.with_name(f"{run.name}-family.zip"), phase=phase, latency_tables=tables)
    click.echo(f"packaged {made.path} ({made.bytes / 1e6:.2f} MB, {len(made.files)} files)")
    if made.note:
        click.echo(f"note: {made.note}", err=True)
    if not made.predictor:
        click.echo(
            "it has no predictor, so it cannot be searched without data; make one first: "
            f"onceforall predictor fit {run_dir}"
        )


@click.command()
@click.argument("archive", metavar="FAMILY.ZIP", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The folder; the archive's name without .zip by default.")
def unpack(archive: Path, out: Path | None) -> None:
    """Unpack and check an archive of `onceforall package`; its folder is a run directory without data.

    \b
    Example:
      onceforall unpack family.zip
      onceforall search family --max-macs 50M
    """
    from onceforall.families import open_family
    from onceforall.families import unpack as unpack_archive

    family = open_family(unpack_archive(archive, out or archive.resolve().with_suffix("")))
    about = family.about
    click.echo(
        f"{family.folder}: {about['architectures']:.3g} networks ({about['network']}) for {len(about['classes'])} "
        f"outputs, weights after {about['phase']!r}, {'a' if family.predictor else 'no'} predictor, "
        f"{len(family.latency_tables)} latency table(s)"
    )
