from onceforall.report.terminal import print_evaluation
from report_runs import SPACE


def test_a_line_for_each_network_with_the_numbers_of_its_task(capsys):
    row = {"name": "largest", "dice": 0.91234, "dice_left": None, "params": 1200, "macs": 5_000_000}
    row |= {"architecture": SPACE.largest().to_dict(), "latency_ms": 1.234}
    print_evaluation({"rows": [row, row | {"name": "smallest"}], "cases": {}}, ("dice", "dice_left"))
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "Dice", "Dice", "left", "params", "macs", "ms", "architecture"]
    assert first.split()[:6] == ["largest", "0.9123", "–", "1.2K", "5M", "1.23"] and first.endswith(
        str(SPACE.largest())
    )
    assert second.startswith("smallest")
