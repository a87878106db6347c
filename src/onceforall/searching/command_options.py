"""What the commands share that measure many sub-networks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onceforall.errors import UserError

if TYPE_CHECKING:
    from onceforall.evaluation.engines import EngineSettings
    from onceforall.searching.latency_table import LatencyTable
    from onceforall.supernets.supernet import Supernet

__all__ = ["factors", "interruptible", "numbers", "read_table", "spreading_options"]


def spreading_options(command: Callable) -> Callable:
    """Add `--workers` and `--executor` to a command."""
    workers = click.option(
        "--workers", type=click.IntRange(1), default=1, show_default=True, help="How many measure at a time."
    )
    executor = click.option(
        "--executor",
        type=click.Choice(["loky", "ray", "dask"]),
        default="loky",
        show_default=True,
        help="Workers are processes of this machine (loky), or of a cluster (ray, dask).",
    )
    return workers(executor(command))


@contextmanager
def interruptible() -> Iterator[None]:
    """Work of which every finished part is kept; Ctrl-C ends it with a word on that."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted; what was measured is kept, the same command goes on.", err=True)
        raise SystemExit(130) from None


def read_table(
    path: Path | None, supernet: "Supernet", backend: str | None, force: bool
) -> "tuple[LatencyTable | None, EngineSettings | None]":
    """The table of `--latency-table`, and the engine on which to time networks; none of another machine's table."""
    from onceforall.searching.latency_measuring import open_table

    if path is None:
        return None, None
    table, elsewhere = open_table(path, supernet, backend=backend, force=force)
    if elsewhere:
        click.echo(f"note: {path} belongs elsewhere, latencies are predictions only: {'; '.join(elsewhere)}", err=True)
    return table, None if elsewhere else table.settings


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text!r}: give whole numbers with commas between them, as 100,200.") from error


def factors(option: str, given: Sequence[str]) -> dict[str, list[Any]]:
    """Choices of factors, written as "kernel_sizes=3,5" or "resolutions=48,32x48"."""
    out: dict[str, list[Any]] = {}
    for text in given:
        name, _, values = text.partition("=")
        try:
            out[name] = [_choice(each) for each in values.split(",")]
        except ValueError as error:
            raise UserError(f"{option} {text!r}: give a factor and numbers, as kernel_sizes=3,5.") from error
    return out


def _choice(text: str) -> int | float | tuple[int, ...]:
    if "x" in text:
        return tuple(map(int, text.split("x")))
    return int(text) if text.strip().isdigit() else float(text)
