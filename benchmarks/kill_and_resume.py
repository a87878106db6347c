"""Does a run that is killed at random moments and resumed each time end exactly like one that was left alone?

    python benchmarks/kill_and_resume.py --kills 10

A short run of `digits-ps` (all its phases, a state every 3 steps) is trained in a process of its own. Every second kill
comes at a random moment after training began, every other one as soon as a file of the checkpoints folder is seen half
written. SIGKILL leaves the process no chance to tidy up. After each kill the run is resumed; when it is finished it is
compared with the undisturbed one: weights of every saved network, optimiser and weights of the last state, and the
lines of metrics, bit for bit. If it finishes before all kills were made, another run begins.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import begin, finish, make_parser, say
from safetensors.torch import load_file

from onceforall.recipes import build_data, build_phases, build_supernet, build_task, make_recipe
from onceforall.training.loop import train

RECIPE = (
    "network.width_mult=0.25",
    "network.resolutions=[16,24]",
    "phases.all.batch_size=128",
    "run.calibration_images=64",
    "run.validation_images=64",
    "run.random_validation=0",
    "run.checkpoint_every=3",
    "run.threads=1",
)


def train_here(folder: Path, epochs: int) -> None:
    """Train in this process, from where the folder is."""
    recipe = make_recipe("digits-ps", [*RECIPE, f"schedule.total_epochs={epochs}"])
    data = build_data(recipe)
    supernet = build_supernet(recipe, data)
    phases = build_phases(recipe, supernet)
    say("training")
    train(supernet, phases, build_task(recipe, data), data, run_dir=folder, options=recipe.run, resume=folder.exists())


def start(folder: Path, epochs: int) -> subprocess.Popen[str]:
    """A process that has just begun to train."""
    command = [sys.executable, __file__, "--train", str(folder), "--epochs", str(epochs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def wait(process: subprocess.Popen[str]) -> None:
    """Let a process finish; what it says is shown where it fails."""
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run failed:\n{errors}")


def drafts(folder: Path) -> dict[Path, int]:
    """Files that are being written, with the bytes that they have."""
    found = {}
    for path in (folder / "checkpoints").glob(".*.part"):
        try:
            found[path] = path.stat().st_size
        except FileNotFoundError:  # renamed into its place meanwhile
            continue
    return found


def kill(process: subprocess.Popen[str], folder: Path, moment: float | None) -> str | None:
    """Kill after `moment` seconds, or while a checkpoint is written; what was hit, None where it had finished."""
    begun = time.perf_counter()
    while process.poll() is None:
        aimed = any(drafts(folder).values()) if moment is None else time.perf_counter() - begun >= moment
        if aimed:
            process.kill()
            break
        if moment is not None:
            time.sleep(1e-3)
    process.communicate()
    if process.returncode == 0:
        return None
    left = drafts(folder)
    half_written = ", ".join(f"{path.name.split('.', 1)[1]} at {size} bytes" for path, size in left.items())
    return half_written or "training"


def steps_done(folder: Path) -> int:
    """Steps in the last state."""
    path = folder / "checkpoints/resume.pt"
    return torch.load(path, weights_only=True)["total_steps"] if path.exists() else 0


def equal(one: Any, other: Any) -> bool:
    """Bit for bit, through dictionaries."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def compare(folder: Path, whole: Path) -> dict[str, bool]:
    """What of a finished run is identical to the undisturbed one."""
    networks, states, metrics = [], [], []
    for place in (folder, whole):
        checkpoints = place / "checkpoints"
        networks.append({path.name: load_file(path) for path in sorted(checkpoints.glob("*.safetensors"))})
        states.append(torch.load(checkpoints / "resume.pt", weights_only=True))
        metrics.append((place / "metrics.jsonl").read_bytes())
    same_weights = equal(*networks) and equal(*(state["network"] for state in states))
    same_optimizer = equal(*(state["optimizer"] for state in states))
    return {"weights": same_weights, "optimiser": same_optimizer, "metrics": metrics[0] == metrics[1]}


def main() -> None:
    """Print a line for each kill and, for each finished run, what is identical."""
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=10, help="how often (default 10)")
    parser.add_argument("--epochs", type=int, default=15, help="of the whole schedule (default 15)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--train", type=Path, metavar="FOLDER", help="only train in FOLDER (what is killed)")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    if arguments.train is not None:
        train_here(arguments.train, arguments.epochs)
        return
    report = begin()
    kills, epochs = (2, 5) if arguments.smoke else (arguments.kills, arguments.epochs)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root) / "whole"
        process = start(whole, epochs)
        begun = time.perf_counter()
        wait(process)
        span = time.perf_counter() - begun
        say(f"undisturbed: {steps_done(whole)} steps in {span:.1f} s")
        made: list[dict[str, Any]] = []
        verdicts: list[dict[str, bool]] = []
        while len(made) < kills:
            folder = Path(root) / f"killed-{len(verdicts)}"
            while len(made) < kills:
                moment = rng.uniform(0, span / 4) if len(made) % 2 == 0 else None
                process = start(folder, epochs)
                if moment is None:  # wait a while, so that it is not always the first file
                    time.sleep(rng.uniform(0, span / 4))
                hit = kill(process, folder, moment)
                if hit is None:
                    break
                made.append({"steps": steps_done(folder), "hit": hit})
                say(f"kill {len(made):3}, state of step {made[-1]['steps']:3}, in the middle of {hit}")
            wait(start(folder, epochs))
            verdicts.append(compare(folder, whole))
            say("finished; identical: " + ", ".join(f"{k} {'yes' if v else 'NO'}" for k, v in verdicts[-1].items()))
    same = all(value for verdict in verdicts for value in verdict.values())
    middle = sum(kill["hit"] != "training" for kill in made)
    say(f"\n{len(made)} kills, {middle} of them in the middle of writing; all identical: {'yes' if same else 'NO'}")
    finish(report, {"kills": made, "identical": verdicts}, arguments.out)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
