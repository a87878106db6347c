"""The one loop: it trains any list of phases on any elastic network, and resumes exactly.

    train -> each phase: begin (weights, channel order, teacher, optimiser) -> each epoch -> each step -> end

A step draws a resolution and its architectures, goes through its micro-batches (data, teacher, and for each
sub-network forward and backward), adds up gradients over the processes, and moves the weights once. All of it is a
function of the seed and the position in the run; see `randomness`.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution
from onceforall.data.dataset import DataSet
from onceforall.evaluation.allocation import keep_freed_memory
from onceforall.evaluation.tasks import Task
from onceforall.layers.channels import sort_channels
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_into, load_network, read_state, save_network, write_state
from onceforall.training.distillation import objective
from onceforall.training.distributed import World, connect
from onceforall.training.growing import beginning, final_space, fitted, spaces_in_phases, without_weights
from onceforall.training.guards import check_run, memory_guard, not_finite
from onceforall.training.ledger import Ledger
from onceforall.training.memory import training_bytes
from onceforall.training.optimizers import PhaseOptimizer
from onceforall.training.options import PRECISIONS, RunOptions
from onceforall.training.order import epoch_order
from onceforall.training.phases import Phase, draw_architectures, draw_resolution, is_taught_in_place
from onceforall.training.plan import expected_work, steps_per_epoch, student_macs, teacher_macs
from onceforall.training.randomness import keyed_generator, keyed_random, seeded_layers
from onceforall.training.records import Records, describe_run
from onceforall.training.stopping import apply_verdict, refuse_unpaid, verdicts_on
from onceforall.training.teachers import TeacherNetwork, soft_targets_of, teaching_phase
from onceforall.training.validation import Validator, is_best

__all__ = ["RunOptions", "train"]

POSITION = ("step", "total_steps", "best", "loss_sum", "loss_count")
"""What of a run in progress tells, beside its networks, where in a phase it is."""


def train(
    supernet: Supernet,
    phases: Sequence[Phase],
    task: Task,
    data: DataSet,
    *,
    run_dir: str | Path,
    options: RunOptions | None = None,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
) -> Supernet:
    """Train `supernet` through `phases` and return it with the best weights of the last one.

    Stopped by `options.max_minutes`, it is returned as it then is.

    Args:
        supernet: is changed in place. Where a phase trains more than it has, it grows and a larger one is returned. An
            untrained one of which the first phase trains only smaller sub-networks is drawn anew by the seed, as small
            as that phase; a trained one stays whole (`growing.beginning`).
        phases: the schedule.
        task: losses and metric.
        data: images with the splits "train" and "validation".
        run_dir: where everything is written; must be empty unless `resume`. Several machines must share it.
        options: how the run is carried out.
        resume: go on from the last state in `run_dir`. Phases, data and options that decide the result must be the
            same as before.
        settings: anything JSON can hold that is to be kept with the run (its recipe).

    Raises `UserError` where the run cannot start, where the loss becomes not finite, and where memory ends.
    """
    options = options or RunOptions()
    supernet = beginning(supernet, phases, options.seed)
    with connect(options.device) as world:
        check_run(supernet, phases, data, options, world.size)
        run = _Run(supernet, list(phases), task, data, Path(run_dir), options, world, settings or {}, resume)
        if not resume:
            refuse_unpaid(run.supernet, run.phases, run.validator)
        with run.records:
            run.all_phases(resume)
        return run.supernet


@final
class _OutOfTime(Exception):
    """The time that was given is over; not an error."""


@final
class _Run:
    """A run in progress. `index`, `step` (in the phase) and `total_steps` are its position."""

    def __init__(
        self,
        supernet: Supernet,
        phases: list[Phase],
        task: Task,
        data: DataSet,
        folder: Path,
        options: RunOptions,
        world: World,
        settings: dict[str, Any],
        resume: bool,
    ) -> None:
        """Nothing is read or written yet."""
        keep_freed_memory()
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self.dtype = torch.float64 if options.precision == "fp64" else torch.float32
        self.supernet = supernet.to(world.device, self.dtype)
        self.phases, self.task, self.data, self.folder = phases, task, data, folder
        self.options, self.world = options, world
        self.index, self.step, self.total_steps = 0, 0, 0
        self.best, self.late = None, 0.0
        self.verdicts: list[dict[str, Any]] = []  # of the phases that have a rule to stop
        self.optimizer: PhaseOptimizer | None = None
        self.teacher: TeacherNetwork | None = None
        self.teacher_macs: dict[Resolution, int] = {}
        self.teacher_scores: list[float] = []  # of each phase's largest sub-network, where a guard asks for them
        self.ledger = Ledger(world.device)
        self.validator = Validator(data, task, options, world, self.ledger, self.dtype)
        self.loss_sum, self.loss_count = 0.0, 0
        network = {"class": type(supernet).__name__, "options": supernet.options, "space": supernet.space.to_dict()}
        described = describe_run(phases, options, data, network, settings)
        self.whole = without_weights(supernet, final_space(supernet.space, phases))
        work = expected_work(self.whole, phases, data.count("train"))
        self.records = Records(folder, phases, described, work, data, world, resume)
        self.state: dict[str, Any] | None = None

    # -- the run ----------------------------------------------------------------------------------------------------

    def all_phases(self, resume: bool) -> None:
        """Train, from the beginning or from where the last state was saved."""
        self.state = self._read_state() if resume else None
        if self.state is not None:
            self.index, self.ledger.entries = self.state["index"], self.state["ledger"]
            for verdict in self.state.get("verdicts", ()):
                self._follow(verdict)
        try:
            while self.index < len(self.phases):
                with memory_guard(self.phases[self.index], self.options, self.data):
                    self._one_phase(self.phases[self.index])
                self.index += 1
        except _OutOfTime:
            self._save_state()
            minutes = f"{self.options.max_minutes:g}"
            self.records.say(f"stopped after {minutes} minutes as asked; go on with --resume.")
            return
        self._load_weights(self.phases[-1], "best")

    def _one_phase(self, phase: Phase) -> None:
        self.ledger.begin_phase(phase.name)
        self._begin(phase)
        steps = steps_per_epoch(self.data.count("train"), phase)
        self.records.begin_phase(self.index, self.step / (steps * phase.total_epochs))
        if self.step == 0:
            self._rehearse(phase)
        for epoch in range(self.step // steps, phase.total_epochs):
            order = epoch_order(self.data, self.options, phase, epoch)
            while self.step < (epoch + 1) * steps:
                if self.late:  # asked here, so that an epoch whose steps are made also gets its end
                    raise _OutOfTime
                self._train_step(phase, epoch, order[self.step - epoch * steps])
                if self.step % self.options.checkpoint_every == 0 and self.step % steps:
                    self._save_state()
            self._end_epoch(phase, epoch)
            self._save_state()
        self._end(phase)

    def _begin(self, phase: Phase) -> None:
        """Weights, channel order, teacher and optimiser of a phase; or all of them as they were saved."""
        previous = self.phases[self.index - 1] if self.index else None
        carried = self.optimizer if phase.optimizer_state == "carry" else None
        if self.state is None:
            self.step, self.best = 0, None
            if previous is not None:
                self._load_weights(previous, phase.start_from)
                if phase.sort_channels != "none":
                    banded = phase.sort_channels == "banded"
                    beside = None if carried is None else carried.moments_of
                    sort_channels(self.supernet.channel_groups(), previous.space, banded, beside)
        space = phase.space if self.state is None else spaces_in_phases(self.supernet.space, self.phases)[self.index]
        self.supernet = fitted(self.supernet, space, self.options.seed)
        self.supernet.set_dropout(phase.dropout)
        self.supernet.train()
        self.teacher = self._make_teacher(phase)
        self.teacher_macs = teacher_macs(self.supernet, self.phases, self.index)
        self.optimizer = PhaseOptimizer(self.supernet, phase, self.options.precision == "fp16")
        if self.state is not None:
            self.supernet.load_state_dict(self.state["network"])
            self.optimizer.load(self.state["optimizer"])
            for name in POSITION:
                setattr(self, name, self.state[name])
            self.state = None
        elif carried is not None:
            self.optimizer.carry_on(carried)

    def _make_teacher(self, phase: Phase) -> TeacherNetwork | None:
        """The network that gives soft targets in `phase`; none where there is none, or the step has its own."""
        source = phase.teacher.source
        if source in ("none", "in_place"):
            return None
        if source in ("first", "previous_phase"):
            guarded = self._scores(phase) if phase.teacher.guard else None
            network = self._largest_of(teaching_phase(phase, self.index, guarded, self.task.higher_is_better))
        else:
            network = load_network(Path(source))
            network = network.subnet(network.space.largest(exits="all"))

        def images(resolution: Resolution) -> Iterator[Tensor]:
            return (batch for batch, _ in self.validator.calibration_batches(network, resolution))

        network = network.to(self.world.device, self.dtype)
        return TeacherNetwork(network, phase.teacher, images, self.options.calibration_rule)

    def _largest_of(self, index: int) -> Supernet:
        """The largest sub-network, with all its exits, as phase `index` left it."""
        origin = self.phases[index]
        network = load_network(self._weights(origin, "best"), type(self.supernet))
        return network.subnet(origin.space.largest(exits="all")).to(self.world.device, self.dtype)

    def _scores(self, phase: Phase) -> list[float]:
        """How good the largest sub-network is, as each earlier phase left it; measured once, from the saved weights."""
        for index in range(len(self.teacher_scores), self.index):
            network = self._largest_of(index)
            score = self.validator.score(network, network.space.largest(exits="all"), phase)
            self.teacher_scores.append(score[self.task.metric])
        return self.teacher_scores[: self.index]

    def _rehearse(self, phase: Phase) -> None:
        """Before the first step: validate two batches, so that what is broken fails now, and count memory."""
        largest = phase.space.largest(exits="all")
        with self.ledger.time("validation"):
            self.validator.score(self.supernet, largest, phase, images=2 * phase.batch_size)
        part = min(phase.batch_size, self.data.count("train")) / self.options.micro_batches
        self.ledger.note(**training_bytes(self.supernet, phase, part))

    # -- a step -----------------------------------------------------------------------------------------------------

    def _train_step(self, phase: Phase, epoch: int, batch: np.ndarray) -> None:
        optimizer, options = self.optimizer, self.options
        assert optimizer is not None
        where = (options.seed, phase.name, self.step)
        steps = steps_per_epoch(self.data.count("train"), phase)
        resolution = draw_resolution(phase, keyed_random(*where, "resolution"))
        architectures = draw_architectures(phase, self.step, resolution, keyed_random(*where, "architectures"))
        parts = list(enumerate(np.array_split(batch, options.micro_batches)))
        losses = torch.zeros(len(architectures), dtype=torch.float64, device=self.world.device)
        optimizer.begin_step(epochs_done=self.step / steps)
        for number, indices in self.world.share(parts):
            self._micro_batch(phase, (*where, number), indices, len(indices) / len(batch), architectures, losses)
        self._share_losses_and_time(phase, architectures, losses)
        self.world.sum_gradients(optimizer.parameters)
        if not optimizer.step():
            raise not_finite("the gradient became not finite", self.step, phase, architectures)
        self.step += 1
        self.total_steps += 1
        self.loss_sum += float(losses.mean())
        self.loss_count += 1
        taught = self.teacher is not None or is_taught_in_place(phase, architectures)
        macs = student_macs(self.supernet, architectures) + (self.teacher_macs[resolution] if taught else 0)
        self.ledger.count(len(batch), macs * len(batch))
        share = 1 / (steps * phase.total_epochs)
        self.records.advance(phase, epoch, share, self.loss_sum / self.loss_count, len(batch))

    def _micro_batch(
        self,
        phase: Phase,
        where: tuple,
        indices: np.ndarray,
        share: float,
        architectures: list[Architecture],
        losses: Tensor,
    ) -> None:
        """Add to the gradients and to `losses` what one part of the batch contributes."""
        optimizer, device = self.optimizer, self.world.device
        assert optimizer is not None
        amp = PRECISIONS[self.options.precision]
        resolution = architectures[0].resolution

        def views(size: Resolution) -> tuple[Tensor, Tensor]:
            """The same views of the images at any resolution: what is drawn depends on the place in the run only."""
            return self.data.train_batch(indices, size, keyed_generator(*where, "augmentation"), device, self.dtype)

        with self.ledger.time("data"):
            images, labels = views(resolution)
        with self.ledger.time("teacher"), torch.autocast(device.type, amp, enabled=amp is not None):
            soft_targets = soft_targets_of(self.teacher, self.supernet, phase, architectures, images, views)
        scale = share / (len(architectures) if phase.gradients == "mean" else 1)
        for number, architecture in enumerate(architectures):
            with self.ledger.time("student"), seeded_layers(device, *where, "layers", number):
                with torch.autocast(device.type, amp, enabled=amp is not None):
                    outputs = self.supernet(images, architecture, phase.freeze)
                    loss = objective(outputs, labels, soft_targets, self.task, phase)
                optimizer.scaled(loss * scale).backward()
                losses[number] += loss.detach() * share
                if phase.teacher.source == "in_place" and soft_targets is None:
                    assert isinstance(outputs, Tensor)
                    soft_targets = outputs.detach()

    def _share_losses_and_time(self, phase: Phase, architectures: list[Architecture], losses: Tensor) -> None:
        """Add up the losses over the processes and stop before the weights move if one is not finite.

        With them goes the word that the first process's time is over, so that all stop at the same step.
        """
        limit = self.options.max_minutes
        late = self.world.is_first and limit is not None and self.records.minutes() > limit
        *sums, self.late = self.world.sum([*losses.tolist(), float(late)])
        losses.copy_(torch.tensor(sums, dtype=losses.dtype))
        for architecture, loss in zip(architectures, losses.tolist(), strict=True):
            if not math.isfinite(loss):
                raise not_finite(f"the loss became {loss}", self.step, phase, [architecture])

    # -- the end of an epoch ----------------------------------------------------------------------------------------

    def _end_epoch(self, phase: Phase, epoch: int) -> None:
        """Validate where the phase says so, keep the best weights, and write the line of the epoch."""
        line: dict[str, Any] = {"train_loss": self.loss_sum / max(1, self.loss_count)}
        self.loss_sum, self.loss_count = 0.0, 0
        if epoch + 1 == phase.total_epochs or (epoch + 1) % phase.validate_every == 0:
            scores = self.validator.validate(self.supernet, phase)
            metric = self.task.metric
            mean = sum(score[metric] for score in scores.values()) / len(scores)
            line |= {"validation": scores, "mean": mean}
            if is_best(mean, self.best, self.task.higher_is_better):
                self.best = mean
                self._save_weights(phase, "best", {"epoch": epoch + 1, "mean": mean, "metric": metric})
        self.records.end_epoch(self.index, epoch, self.total_steps, line, self.task.metric)

    # -- saving -----------------------------------------------------------------------------------------------------

    def _end(self, phase: Phase) -> None:
        self._save_weights(phase, "last", {"epoch": phase.total_epochs})
        assert self.optimizer is not None
        self.ledger.note(optimizer_bytes=self.optimizer.state_bytes())
        if phase.stop_rule is not None:
            self._judge(phase)
        self.ledger.end_phase()
        self.records.end_phase(self.ledger.entries)

    # -- stopping ---------------------------------------------------------------------------------------------------

    def _judge(self, phase: Phase) -> None:
        """Follow the verdicts on a phase; where it is left out, the run goes on from the weights before it."""
        self._load_weights(phase, "best")
        for verdict in verdicts_on(self.supernet, self.phases, self.index, self.validator):
            self._follow(verdict)
        if phase not in self.phases:
            before = self.phases[self.index - 1]
            self.supernet = load_network(self._weights(before, "best"), type(self.supernet))
            self.optimizer, self.index = None, self.index - 1

    def _follow(self, verdict: dict[str, Any]) -> None:
        self.verdicts.append(verdict)
        self.phases = apply_verdict(self.phases, verdict)
        work = expected_work(self.whole, self.phases, self.data.count("train"))
        self.records.replan(self.phases, work, self.verdicts)

    def _weights(self, phase: Phase, which: str) -> Path:
        return self.folder / "checkpoints" / f"{self.phases.index(phase) + 1}-{phase.name}-{which}.safetensors"

    def _load_weights(self, phase: Phase, which: str) -> None:
        load_into(self.supernet, self._weights(phase, which))
        self.supernet.to(self.world.device, self.dtype)

    def _save_weights(self, phase: Phase, which: str, info: dict[str, Any]) -> None:
        with self.ledger.time("checkpoint"):
            if self.world.is_first:
                info = {"phase": phase.name, "which": which, "classes": list(self.data.classes), **info}
                info |= {"preparation": self.data.preparation.to_dict()}
                save_network(self.supernet, self._weights(phase, which), info)
            self.world.wait()  # nobody reads the file before it is written

    def _save_state(self) -> None:
        """Write all that the next step depends on."""
        assert self.optimizer is not None
        if not self.world.is_first:
            return
        with self.ledger.time("checkpoint"):
            state = {name: getattr(self, name) for name in ("index", "verdicts", *POSITION)}
            state |= {"network": self.supernet.state_dict(), "optimizer": self.optimizer.state()}
            state["ledger"] = self.ledger.entries
            write_state(self.folder / "checkpoints", state)

    def _read_state(self) -> dict[str, Any] | None:
        """The state to go on from; None where the run ended before its first one."""
        state, notice = read_state(self.folder / "checkpoints")
        if notice:
            self.records.say(notice)
        self.records.rewind(-1 if state is None else state["total_steps"])
        return state
