"""The examples in the docstrings of `src/` run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.name != "__main__.py" and ">>> " in path.read_text()
)


def run_examples(module) -> tuple[int, str]:
    """Number of examples in `module`, and the report of those that failed."""
    report: list[str] = []
    # IGNORE_EXCEPTION_DETAIL is left out on purpose: what an error says is part of the example.
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(example, out=report.append)
    return runner.summarize(verbose=False).attempted, "".join(report)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what an example writes
    count, report = run_examples(importlib.import_module(name))
    assert count, f"{name}: has '>>> ' in its text, but doctest finds no example: is it in a docstring?"
    assert not report, report


def test_there_are_examples_and_a_wrong_one_fails():
    assert MODULES
    planted = type(doctest)("planted", "A module.\n\n>>> 1 + 1\n3\n")
    count, report = run_examples(planted)
    assert count == 1
    assert "Expected:\n    3\nGot:\n    2" in report
