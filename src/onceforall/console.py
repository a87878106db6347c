"""What the command line says while a job goes on and at its end: progress, tables and mistakes."""

import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, final

import click

from onceforall.errors import UserError

__all__ = ["Commands", "NetworkProgress", "print_table", "reading_progress"]

LEFT_OUT = ("torch", "omegaconf", "safetensors", "scipy", "sklearn", "tensorboard", "PIL", "numpy")
"""Packages that a device without PyTorch may lack (`pip install --no-deps onceforall`)."""
LINE_EVERY = 60.0  # seconds between lines where there is no terminal


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Collection[str] = ()) -> None:
    """Print columns of equal width: the first one and those named `words` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    left = [i == 0 or name in words for i, name in enumerate(header)]
    for row in [header, *rows]:
        columns = zip(row, widths, left, strict=True)
        cells = [cell.ljust(width) if to_left else cell.rjust(width) for cell, width, to_left in columns]
        click.echo("  ".join(cells).rstrip())


def reading_progress() -> Callable[[str, int, int], None]:
    """A line on the terminal that tells how far reading the images is."""

    def show(job: str, done: int, total: int) -> None:
        if _is_terminal() and (done % 100 == 0 or done == total):
            click.echo(f"\r{job}: {done} of {total}", nl=done == total, err=True)

    return show


@final
class _Failure(click.ClickException):
    """A user's mistake or wish to stop: one line."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.code = exit_code

    @property
    def exit_code(self) -> int:
        """2 for a mistake, 130 for an interruption."""
        return self.code

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.format_message()}", err=True)


@final
class Commands(click.Group):
    """Commands whose mistakes and interruptions end in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a `UserError` ends in its line and exit code 2, an interruption in one and 130.

        So does a package that was left out on a device, in a line that names it and exit code 2.
        """
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Failure(" ".join(str(error).split()), 2) from error
        except ModuleNotFoundError as error:
            if error.name not in LEFT_OUT:
                raise
            raise _Failure(
                f"this needs the package {error.name}, which is not installed: pip install onceforall.", 2
            ) from error
        except KeyboardInterrupt as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            resumes = command is not None and any(option.name == "resume" for option in command.params)
            more = ", go on with --resume" if resumes else ""
            raise _Failure(f"interrupted; what was saved is kept{more}.", 130) from error


@final
class NetworkProgress:
    """How many results there are and how long the others will take, told to the person who waits.

    On a terminal it is one line that changes, elsewhere a line now and then. The first call says how many results
    earlier work has left; the time left is estimated from those after it.

    Args:
        job: what is measured, such as the name of a phase.
        clock: seconds.
    """

    def __init__(self, job: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.job, self.clock = job, clock
        self.before: int | None = None
        self.started = self.told = clock()

    def __call__(self, done: int, total: int) -> None:
        """There are `done` of `total` results."""
        now = self.clock()
        if self.before is None:
            self.before, self.started, self.told = done, now, now
            if done:
                rest = "going on with the rest" if done < total else "nothing is left to measure"
                click.echo(f"{self.job}: {done} of {total} results are there from before; {rest}.", err=True)
            return
        text = f"{self.job}: {done} of {total}"
        if done < total:
            text += f", {_duration((now - self.started) * (total - done) / max(1, done - self.before))} left"
        if _is_terminal():
            click.echo(f"\r{text:<70}", nl=done == total, err=True)
        elif now - self.told >= LINE_EVERY:
            self.told = now
            click.echo(text, err=True)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _is_terminal() -> bool:
    return sys.stderr.isatty()
