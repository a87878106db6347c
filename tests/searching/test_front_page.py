"""The page asks the network for nothing and carries other people's text as text."""

import json
import re

import pytest

pytest.importorskip("plotly")

from onceforall.searching.front_page import front_page

ROWS = [
    {"accuracy": 0.9, "macs": 2e6, "accuracy_predicted": 0.88, "accuracy_deviation": 0.01, "measured": True}
    | {"text": "r32 | <b>k3</b>", "digest": "aa", "front": True, "export": "onceforall export '</script>' x.json"},
    {"accuracy": 0.8, "macs": 3e6, "accuracy_predicted": None, "accuracy_deviation": None, "measured": True}
    | {"text": "r32 | k5", "digest": "bb", "front": False, "export": "onceforall export run y.json"},
]


def page_data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_each_network_has_its_numbers_and_its_command():
    page = front_page(ROWS, "macs", "accuracy", "accuracy", "A & B")
    others, front = page_data(page)["traces"]
    assert front["x"] == [2e6] and front["y"] == [0.9] and others["x"] == [3e6]
    assert front["customdata"] == ["onceforall export '</script>' x.json"]
    assert "accuracy predicted 0.88 ± 0.01" in front["text"][0] and "predicted" not in others["text"][0]
    assert "&lt;b&gt;k3&lt;/b&gt;" in front["text"][0] and "macs 2M" in front["text"][0] and "A &amp; B" in page


def test_nothing_is_fetched():
    page = front_page(ROWS, "macs", "accuracy", "accuracy", "")
    assert "default-src 'none'" in page and not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
