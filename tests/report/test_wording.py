import pytest

from onceforall.report.wording import (
    escaped,
    inputs_of,
    sentence,
    show,
    show_architecture,
    show_choices,
    show_duration,
    show_items,
    show_number,
    show_range,
    show_size,
    words,
)
from report_runs import SPACE


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (escaped("<b>&'"), "&lt;b&gt;&amp;'"),
        (escaped("abcdefghij", 4), "ab…ij"),
        (escaped("abcd", 4), "abcd"),
        (words("macro_f1"), "macro F1"),
        (words("learning_rate"), "learning rate"),
        (words("dice_whole_tumour"), "Dice whole_tumour"),
        (words("soft_dice"), "soft Dice"),
        (sentence("validation Dice"), "Validation Dice"),
        (inputs_of({"data": {"voxels_per_class": {}}}), "volumes"),
        (inputs_of({"data": {"counts_per_class": {}}}), "images"),
        (show_number("sensitivity", 0.12345), "12.35 %"),
        (show_number("latency_ms", 1.23456), "1.235"),
        (show_number("accuracy", None), "–"),
        (show_range("accuracy", 0.5, 0.75), "50.0–75.0"),
        (show_range("auc", 0.5, 0.75), "0.5–0.75"),
        (show_size(999_999), "999,999"),
        (show_size(2 * 10**19), "2 × 10¹⁹"),
        (show_duration(59.94), "59.9 s"),
        (show_duration(61), "1 min 1 s"),
        (show_duration(3600), "1 h 0 min"),
        (show_choices([3, 0.5]), "3, 0.5"),
        (show_choices([("conv", "pool"), ("conv",)]), "conv+pool, conv"),
        (show([True, None, 1e-5, "x"]), "yes, –, 1e-05, x"),
        (show([]), "–"),
        (show_items({"batch_size": 8, "seed": None, "crop": {"ratio": 0.5}}), "batch size 8; crop ratio 0.5"),
        (show_items("whole"), "whole"),
        (show_architecture({"architecture": SPACE.largest().to_dict()}), str(SPACE.largest())),
    ],
)
def test_words_and_numbers(shown, expected):
    assert shown == expected
