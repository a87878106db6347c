"""What the benchmarks share: options, timing, and the machine and versions that a number belongs to.

Run by itself it prints the machine.

    python benchmarks/common.py
"""

import argparse
import json
import math
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from onceforall.evaluation.environment import environment


def make_parser(documentation: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write machine, command and numbers as JSON")
    parser.add_argument("--smoke", action="store_true", help="only show that it runs (seconds); numbers mean nothing")
    return parser


def say(text: str = "") -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def begin() -> dict[str, Any]:
    """Print and return what the numbers belong to: date, command, machine, versions."""
    command = shlex.join(["python", *map(_short, sys.argv)])
    report = {"date": date.today().isoformat(), "command": command, "environment": environment()}
    facts = report["environment"]
    say(f"{report['date']}  {command}")
    say(f"{facts['cpu']}, {facts['usable_cores']} cores, {facts['cpu_capability']}, torch on {facts['torch_threads']}")
    say(f"onceforall {facts['onceforall']}, torch {facts['torch']}, Python {facts['python']}, {platform.system()}\n")
    return report


def finish(report: dict[str, Any], numbers: Mapping[str, Any], out: Path | None) -> None:
    """Write the report with its raw numbers where `--out` says."""
    if out is not None:
        out.write_text(json.dumps(report | {"numbers": numbers}, indent=1) + "\n")
        say(f"\nraw numbers: {_short(str(out))}")


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of every call in every round; the calls take turns, so that a slow minute falls on all of them.

    The default clock counts processor time of this process: on one thread that is what a quiet machine would take,
    also while other programs run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = [*calls.items()]
    for number in range(-warmup, rounds):
        for name, call in (*order[number % len(order) :], *order[: number % len(order)]):
            start = clock()
            call()
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median of `above` divided by the median of `below`."""
    return statistics.median(above) / statistics.median(below)


def seconds_per_call(
    call: Callable[[], object], at_least: float, clock: Callable[[], float] = time.process_time
) -> float:
    """Mean seconds of a short call, repeated until `at_least` seconds are over; the best of three such means."""
    call()
    best = math.inf
    for _ in range(3):
        count, start = 0, clock()
        while clock() - start < at_least / 3:
            call()
            count += 1
        best = min(best, (clock() - start) / count)
    return best


def _short(argument: str) -> str:
    """A path as it is relative to here, or its last part; anything else unchanged."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


if __name__ == "__main__":
    arguments = make_parser(__doc__).parse_args()
    finish(begin(), {}, arguments.out)
