"""The command `onceforall inspect`. Nothing heavy is imported before it begins."""

import json
from pathlib import Path

import click

from onceforall.errors import UserError

__all__ = ["inspect"]


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def inspect(bundle: Path, as_json: bool) -> None:
    """Tell what a BUNDLE is: network, classes, sizes, metric before and after, latency; PyTorch is not needed.

    Every file is compared with its checksum; the exit code is 2 where one was changed or is missing.

    \b
    Example:
      onceforall inspect runs/photos/bundle-onnx-fp32
    """
    from onceforall.bundles import damaged_files, describe, read_bundle

    about = read_bundle(bundle)
    lines = describe(about)
    damaged = damaged_files(bundle, about)
    if as_json:
        click.echo(json.dumps(about | {"damaged": damaged}, indent=2))
    else:
        whole = f"{len(about['files'])} files are as they were written"
        lines += [] if about["accepted"] else [("check", f"failed: {about['objection']}")]
        lines += [("checksums", "; ".join(damaged) or whole), ("needs", ", ".join(about["requirements"]))]
        width = max(len(label) for label, _ in lines)
        for label, text in lines:
            click.echo(f"{label:{width}}  {text}")
    if damaged:
        raise UserError(f"{bundle}: {'; '.join(damaged)}. Copy the bundle again, or export again.")
