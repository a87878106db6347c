"""`compare.py` on a small repository of its own, whose "losses" are read from the package's source."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("golden_compare", Path(__file__).with_name("compare.py"))
compare = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(compare)

RUNS = """
import json, sys, onceforall
with open(sys.argv[sys.argv.index("--out") + 1], "w") as file:
    json.dump({"sandwich": [2.0, onceforall.LOSS]}, file)
"""


def git(repository, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.check_output(["git", "-C", str(repository), *identity, *arguments], text=True).strip()


@pytest.fixture
def repository(tmp_path):
    """Two commits: the second changes a comment, and the working tree changes a loss."""
    root = tmp_path.resolve() / "repository"
    source, runs = root / "src/onceforall/__init__.py", root / "tests/golden/runs.py"
    for path in (source, runs):
        path.parent.mkdir(parents=True)
    runs.write_text(RUNS)
    source.write_text("LOSS = 1.5\n")
    git(tmp_path, "init", "--quiet", str(root))
    for text in ("LOSS = 1.5\n", "LOSS = 1.5  # a comment\n"):
        source.write_text(text)
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", "change")
    source.write_text("LOSS = 1.25\n")
    return root


def test_two_commits_with_equal_losses(repository, capfd):
    assert compare.main(["HEAD~1", "HEAD"], repository) == 0
    assert "nothing differs" in capfd.readouterr().out
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_changed_loss_in_the_working_tree(repository, capfd):
    assert compare.main(["HEAD"], repository) == 1
    assert ["sandwich", "0.25", "DIFFERS"] in [line.split() for line in capfd.readouterr().out.splitlines()]
    assert compare.main(["HEAD", "--tolerance", "0.3"], repository) == 0


def test_the_worktree_is_removed_after_a_failure(repository):
    (repository / "tests/golden/runs.py").write_text("raise SystemExit(3)")
    git(repository, "commit", "--quiet", "--all", "--message", "broken")
    with pytest.raises(subprocess.CalledProcessError):
        compare.main(["HEAD"], repository)
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    ("base", "head", "verdict", "same"),
    [
        ({"a": [1.0]}, {"a": [1.0]}, "same", True),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, "DIFFERS", False),
        ({"a": [1.0]}, {"a": [float("nan")]}, "DIFFERS", False),
        ({"a": [float("nan")]}, {"a": [float("nan")]}, "same", True),
        ({"a": [float("inf")]}, {"a": [float("inf")]}, "same", True),
        ({"a": [1.0]}, {}, "gone", False),
        ({}, {"a": [1.0]}, "new", False),
    ],
)
def test_verdicts(base, head, verdict, same):
    rows, found = compare.compare(base, head, tolerance=0.0)
    assert [row[2] for row in rows] == [verdict]
    assert found is same
