"""Prove that a change altered no result: run 20 steps of every schedule at two commits and compare the losses.

    python tests/golden/compare.py BASE           # BASE against the working tree
    python tests/golden/compare.py BASE HEAD      # two commits

Each side runs its own `tests/golden/runs.py --out FILE` on its own `src/`; FILE then holds one JSON object,
schedule -> list of losses. Both sides use the Python that runs this script. A schedule that exists in BASE only, or
any difference beyond `--tolerance` (default 0: bit for bit), makes the exit status 1.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path("tests/golden/runs.py")

Losses = dict[str, list[float]]


@contextlib.contextmanager
def checked_out(repository: Path, commit: str | None) -> Iterator[Path]:
    """A folder with the files of `commit`, removed afterwards; the working tree itself for None."""
    if commit is None:
        yield repository
        return
    with tempfile.TemporaryDirectory(prefix="onceforall-golden-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(repository), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def losses_of(tree: Path) -> Losses:
    """The losses that the code in `tree` gives."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    where = "import onceforall; print(onceforall.__file__)"
    imported = subprocess.check_output([sys.executable, "-c", where], env=environment, cwd=tree, text=True).strip()
    if not Path(imported).is_relative_to(tree):  # or two equal programs would be compared, and always agree
        raise SystemExit(f"the run for {tree} would import {imported}")
    if not (tree / RUNS).exists():
        raise SystemExit(f"{tree} has no {RUNS}: choose a later commit")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "losses.json"
        subprocess.run([sys.executable, str(RUNS), "--out", str(out)], env=environment, cwd=tree, check=True)
        return json.loads(out.read_text())


def difference(base: list[float], head: list[float]) -> float:
    """The largest absolute difference of two lists; infinite where the lengths or a NaN differ."""
    if len(base) != len(head):
        return float("inf")
    pairs = [(b, h) for b, h in zip(base, head, strict=True) if b != h and not (b != b and h != h)]
    return max((abs(b - h) if b == b and h == h else float("inf") for b, h in pairs), default=0.0)


def compare(base: Losses, head: Losses, tolerance: float) -> tuple[list[tuple[str, str, str]], bool]:
    """Rows (schedule, largest difference, verdict), and whether nothing differs."""
    rows, same = [], True
    for name in sorted(base | head):
        if name not in base:
            rows.append((name, "-", "new"))
            continue
        worst = difference(base[name], head[name]) if name in head else float("inf")
        verdict = "gone" if name not in head else "same" if worst <= tolerance else "DIFFERS"
        rows.append((name, f"{worst:.3g}", verdict))
        same = same and verdict == "same"
    return rows, same and bool(base)


def main(arguments: list[str] | None = None, repository: Path = ROOT) -> int:
    """Print the table; 0 where nothing differs, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="commit to compare with")
    parser.add_argument("head", nargs="?", help="commit to compare; without it, the working tree")
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest difference allowed (default 0)")
    options = parser.parse_args(arguments)
    found = []
    for commit in (options.base, options.head):
        with checked_out(repository, commit) as tree:
            found.append(losses_of(tree))
    rows, same = compare(*found, options.tolerance)
    width = max([len("schedule"), *(len(name) for name, _, _ in rows)])
    print(f"{'schedule':{width}}  {'max difference':>14}  verdict")
    for name, worst, verdict in rows:
        print(f"{name:{width}}  {worst:>14}  {verdict}")
    print("nothing differs" if same else "the losses differ" if rows else "no schedule was run")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
