"""The chart holds the numbers of the tables."""

from PIL import Image

from onceforall.studies.ofav2 import NETWORKS, SHARED, STEPS
from onceforall.studies.ofav2_figure import OURS, PAPER, bar_figures, bar_heights, write_chart
from onceforall.studies.results import read_results


def test_heights_of_the_bars(part):
    heights = bar_heights(read_results(part, STEPS, SHARED), "1.0")
    winner = NETWORKS.index("ee_d_ofa_mbv3")
    assert round(heights["previous_phase", OURS]["EW"][winner], 6) == 50
    assert heights["previous_phase", PAPER]["EW"][winner] == 51.90
    assert heights["fixed", PAPER]["EL"][winner] is None
    assert heights["fixed", OURS]["EW"][NETWORKS.index("se_d_ofa_mbv3")] is None


def test_the_picture_is_a_whole_png(part):
    write_chart(read_results(part, STEPS, SHARED), "1.0", part / "charts" / "chart.png", "a long note " * 30)
    with Image.open(part / "charts" / "chart.png") as image:
        image.load()
        assert image.width > 1000
    assert [path.name for path in (part / "charts").iterdir()] == ["chart.png"]


def test_figures_of_the_page(part):
    fixed, moving = bar_figures(read_results(part, STEPS, SHARED), "1.0")
    assert "fixed teacher" in fixed["caption"] and "progressive teacher" in moving["caption"]
    assert len(fixed["data"]) == 2 * len(STEPS)
    assert {len(bars["y"]) for bars in fixed["data"]} == {len(NETWORKS)}
