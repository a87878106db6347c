"""The documentation is true: every command and every Python block of README, CONTRIBUTING and docs/ runs.

How the fenced blocks of one document are read, from top to bottom, all in one temporary folder that holds copies of
`examples/` and `benchmarks/`, a small folder of pictures `photos/<class>/*.png` and one of volumes `heads`:

- ```bash    each line is a command (`\\` at its end continues it), run by bash; a line that starts with # is a comment.
- ```console only lines that start with "$ " are commands; the others are output, which is not compared.
- ```python  runs in this process; all Python blocks of a document share their names, as in one session.
- any other fence (```text, ```json, ...) is not run.

Commands that install or fetch are not run but checked: the target of `make` is in the Makefile, the extras of
`pip install` are in pyproject.toml, `cd` names a folder that exists or was cloned before (the commands stay in the
temporary folder). "a && b" counts as two commands. "# needs your data" behind a command tells the reader to put a
folder of his own in the place of `photos/`; here the generated one is used. `.venv/bin/` in front of a program is
dropped. What the test adds to a command to make it short stands in `SHORTER`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volume_files import make_volumes

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
TIMEOUT = 900  # seconds for one command

# Start of a command -> what is added to it here so that a long training is short. Keep the commands themselves true.
SHORTER: dict[str, str] = {
    "onceforall train": "--set schedule.total_epochs=6 --set network.width_mult=0.25 --set phases.all.batch_size=16",
    "onceforall train volumes-prox-mr": "--set network.resolutions=[8,12] --set network.poolings=1 "
    "--set network.kernel_sizes=[3] --set data.test_fraction=0.4 --set data.validation_fraction=0.2 "
    "--set run.calibration_images=4 --set schedule.total_epochs=4",
}


class DocumentError(AssertionError):
    """A command or block of a document that does not work, with its place."""


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, language, content) of each fenced block."""
    for match in FENCE.finditer(text):
        yield text.count("\n", 0, match.start()) + 2, match[1], match[2]


def commands(language: str, content: str) -> list[str]:
    """The commands of a bash or console block."""
    lines = content.replace("\\\n", " ").splitlines()
    if language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [command for line in lines for command in re.split(r"\s+&&\s+", line)]


