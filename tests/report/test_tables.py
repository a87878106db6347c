"""CSV is read back by the csv module; Markdown has as many cells as its head."""

import csv
import io

from onceforall.report.page import Table
from onceforall.report.tables import csv_text, markdown_table


def test_csv():
    rows = [{"name": 'a "quoted", one', "value": 0.5}, {"name": "b", "value": ""}]
    text = csv_text(rows)
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"name": 'a "quoted", one', "value": "0.5"},
        {"name": "b", "value": ""},
    ]
    assert text.endswith("b,\n")


def test_markdown():
    text = markdown_table(Table(["name", "value"], [["a|b", ("50 %", 0.5)]], "Caption"))
    assert text.splitlines() == ["**Caption**", "", "| name | value |", "|---|---|", "| a\\|b | 50 % |"]
