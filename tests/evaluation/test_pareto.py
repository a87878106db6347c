"""Oracles: the definition of dominance by brute force, a picture's own artists read back, files on disk."""

import errno
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from onceforall.errors import UserError
from onceforall.evaluation import pareto
from onceforall.evaluation.pareto import pareto_front, plot_front

ROWS: list[dict[str, Any]] = [
    {"macs": 2e6, "accuracy": 0.94, "accuracy_low": 0.91, "accuracy_high": 0.96},
    {"macs": 5e6, "accuracy": 0.93, "accuracy_low": 0.90, "accuracy_high": 0.95},
    {"macs": 6e6, "accuracy": 0.97, "accuracy_low": 0.95, "accuracy_high": 0.98},
    {"macs": 11e6, "accuracy": 0.98, "accuracy_low": 0.96, "accuracy_high": 0.99},
]


def undominated(points: list[tuple[float, float]]) -> set[int]:
    """The definition, word by word."""

    def dominates(p: tuple[float, float], q: tuple[float, float]) -> bool:
        return p[0] <= q[0] and p[1] >= q[1] and (p[0] < q[0] or p[1] > q[1])

    return {i for i, q in enumerate(points) if not any(dominates(p, q) for p in points)}


@pytest.mark.parametrize("seed", range(30))
def test_front_is_what_nothing_dominates(seed: int) -> None:
    rng = random.Random(seed)
    coarse = seed % 2 == 0  # half the cases are full of ties
    points = [
        (rng.randrange(6) if coarse else rng.random(), rng.randrange(6) if coarse else rng.random()) for _ in range(25)
    ]
    front = pareto_front(points)
    assert set(front) == undominated(points)
    assert len(front) == len(set(front))
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1, 1)], [0]),
        ([(1, 0.5), (1, 0.5)], [0, 1]),  # twins: both
        ([(1, 0.5), (1, 0.6)], [1]),  # equal cost: the best
        ([(2, 0.5), (1, 0.5)], [1]),  # equal quality: the cheapest
        ([(3, 0.9), (2, 0.8), (1, 0.7)], [2, 1, 0]),  # by rising cost
        ([(1, 0.9), (2, 0.8), (2, 0.8)], [0]),  # dominated twins: neither
        ([(1, float("-inf")), (2, 0.1)], [0, 1]),
    ],
)
def test_ties(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


def test_nan_is_refused() -> None:
    with pytest.raises(UserError, match="point 1"):
        pareto_front([(1, 0.5), (2, float("nan"))])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    original = pareto.save

    def keep(figure: Figure, path: Path) -> tuple[Path, Path]:
        figures.append(figure)
        return original(figure, path)

    monkeypatch.setattr(pareto, "save", keep)
    return figures


def test_picture_shows_the_rows(tmp_path: Path, drawn: list[Figure]) -> None:
    png, svg = plot_front(ROWS, tmp_path / "new" / "front.png", title="Digits")
    assert (png, svg) == (tmp_path / "new" / "front.png", tmp_path / "new" / "front.svg")
    with Image.open(png) as image:
        image.load()
        assert image.size[0] > 1000
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert sorted(p.name for p in png.parent.iterdir()) == ["front.png", "front.svg"]  # nothing half-made

    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Multiply-adds (million MACs)", "Accuracy (%)")
    lines = {str(line.get_label()): line for line in axes.lines}
    front = lines["Pareto front (3)"]
    np.testing.assert_allclose(front.get_xydata(), [[2, 94], [6, 97], [11, 98]])  # pyright: ignore
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["Pareto front (3)", "sub-networks off the front (1)", "95 % interval"]
    names = {text.get_text(): tuple(text.xy) for text in axes.texts}  # pyright: ignore[reportAttributeAccessIssue]
    assert names["smallest"] == pytest.approx((2, 94))
    assert names["largest"] == pytest.approx((11, 98))
    assert axes.get_title(loc="left") == "Digits"
    assert axes.get_xscale() == "linear"


def test_interval_bars_span_the_interval(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_front([*ROWS, {"macs": 8e6, "accuracy": 0.975}], tmp_path / "front")  # the last has none
    bars = [c for c in drawn[0].axes[0].collections if type(c).__name__ == "LineCollection"]
    ends = sorted(tuple(segment[:, 1]) for bar in bars for segment in bar.get_segments())  # pyright: ignore
    np.testing.assert_allclose(ends, [(90, 95), (91, 96), (95, 98), (96, 99)])
    plot_front([{"macs": np.int64(1), "accuracy": np.float32(0.5)}], tmp_path / "bare")
    assert not drawn[1].axes[0].collections


def test_log_loss_front_goes_down(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [{"params": 1e3, "log_loss": 0.5}, {"params": 2e3, "log_loss": 0.6}, {"params": 90e3, "log_loss": 0.4}]
    plot_front(rows, tmp_path / "front", x="params", y="log_loss")
    plot_front(rows, tmp_path / "front", x="params", y="log_loss", higher_is_better=True)
    axes = drawn[0].axes[0]
    assert "Pareto front (2)" in {line.get_label() for line in axes.lines}
    assert "lower is better" in axes.get_ylabel()
    assert axes.get_xlabel() == "Parameters (thousand)"
    assert axes.get_xscale() == "log"  # a spread of 90
    front = next(line for line in drawn[1].axes[0].lines if str(line.get_label()).startswith("Pareto"))
    assert list(front.get_ydata()) == [0.5, 0.6]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "files"), [("a", "a"), ("a.svg", "a"), ("a.PNG", "a"), ("width1.5", "width1.5"), ("b.json", "b.json")]
)
def test_names_of_the_pair(tmp_path: Path, name: str, files: str) -> None:
    assert plot_front(ROWS[:1], tmp_path / name) == (tmp_path / f"{files}.png", tmp_path / f"{files}.svg")


def test_a_failed_save_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png, _ = plot_front(ROWS, tmp_path / "front")
    before = png.read_bytes()

    def disk_full(self: Figure, file: IO[bytes], **_: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", disk_full)
    with pytest.raises(UserError, match="the disk is full"):
        plot_front(ROWS[:1], tmp_path / "front")
    assert png.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["front.png", "front.svg"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no rows"),
        ([{"macs": 1, "acuracy": 0.5}], "row 0 has no 'accuracy'; .* Did you mean 'acuracy'"),
        ([{"macs": 1, "accuracy": 0.5}, {"macs": 1, "accuracy": float("nan")}], "row 1 has accuracy = nan"),
        ([{"macs": "1", "accuracy": 0.5}], "row 0 has macs = '1'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plot_front(rows, tmp_path / "front")
    assert not list(tmp_path.iterdir())


def test_missing_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"onceforall\[report\]"):
        plot_front(ROWS, tmp_path / "front")


def test_no_pyplot_and_nothing_heavy_at_import(tmp_path: Path) -> None:
    source = Path(pareto.__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(source)!r})\n"
        "from onceforall.evaluation import environment, latency, metrics, pareto\n"
        "loaded = {'torch', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        f"pareto.plot_front([{{'macs': 1, 'accuracy': 0.5}}], {str(tmp_path / 'x')!r})\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
