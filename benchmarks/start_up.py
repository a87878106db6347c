"""Wall time of `import onceforall` and of `onceforall --help`, each in a new process; best of several.

    python benchmarks/start_up.py

The best time is the one that other programs disturbed least. The time of an interpreter that does nothing is given
beside it; the goal, 0.3 s, is for the whole process.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from common import begin, finish, make_parser, say

import onceforall

GOAL = 0.3
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import onceforall": ["-c", "import onceforall"],
    "onceforall --help": ["-m", "onceforall", "--help"],
}


def wall_seconds(command: list[str]) -> float:
    """Seconds from the start of a process to its end."""
    environment = os.environ | {"PYTHONPATH": str(Path(onceforall.__file__).parents[1])}
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each kind (default 5)")
    arguments = parser.parse_args()
    report = begin()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(1 if arguments.smoke else arguments.repeats):
        for name, command in COMMANDS.items():
            seconds[name].append(wall_seconds(command))
    for name, values in seconds.items():
        verdict = "" if name.startswith("python") else "  below 0.3 s" if min(values) < GOAL else "  ABOVE 0.3 s"
        say(f"{name:20} best {min(values):.3f} s  of {' '.join(f'{value:.3f}' for value in values)}{verdict}")
    finish(report, seconds, arguments.out)


if __name__ == "__main__":
    main()
