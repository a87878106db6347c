"""The rule by which a growing schedule ends early, as a value; `stopping` carries it out."""

from dataclasses import dataclass
from typing import Literal, final

from onceforall.architecture import is_whole
from onceforall.errors import UserError, check_choice

__all__ = ["StopRule"]


@final
@dataclass(frozen=True)
class StopRule:
    """What is asked of a phase that opens larger choices, and what follows where it fails.

    Args:
        action: "stop" ends the run, "skip" goes on without these choices and without larger ones of their factor; both
            from the weights before the phase. "continue" only reports.
        min_gain: mean gain of the validation metric that the newest choices must bring, in the metric's unit; a
            smaller log loss counts as a gain.
        pairs: pairs of networks that are compared, the largest and random ones.
        max_seconds: most seconds of the whole run. Before a phase its expected time is added; where that is too much
            it does not begin, and `action` follows.
        max_macs: the same for multiply-adds of students and teachers.
        max_memory: the same for the bytes of parameters, gradients, the optimiser's state and what is kept for the
            backward pass of a step, of one phase.
    """

    action: Literal["stop", "skip", "continue"] = "stop"
    min_gain: float = 0.0
    pairs: int = 8
    max_seconds: float | None = None
    max_macs: float | None = None
    max_memory: float | None = None

    def __post_init__(self) -> None:
        check_choice("action of a stop rule", self.action, ("stop", "skip", "continue"))
        if isinstance(self.min_gain, bool) or not isinstance(self.min_gain, int | float):
            raise UserError(f"min_gain {self.min_gain!r} of a stop rule: must be a number, such as 0.002.")
        if not is_whole(self.pairs) or self.pairs < 2:
            raise UserError(f"pairs {self.pairs!r} of a stop rule: must be a whole number of at least 2.")
        for name in ("max_seconds", "max_macs", "max_memory"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
                raise UserError(f"{name} {value!r} of a stop rule: must be a positive number, or none.")
