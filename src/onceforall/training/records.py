"""What a run leaves behind while it goes on: its settings, metric lines, TensorBoard events, and the progress shown."""

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from onceforall.data.dataset import DataSet
from onceforall.errors import UserError
from onceforall.evaluation.environment import environment
from onceforall.files import write_json, write_text
from onceforall.training.distributed import World
from onceforall.training.phases import Phase

__all__ = ["Records", "read_lines"]

METRICS = "metrics.jsonl"
SETTINGS = "run.json"
SPLITS = "splits.csv"
FAMILY = "family.json"  # in the place of metrics, ledger and splits where the run was packaged
# what may differ between a run and its continuation: it does not change what is computed (the data's content counts,
# not where it lies)
FREE_OPTIONS = ("device", "max_minutes", "threads", "checkpoint_every")
FREE = {f"{place}.{name}" for place in ("options", "settings.recipe.run") for name in FREE_OPTIONS}
FREE |= {"settings.recipe.data.path"}
# what makes the phases; they are compared themselves, and more of them may follow those that the run had
MAKES_PHASES = ("settings.recipe.name", "settings.recipe.schedule", "settings.recipe.phases")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The metric lines of a run; a line that was cut off while it was written is left out."""
    out = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return out


@final
class Records:
    """Files and progress of one run. Only the first process writes; the others keep silent.

    Args:
        folder: the run directory; must be empty unless `resume`.
        phases: the schedule, to estimate the time left and to keep.
        run: everything else that decides the result, as JSON types; a continuation must have the same.
        work: expected multiply-adds of each phase.
        data: to keep its splits.
        world: this process.
        resume: whether the folder holds a run to go on with.
    """

    def __init__(
        self,
        folder: Path,
        phases: list[Phase],
        run: dict[str, Any],
        work: list[float],
        data: DataSet,
        world: World,
        resume: bool,
    ) -> None:
        self.folder, self.phases, self.work, self.world = folder, phases, work, world
        self.console = Console(stderr=True, quiet=not world.is_first, soft_wrap=True)
        self.started = time.monotonic()
        self.phase_started = self.started
        self.images, self.macs_done = 0, 0.0
        self.macs_first: float | None = None
        self.last_metric = ""
        self.lock: TextIO | None = None
        self.writer: Any = None
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[facts]}"),
            console=self.console,
            disable=not (world.is_first and sys.stderr.isatty()),
        )
        self.bar = self.progress.add_task("starting", total=sum(work), facts="")
        self.run, self.data, self.resume = run, data, resume

    def __enter__(self) -> "Records":
        if self.world.is_first:
            try:
                self._open()
            except BaseException:
                self._close()
                raise
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self._close()

    def _close(self) -> None:
        for file in (self.writer, self.lock):
            if file is not None:
                file.close()

    def _open(self) -> None:
        """Take the folder: check that it is free, or that the run in it is the same, and keep others out."""
        resume = self.resume
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; give a folder for the run.")
        present = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        if present and not resume:
            raise UserError(f"{self.folder} is not empty; choose another folder, or go on with its run by --resume.")
        path = self.folder / SETTINGS
        foreign = [name for name in present if not name.startswith(".") and name != SPLITS]
        if resume and not path.is_file() and (foreign or not present):
            raise UserError(f"{self.folder} holds no run to resume.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = (self.folder / ".lock").open("w")
        try:
            _take(self.lock)
        except OSError as error:
            raise UserError(f"{self.folder}: another process is training in this folder.") from error
        for draft in (self.folder / "checkpoints").glob(".*.part"):
            draft.unlink()  # what a killed process was writing
        if path.is_file():
            before, now = json.loads(path.read_text()), json.loads(json.dumps(self.run))
            before |= {"phases": before.pop("planned", before["phases"]), "verdicts": None}
            self._compare(before, now)
            if len(now["phases"]) > len(before["phases"]):
                write_json(path, now | {"environment": before["environment"]})
        else:
            self.data.write_splits(self.folder / SPLITS)
            write_json(path, self.run | {"environment": environment()})

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Raise `UserError` unless the run goes on as it began; phases may have been added behind those it had."""
        old = _flat({k: v for k, v in before.items() if k != "environment"})
        new = _flat(dict(now) | {"phases": now["phases"][: len(before["phases"])]})
        differing = [  # what is absent is none: fields that are newer than the run
            key
            for key in old | new
            if key not in FREE and not key.startswith(MAKES_PHASES) and old.get(key) != new.get(key)
        ]
        if differing:
            shown = "; ".join(f"{k}: {old.get(k, 'absent')} before, {new.get(k, 'absent')} now" for k in differing[:5])
            more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise UserError(f"{self.folder} cannot go on: the run differs in {shown}{more}.")

    def replan(self, phases: list[Phase], work: list[float], verdicts: list[dict[str, Any]]) -> None:
        """Keep the phases as they are carried out from now on, beside those planned, and say the last verdict."""
        self.phases, self.work = phases, work
        self.progress.update(self.bar, total=sum(work))
        self.say(verdicts[-1]["reason"])
        if self.world.is_first:
            path = self.folder / SETTINGS
            before = json.loads(path.read_text())
            carried_out = {"phases": [phase.to_dict() for phase in phases], "verdicts": verdicts}
            write_json(path, before | {"planned": self.run["phases"]} | carried_out)

    def rewind(self, total_steps: int) -> None:
        """Cut every metric line that was written after `total_steps` steps."""
        if not self.world.is_first:
            return
        path = self.folder / METRICS
        kept = [json.dumps(line) for line in read_lines(path) if line["step"] <= total_steps]
        write_text(path, "".join(line + "\n" for line in kept))

    def say(self, text: str) -> None:
        """Tell the person who waits."""
        if self.world.is_first:
            self.console.print(text, highlight=False, markup=False)

    def minutes(self) -> float:
        """Minutes since this process began."""
        return (time.monotonic() - self.started) / 60

    # -- as the run goes on -----------------------------------------------------------------------------------------

    def begin_phase(self, index: int, share_done: float) -> None:
        """Phase `index` begins, or goes on after a share of its steps."""
        self.macs_done = sum(self.work[:index]) + share_done * self.work[index]
        self.macs_first = self.macs_done if self.macs_first is None else self.macs_first
        self.phase_started = time.monotonic()
        self.images = 0

    def advance(self, phase: Phase, epoch: int, share: float, loss: float, images: int) -> None:
        """A step of `share` of the phase was made on `images` images."""
        self.images += images
        self.macs_done += share * self.work[self.phases.index(phase)]
        if not self.progress.disable:
            facts = f"loss {loss:.3f}  {self.last_metric}  {self._speed():.0f} {self.data.inputs}/s  {self._left()}"
            description = f"{phase.name} {epoch + 1}/{phase.total_epochs}"
            self.progress.update(self.bar, completed=self.macs_done, description=description, facts=facts)

    def end_epoch(self, index: int, epoch: int, step: int, values: dict[str, Any], metric: str) -> None:
        """Write the line of an epoch: `values` may hold "validation", metrics for each kind of architecture."""
        phase = self.phases[index]
        validation = values.get("validation", {})
        self.last_metric = "  ".join(f"{kind} {score[metric]:.4f}" for kind, score in list(validation.items())[:2])
        if not self.world.is_first:
            return
        line = {"phase": phase.name, "index": index, "epoch": epoch + 1, "step": step, **values}
        try:
            with open(self.folder / METRICS, "a") as file:
                file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.folder / METRICS}: {error.strerror}; go on with --resume.") from error
        self._to_tensorboard(step, line)
        if self.progress.disable:
            self.say(
                f"{phase.name} {epoch + 1}/{phase.total_epochs}  loss {values['train_loss']:.3f}  "
                f"{self.last_metric}  {self._speed():.0f} {self.data.inputs}/s  {self._left()}"
            )

    def end_phase(self, entries: list[dict[str, Any]]) -> None:
        """Keep the ledger as it stands."""
        if self.world.is_first:
            write_json(self.folder / "ledger.json", entries)

    def _speed(self) -> float:
        return self.images / max(1e-9, time.monotonic() - self.phase_started)

    def _left(self) -> str:
        done = self.macs_done - (self.macs_first or 0.0)
        if done <= 0:
            return ""
        seconds = (time.monotonic() - self.started) * (sum(self.work) - self.macs_done) / done
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"

    def _to_tensorboard(self, step: int, line: dict[str, Any]) -> None:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        self.writer.add_scalar("train/loss", line["train_loss"], step)
        for kind, score in line.get("validation", {}).items():
            for name, value in score.items():
                self.writer.add_scalar(f"validation_{name}/{kind}", value, step)


def _take(lock: TextIO) -> None:
    """Hold a file until the process ends; `OSError` where another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries and lists as one dictionary with dotted keys."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        return {prefix: value}
    out: dict[str, Any] = {}
    for name, item in items:
        out |= _flat(item, f"{prefix}.{name}" if prefix else str(name))
    return out


def _plain(value: Any) -> Any:
    """`value` with null for every number that JSON does not have (a metric that the data do not determine)."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_run(phases: list[Phase], options: Any, data: DataSet, network: Any, settings: Any) -> dict[str, Any]:
    """Everything that decides the result of a run, as JSON types."""
    return {
        "settings": settings,
        "network": network,
        "phases": [phase.to_dict() for phase in phases],
        "options": asdict(options),
        "data": data.describe(),
    }
