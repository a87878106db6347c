"""The process that does one job: `python -m onceforall.studies.worker`, with the job as one line on standard input.

It says each finished piece on standard output, and ends when standard input does: it never outlives who started it.
"""

import os
import shutil
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from onceforall.errors import UserError
from onceforall.studies.study import Job, Piece

if TYPE_CHECKING:
    from onceforall.runs import Run

__all__ = ["DONE", "do_job", "main"]

DONE = "piece done: "
"""How the line of a finished piece begins; the name of its phase follows."""


def do_job(job: Job, tell: Callable[[Piece], object]) -> None:
    """Train and evaluate what is still to do of `job`, and tell each piece that is done."""
    from onceforall.recipes import recipe_from_dict
    from onceforall.runs import open_run, train_run

    recipe = recipe_from_dict(job.recipe)
    if job.starts_from is not None and not job.folder.exists():
        _copy(job)
    for piece in job.open_pieces():
        if not job.trained(piece):
            begun = job.folder.is_dir() and any(job.folder.iterdir())
            train_run(recipe, job.folder, resume=begun, until=piece.phase)
        _measure(job, open_run(job.folder, recipe.data.path, piece.phase))
        tell(piece)


def _measure(job: Job, run: "Run") -> None:
    """Evaluate sub-networks after a piece; the last thing that is written is the result that the job looks for."""
    from onceforall.runs import evaluate_grid, evaluate_run

    if job.measures == "grid":
        evaluate_grid(run, resolutions=job.resolutions, limit=job.drawn)
        return
    from onceforall.comparison.drawing import draw_networks

    space = run.space
    drawn = {f"random_{number}": each for number, each in enumerate(draw_networks(space, job.drawn or 1, 0), start=1)}
    ends = {"largest": space.largest(), "smallest": space.smallest()}
    evaluate_run(run, ends | drawn if space.size() > 1 else {"single": space.largest()})


def _copy(job: Job) -> None:
    """The run that `job` goes on with, copied whole or not at all."""
    assert job.starts_from is not None
    draft = job.folder.with_name(f".{job.folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(job.starts_from, draft)
    os.replace(draft, job.folder)


def main() -> int:
    """Read the job and do it; 0 when all is done, 2 for a mistake of the user's, told in one line."""
    job = Job.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    try:
        do_job(job, lambda piece: print(f"{DONE}{piece.phase}", flush=True))  # noqa: T201
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os._exit(1)  # at any moment: files are renamed into place


if __name__ == "__main__":
    sys.exit(main())