def check_make(words: list[str]) -> None:
    """The targets are in the Makefile."""
    targets = re.findall(r"^([a-z][\w.-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in words:
        assert "=" in word or word.startswith("-") or word in targets, f"the Makefile has no target {word!r}"


def check_pip(words: list[str]) -> None:
    """The extras of this package are in pyproject.toml."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        match = re.fullmatch(r"(?:\.|onceforall(?: @.*)?)\[([\w, -]+)\]", word)
        for extra in match[1].split(",") if match else ():
            assert extra.strip() in extras, f"pyproject.toml has no extra {extra!r}"


def checked_only(command: str, folder: Path) -> bool:
    """Check a command that installs or fetches; False where it is a command to run."""
    words = shlex.split(command, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):  # VARIABLE=value in front
        words = words[1:]
    if words[:2] in (["python", "-m"], ["python3", "-m"]) and words[2:3] in (["pip"], ["venv"]):
        words = words[2:]
    match words:
        case ["make", *rest]:
            check_make(rest)
        case ["pip", "install", *rest]:
            check_pip(rest)
        case ["git", "clone", address, *rest]:
            (folder / (rest or [address.rstrip("/").rpartition("/")[2].removesuffix(".git")])[0]).mkdir()
        case ["cd", target]:
            assert (folder / target).is_dir(), f"there is no folder {target}"
        case ["venv" | "source" | "." | "git", *_]:
            pass
        case _:
            return False
    return True


def run_command(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Run one command in `folder`; raises with its output where it fails."""
    text = re.sub(r"(^|[ ;&|])\.venv/bin/", r"\1", command)
    for start, addition in SHORTER.items():
        if text.startswith(start):
            text = f"{text.partition(' #')[0]} {addition}"
    bash = ["bash", "-e", "-o", "pipefail", "-c", text]
    done = subprocess.run(
        bash, check=False, cwd=folder, env=environment, timeout=TIMEOUT, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}, and said:\n{done.stdout[-4000:]}"


def make_photos(folder: Path) -> None:
    """Two classes that a network can tell apart, 24 pictures each: bright on the left, bright on the right."""
    rng = np.random.default_rng(0)
    for name, columns in (("left", slice(0, 20)), ("right", slice(20, 40))):
        (folder / name).mkdir(parents=True)
        for i in range(24):
            pixels = rng.integers(0, 100, (40, 40, 3), dtype=np.uint8)
            pixels[:, columns] += 120
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")


def run_environment(folder: Path) -> dict[str, str]:
    """The variables of the commands: this interpreter's programs come first, and `onceforall` is this source tree."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    scripts = Path(sys.executable).parent
    if not (scripts / "onceforall").exists():  # run from the source tree, not installed
        start = programs / "onceforall"
        start.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from onceforall.cli import main; main()" "$@"\n')
        start.chmod(0o755)
    path = os.pathsep.join([str(programs), str(scripts), os.environ.get("PATH", "")])
    source = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PATH": path, "PYTHONPATH": source, "MPLBACKEND": "Agg", "COLUMNS": "100"}


def run_document(name: str, text: str, folder: Path) -> int:
    """Run every block of `text` in the current folder; the number of commands and Python blocks.

    Raises `DocumentError` at the first that fails.
    """
    environment = run_environment(folder / "environment")
    names: dict[str, object] = {"__name__": "__main__"}
    count = 0
    for line, language, content in blocks(text):
        if language == "python":
            steps = [content]
        elif language in ("bash", "console"):
            steps = commands(language, content)
        else:
            continue
        for step in steps:
            count += 1
            try:
                if language == "python":
                    exec(compile("\n" * (line - 1) + step, name, "exec"), names)  # empty lines: true line numbers
                elif not checked_only(step, Path.cwd()):
                    run_command(step, Path.cwd(), environment)
            except Exception as error:
                place = f"{name}, block at line {line}: {'Python' if language == 'python' else step}"
                raise DocumentError(f"{place}\n{type(error).__name__}: {error}") from error
    return count


@pytest.fixture
def reader(tmp_path, monkeypatch) -> Path:
    """The folder in which a reader of the documentation types."""
    here = tmp_path / "reader"
    make_photos(here / "photos")
    make_volumes(here / "heads", 10, (12, 12, 12))
    for part in ("examples", "benchmarks"):
        shutil.copytree(ROOT / part, here / part, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(here)
    return tmp_path


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_is_true(name, reader):
    count = run_document(name, (ROOT / name).read_text(), reader)
    assert count or name != "README.md", "README.md shows no command"


def test_readme_is_short_and_shows_both_ways():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150, "README.md: move details to docs/"
    languages = {language for _, language, _ in blocks(text)}
    assert languages & {"bash", "console"}, "README.md shows no command"
    assert "python" in languages, "README.md shows no Python"
    assert "make quickstart" in text
    assert "make test" in text


PLANTED = """# Title
```bash
# a comment
make test ARGS=-x
git clone https://example.org/onceforall.git && cd onceforall
python3 -m venv .venv
pip install -e ".[all,dev]"
printf a > \\
  a.txt
ls photos/left/00.png  # needs your data
```
```console
$ cat a.txt
a
```
```python
x = 1
```
```python
assert x == 1
open("b.txt", "w").close()
```
```text
false
```
```console
$ .venv/bin/python -c 'import onceforall; open("b.txt")'
```
"""


def test_every_kind_of_block_is_read(reader):
    assert run_document("planted.md", PLANTED, reader) == 11


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("bash\nfalse", "exit 1"),
        ("bash\nfalse | true", "exit 1"),
        ("console\n$ cat missing.txt\n", "missing.txt"),
        ("bash\nmake fly", "no target 'fly'"),
        ("bash\npip install -e '.[wings]'", "no extra 'wings'"),
        ("bash\ncd nowhere", "no folder nowhere"),
        ("bash\nonceforall-is-no-such-program", "not found"),
        ("python\n\nx = 1 / 0", "ZeroDivisionError"),
        ("python\nassert False", "AssertionError"),
    ],
)
def test_a_false_document_is_found(block, complaint, reader):
    with pytest.raises(DocumentError, match=complaint) as caught:
        run_document("planted.md", f"first line\n\n```{block}\n```\n", reader)
    assert "planted.md, block at line 4" in str(caught.value)
